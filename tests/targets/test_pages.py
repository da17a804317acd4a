"""Every page by the compilers of machines that are not here: run by hand with

    pip install 'grok_jax[test,cuda12]' (or [tpu]) && pytest -m target tests/targets

What is compiled is kept in TARGET_RESULTS=FOLDER, if the environment names one, and not
compiled again for the same commit; `compile_pages.py` fills it beforehand.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import compile_pages
import pytest

from grok_jax.engine import targets
from grok_jax.settings import SettingError

pytestmark = pytest.mark.target
SCRIPT = Path(compile_pages.__file__)
NONE = (
    *("sorts", "gradient_scatters", "collectives", "host", "asks_of_runs"),
    *("batched_conditionals", "copies"),
)
"""What there is none of: in the training loop or, where `Findings` says so, at all. The
loop stands in one conditional, which asks whether any run is to go on at all."""


def needs(module):
    """Skips where a compiler is not installed."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


cuda = needs("jax_cuda12_plugin")
tpu = needs("libtpu")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(target, *arguments) -> the lines of that command."""
    folder = os.environ.get("TARGET_RESULTS") or tmp_path_factory.mktemp("targets")

    def compile_for(target, *arguments):
        out = Path(folder) / f"{target.replace(':', '_')}.jsonl"
        line = [sys.executable, SCRIPT, f"--target={target}", f"--out={out}"]
        subprocess.run([*line, *arguments], env=_environment(), check=False)
        now = compile_pages.commit()
        return [line for line in compile_pages.lines(out) if line["commit"] == now]

    return compile_for


def _environment():
    """That of a process which knows nothing of this one's devices."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return {**kept, "JAX_PLATFORMS": "cpu"}


def assert_clean(line):
    """Nothing stands in the training loop that does not belong there."""
    assert "error" not in line, line["error"]
    assert line["loops"] == 1
    asks = line["model"] == "committee_flow"  # whose step sizes are each run's own
    none = [name for name in NONE if not (asks and name == "asks_of_runs")]
    assert {name: line[name] for name in none} == dict.fromkeys(none, 0)
    assert (line["doubles"] > 0) == line["x64"]
    assert 1 <= line["at_once"] <= line["runs"]


SPECS = [
    *(f"{page}:smoke" for page in compile_pages.pages()),
    *(f"{page}:paper" for page in compile_pages.PAPER),
]


@cuda
@pytest.mark.parametrize("spec", SPECS)
def test_a_page_compiles_for_a_gpu_and_its_loop_is_clean(spec, compiled):
    page, preset = spec.split(":")
    found = [
        line
        for line in compiled("gpu:h100", spec)
        if (line["page"], line["preset"]) == (page, preset)
    ]
    plan, _ = compile_pages.plan_of(page, preset)
    assert len(found) == len(plan.groups())
    for line in found:
        assert_clean(line)


@tpu
def test_every_kind_of_program_compiles_for_a_tpu_and_its_loop_is_clean(compiled):
    found = compiled("tpu:v5e:2x2", "--kinds", "--parallel=2")
    assert len(found) >= len({*compile_pages.wanted([], kinds=True)})
    for line in found:
        assert_clean(line)
        if line["model"] == "committee_flow":  # whose steps differ
            assert line["run_step"] is None
        else:
            assert line["run_step"] > 0


SCALE = """
import json
from benchmarks import findings, timing
from grok_jax.engine import config, machine, targets
target = targets.parse({target!r})
page = dict(
    task=dict(name="polynomial", input_dim=100, train_size=550),
    model=dict(name="committee_dynamics", width=0),
    optimizer=dict(learning_rate=0.5, rule="lazy"),
)
program = timing.group_program(page, 16 * len(target.devices), target.devices)
machine.set_up_jax(config.resolve(config.make_config(page)).engine)
report = targets.of_group(program, target)
found = findings.findings(program, report.segment)
print(json.dumps([report.segment.slots, report.bytes, found.collectives]))
"""


@tpu
def test_256_chips_take_the_memory_of_4_on_each_and_tell_one_another_nothing():
    said = {}
    for shape in ("2x2", "16x16"):
        code = SCALE.format(target=f"tpu:v5e:{shape}")
        out = subprocess.check_output(
            [sys.executable, "-c", code],
            env=_environment(),
            text=True,
            cwd=compile_pages.ROOT,
        )
        slots, size, collectives = json.loads(out.splitlines()[-1])
        assert slots == 16 and collectives == 0
        said[shape] = size
    assert said["16x16"] == pytest.approx(said["2x2"], rel=0.01)


@tpu
@pytest.mark.parametrize("shape", ["3x3", "1x1", "99x99"])
def test_a_topology_that_the_compiler_refuses_is_a_sentence(shape):
    with pytest.raises(SettingError, match=f"--target=tpu:v5e:{shape} is refused: "):
        targets.parse(f"tpu:v5e:{shape}")


@cuda
@pytest.mark.parametrize("chip", targets.GPUS)
def test_every_card_that_is_described_is_known_to_the_compiler(chip):
    target = targets.parse(f"gpu:{chip}:2")
    assert [d.device_kind for d in target.devices] == [targets.GPUS[chip].name] * 2


@tpu
@pytest.mark.parametrize("chip", targets.TPUS)
def test_every_generation_of_tpus_that_is_named_has_a_compiler(chip):
    target = targets.parse(f"tpu:{chip}:{'2x2x1' if chip == 'v5p' else '2x2'}")
    assert len(target.devices) == 4
