"""Machines that are not here: what is refused, without any compiler but the CPU's.
What the compilers themselves say is in tests/targets/."""

import functools
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import findings
from grok_jax import launch, sweep
from grok_jax.engine import dry_run, memory, planning, stand_ins, targets
from grok_jax.settings import SettingError

K3 = Path(__file__).parents[1] / "experiments" / "lazy_to_rich" / "k3_laziness.py"
HERE = targets.Target("here", tuple(jax.local_devices()), 2**34)
"""A target whose compiler every test has: this machine, as if it were far."""


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("gpu:h9000", "does not name a known chip; gpu has a100, h100, h200, b200"),
        ("tpu:v9:2x2", "does not name a known chip; tpu has v5e, v5p, v6e"),
        ("cpu", "neither tpu:CHIP:TOPOLOGY nor gpu:CHIP[:COUNT]"),
        ("", "neither tpu:CHIP:TOPOLOGY nor gpu:CHIP[:COUNT]"),
        ("tpu:v5e", "needs the topology of its chips: tpu:v5e:2x2, for example"),
        ("tpu:v5p:4", "needs the topology of its chips: tpu:v5p:2x2x1, for example"),
        ("tpu:v5e:0x4", "needs the topology of its chips"),
        ("gpu:h100:0", "'0' is not a number of GPUs"),
        ("gpu:h100:2x2", "'2x2' is not a number of GPUs"),
        ("gpu:h100", "the compiler for CUDA: pip install 'grok_jax[cuda12]'"),
        ("tpu:v5e:2x2", "the compiler for TPUs: pip install 'grok_jax[tpu]'"),
    ],
)
def test_a_target_that_cannot_be_is_a_sentence(
    target, said, nothing_installed, tmp_path, capsys
):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}"]
    more = ["--dry_run", f"--target={target}"]
    assert launch.main(["launch", *line, *more]) == launch.WRONG_USAGE
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_target_without_a_dry_run_is_a_sentence(tmp_path, capsys):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}"]
    assert launch.main(["launch", *line, "--target=gpu:h100"]) == launch.WRONG_USAGE
    assert "--target goes with --dry_run" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_compiler_refuses_is_said_in_its_words(monkeypatch):
    def refuse(**_):
        raise RuntimeError("no such shape.\nand more")

    monkeypatch.setattr(targets.topologies, "get_topology_desc", refuse)
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(SettingError) as refused:
        targets.parse("gpu:h100:3")
    assert str(refused.value) == "--target=gpu:h100:3 is refused: no such shape."


# --- any swept function --------------------------------------------------------------


def large(run):
    wide = jnp.sin(jnp.outer(run["x"], run["x"]))
    return jnp.sum(jnp.linalg.matrix_power(wide, 3), axis=0) * run["scale"]


def inputs(count):
    x = jax.ShapeDtypeStruct((count, 50), np.float32)
    return {"x": x, "scale": jax.ShapeDtypeStruct((count,), np.float32)}


def test_a_function_is_compiled_for_shapes_alone_and_for_all_runs_at_once():
    report = targets.of_function(large, inputs(12), HERE)
    size = len(HERE.devices)
    assert (report.runs, report.at_once, report.slots) == (12, 12, 12 // size)
    assert report.bytes.arguments >= 12 // size * 51 * 4
    assert report.bytes.outputs == 12 // size * 50 * 4
    assert report.program.census()["product"] == 2
    assert report.doubles == 0 and report.seconds > 0


def test_where_not_all_runs_fit_fewer_do():
    whole = targets.of_function(large, inputs(64), HERE)
    budget = whole.bytes.total // 3
    part = targets.of_function(large, inputs(64), HERE, memory_budget=budget)
    assert part.runs == 64 and 2 <= part.at_once <= 64 // 3
    assert budget / 2 < part.bytes.total <= budget
    with pytest.raises(SettingError, match=r"One run needs .* GiB on each device of h"):
        targets.of_function(large, inputs(64), HERE, memory_budget=100)


class _Refusing:
    """What is lowered for a compiler that runs out of memory above some slots."""

    def __init__(self, lowered, refuses):
        self._lowered, self._refuses = lowered, refuses

    def compile(self):
        if self._refuses:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much")
        return self._lowered.compile()

    def as_text(self):
        return self._lowered.as_text()


def test_where_the_compiler_itself_runs_out_of_memory_the_runs_are_halved():
    target = HERE._replace(devices=HERE.devices[:1])
    batched = sweep.batch(
        lambda _, run, carry: (carry, large(run)), mode="vmap", devices=target.devices
    )
    asked = []

    def lower(place):
        asked.append(place.slots)
        runs = place.placed_shapes(inputs(16))
        lowered = batched.lower((), runs, (), place.count_shapes())
        return _Refusing(lowered, place.slots > 5), runs

    report = targets._report(lower, 16, target, None)
    assert asked == [16, 8, 4] and report.at_once == 4

    def never(place):
        return _Refusing(lower(place)[0], True), ()

    with pytest.raises(SettingError, match="One run needs more GiB"):
        targets._report(never, 2, target, None)


def test_double_precision_is_told_from_the_program_before_it_is_compiled():
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((4, 3), np.float64)
        assert targets.of_function(jnp.sin, x, HERE).doubles > 0


# --- a page --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(resolved):
    plan = resolved(dict(sweep=dict(seed=(0, 1, 2)), seeds=dict(data=0, split=0))).plan
    (own,) = plan.groups()
    return stand_ins.program_of(own, HERE.devices)


def test_a_groups_report_has_its_programs_and_its_training_loop(group):
    report = targets.of_group(group, HERE)
    assert report.initial.at_once == report.segment.at_once == 3
    assert report.step is None and report.run_step is None  # a CPU tells no time
    assert report.bytes >= memory.size_of(group.data_shapes())
    assert report.seconds == report.initial.seconds + report.segment.seconds
    found = findings.findings(group, report.segment)
    assert found.loops == 1 and found.products >= 2
    assert found.collectives == found.host == found.doubles == 0


def test_time_is_that_of_one_step_alone_where_the_compiler_reckons(group):
    lower = functools.partial(group.lowered_step, "vmap", "in turns")
    step = targets._report(lower, 3, HERE, None)
    report = targets.of_group(group, HERE)._replace(step=step._replace(at_best=6.0))
    assert report.run_step == 2.0
    assert report.steps_alone(7, 10) == 3 * 10 * 6.0  # three chunks of at most 3 runs
    assert step.program.census()["product"] < report.segment.program.census()["product"]


def test_an_operation_without_an_estimate_leaves_the_whole_without_one(group):
    report = targets.of_group(group, HERE)
    step = report.segment._replace(at_best=2e-6 - 3)  # three operations without
    report = report._replace(step=step)
    assert report.run_step is None and report.steps_alone(7, 10) is None


@pytest.mark.parametrize("name", ["committee_dynamics", "committee_flow"])
def test_a_step_is_timed_only_where_every_step_costs_the_same(
    resolved, monkeypatch, name
):
    plan = resolved(dict(model=dict(name=name))).plan
    program = stand_ins.program_of(plan.groups()[0], HERE.devices[:1])
    whole = targets._report

    def reckons(*arguments):
        return whole(*arguments)._replace(at_best=1.0)

    monkeypatch.setattr(targets, "_report", reckons)
    target = HERE._replace(devices=HERE.devices[:1])
    step = targets.of_group(program, target).step
    assert (step is None) == (name == "committee_flow")


def test_nothing_is_made_of_what_is_only_lowered(group):
    place = sweep.layout(3, HERE.devices)
    for lower in (group.lowered_initial, group.lowered_segment, group.lowered_step):
        _, arguments = lower("vmap", group.order("vmap", place), place)
        leaves = jax.tree.leaves(arguments)
        assert leaves and all(isinstance(a, jax.ShapeDtypeStruct) for a in leaves)
    assert isinstance(place.count_shapes(), jax.ShapeDtypeStruct)
    counts = place.counts()
    assert counts.shape == place.count_shapes().shape
    assert counts.sharding == place.count_shapes().sharding


@pytest.mark.parametrize("at_best", [None, 3e-6])
def test_a_dry_run_for_a_target_prints_a_line_for_each_group(
    at_best, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(dry_run, "target_of", lambda _: HERE)
    of_group = targets.of_group

    def timed(program, target, **more):
        report = of_group(program, target, **more)
        return report._replace(step=report.segment._replace(at_best=at_best))

    monkeypatch.setattr(targets, "of_group", timed)
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run"]
    assert launch.main(["launch", *line]) == launch.DONE
    said = capsys.readouterr().out
    assert "Compiled for here, not run." in said
    assert ("gives no time estimate" in said) == (at_best is None)
    assert ("At least" in said) == (at_best is not None)
    assert "MiB" in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("platform", "said"), [("tpu", 1), ("gpu", 0)])
def test_what_float64_means_on_a_tpu_is_said(platform, said, group, monkeypatch):
    report = targets.of_group(group, HERE)
    report = report._replace(segment=report.segment._replace(doubles=3))
    monkeypatch.setattr(targets, "of_group", lambda *_, **__: report)
    far = HERE._replace(devices=(SimpleNamespace(platform=platform),))
    monkeypatch.setattr(dry_run.stand_ins, "program_of", lambda *_: group)
    console = Console(record=True, width=200)
    plan = SimpleNamespace(groups=lambda: [group.group])
    dry_run.show(console, plan, planning.Engine(), far)
    assert console.export_text().count("a TPU has no unit") == said


def test_a_program_that_the_compiler_refuses_is_a_line_of_the_table(
    tmp_path, capsys, monkeypatch
):
    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no sorts.\nand more")

    monkeypatch.setattr(dry_run, "target_of", lambda _: HERE)
    monkeypatch.setattr(targets, "of_group", refuse)
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run"]
    assert launch.main(["launch", *line]) == launch.DONE
    said = capsys.readouterr().out
    assert "Group 1 does not compile: UNIMPLEMENTED: no sorts." in said
    assert "and more" not in said


def test_without_a_target_there_is_none():
    assert dry_run.target_of(SimpleNamespace(target=None, dry_run=True)) is None
