"""What a sweep takes: against what it took, against counts by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from grok_jax import build, config, launch, planning, programs, runner, sweep
from grok_jax.settings import SettingError

DEVICES = tuple(jax.local_devices()[:2])
TINY = dict(
    task=dict(name="teacher_student", train_size=20, test_size=10),
    model=dict(name="mlp", width=16, outputs=5, activation="tanh"),
    optimizer=dict(name="adamw", learning_rate=1e-3),
    sweep=dict(seed=tuple(range(12))),
    train=dict(steps=6, records=3),
)
K3 = Path(__file__).parents[1] / "experiments" / "lazy_to_rich" / "k3_laziness.py"


@pytest.fixture
def program(resolved):
    plan = resolved(TINY).plan
    return programs.GroupProgram(plan, plan.groups()[0], DEVICES)


def engine(size, **more):
    return planning.Engine(devices=DEVICES, memory_gb=size / planning.GIB, **more)


# --- what fits -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_grid_larger_than_memory_is_cut_into_chunks_that_fit(program, mode):
    whole = planning.needed(program, mode, sweep.layout(12, DEVICES))
    assert planning.choose(program, engine(whole, mode=mode)) == (mode, 12)
    _, chunk = planning.choose(program, engine(whole - 1, mode=mode))
    assert 2 <= chunk <= 10
    assert planning.needed(program, mode, sweep.layout(chunk, DEVICES)) < whole
    budget = planning.needed(program, mode, sweep.layout(6, DEVICES))
    _, chunk = planning.choose(program, engine(1.01 * budget, mode=mode))
    assert chunk == 6


def test_what_was_cut_into_chunks_has_the_same_bits(resolved, program):
    plan = resolved(TINY).plan
    budget = planning.needed(program, "map", sweep.layout(4, DEVICES))
    results = [
        runner.Sweeper(plan, own, say=lambda _: None).run()
        for own in (planning.Engine(mode="map"), engine(1.01 * budget, mode="map"))
    ]
    for name in results[0].variables:
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_auto_does_not_try_what_does_not_fit(resolved):
    """Under vmap the activations of all runs are there at once."""
    rates = tuple(0.001 * n for n in range(1, 13))
    layer = dict(task=dict(train_size=500), sweep={"seed": 0, "learning_rate": rates})
    plan = resolved(TINY, layer).plan
    program = programs.GroupProgram(plan, plan.groups()[0], DEVICES)
    by_map, by_vmap = (
        planning.needed(program, mode, sweep.layout(12, DEVICES))
        for mode in ("map", "vmap")
    )
    assert by_map < by_vmap
    assert planning.choose(program, engine(by_map)) == ("map", 12)


def test_one_run_too_large_is_a_sentence_that_says_how_large(program):
    least = planning.needed(program, "map", sweep.layout(2, DEVICES))
    with pytest.raises(SettingError) as error:
        planning.choose(program, engine(least / 2, mode="map"))
    size = f"{least / planning.GIB:.3g} GiB on each device"
    assert f"One run needs {size}, and there are" in str(error.value)
    assert "engine.memory_gb" in str(error.value)


def test_a_launch_that_cannot_fit_ends_with_that_sentence(tmp_path, capsys):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}"]
    small = ["--config.engine.memory_gb=1e-6", "--config.engine.mode=map"]
    assert launch.main(["launch", *line, *small]) == launch.WRONG_USAGE
    assert "grok_jax: One run needs " in capsys.readouterr().err


def test_each_device_holds_the_data_of_its_own_runs_alone(resolved):
    """12 seeds on two devices: six sets on each; in chunks of four, two."""
    plan = resolved(TINY).plan
    program = programs.GroupProgram(plan, plan.groups()[0], DEVICES)
    for capacity, room in ((12, 6), (4, 2)):
        chunk = programs.Chunk(program, np.arange(4), capacity)
        (data, _), runs, *_ = chunk.arguments(
            programs.make_pieces(program.steps, 0, 0, 1)
        )
        for leaf in jax.tree.leaves(data):
            assert [len(part.data) for part in leaf.addressable_shards] == [room, room]
        for member in range(4):
            device, slot = member % 2, member // 2
            place = int(np.asarray(runs["data"].addressable_shards[device].data)[slot])
            mine = build.make_dataset(program.settings_of(member)).train.x
            held = data.train.x.addressable_shards[device].data[place]
            np.testing.assert_allclose(held, mine, rtol=1e-6)


MEASURE = """
import json, resource, sys, tempfile
from pathlib import Path
from grok_jax import config, planning, programs, runner, sweep

def resident(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0]) * 1024

layer, mode = json.loads(sys.argv[1])
own = dict(engine=dict(mode=mode, checkpoint_seconds=1e-3))
resolved = config.resolve(config.make_config(layer, own))
engine = config.set_up_jax(resolved.engine)
group = resolved.plan.groups()[0]
program = programs.GroupProgram(resolved.plan, group, engine.devices)
place = sweep.layout(len(group.members), engine.devices)
needed = planning.needed(program, mode, place) * len(engine.devices)
before = resident("VmRSS:")
with tempfile.TemporaryDirectory() as folder:
    runner.Sweeper(resolved.plan, engine, folder=Path(folder)).run()
print(json.dumps([needed, resident("VmHWM:") - before]))
"""
LARGE = {
    "mlp": dict(
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=1000, outputs=5, activation="tanh"),
        optimizer=dict(name="adamw"),
        sweep=dict(seed=list(range(48))),
        train=dict(steps=3, records=2),
    ),
    "clusters": dict(
        task=dict(name="xor_clusters", dimension=80_000, train_size=400),
        model=dict(name="cluster_net", width=128, noise=0.05),
        loss=dict(name="exponential"),
        sweep=dict(seed=list(range(6))),
        train=dict(steps=2, records=2),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's /proc")
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_the_predicted_peak_is_the_measured_one_within_a_fifth(name, mode):
    line = [sys.executable, "-c", MEASURE, json.dumps([LARGE[name], mode])]
    said = subprocess.check_output(line, text=True, env=os.environ)
    predicted, measured = json.loads(said.splitlines()[-1])
    assert 0.8 <= predicted / measured <= 1.2, (predicted / 2**20, measured / 2**20)


# --- machines that one does not sit at -----------------------------------------------


def test_the_cost_of_a_step_is_that_of_its_products_and_little_more(resolved):
    plan = resolved(TINY, dict(model=dict(width=128))).plan
    cost = build.cost(plan.settings, build.make_dataset(plan.settings))
    examples, layers = 20, (5 * 128, 128 * 128, 128 * 5)
    forward = 2 * examples * sum(layers)
    products = 3 * forward - 2 * examples * layers[0]  # no gradient of the inputs
    assert products <= cost.step <= 1.5 * products
    assert 4 * 3 * sum(layers) <= cost.bytes
    assert cost.weak == 0 and cost.record > 0


def test_the_weak_networks_are_in_the_cost():
    layer = dict(
        task=dict(name="modular_tokens", modulus=5, equals=False),
        model=dict(name="fnn", vocabulary=5, embedding=6, width=8, outputs=5),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        transfer=dict(source="weak", weak_steps=10, weak_candidates=3),
    )
    costs = []
    for steps in (10, 20):
        own = config.make_config(layer, dict(transfer=dict(weak_steps=steps)))
        settings = config.resolve(own).plan.settings
        costs.append(build.cost(settings, build.make_dataset(settings)).weak)
    assert costs[0] > 0 and costs[1] == pytest.approx(2 * costs[0])


def test_time_goes_as_the_work_and_against_devices_peak_and_efficiency(resolved):
    plan = resolved(TINY).plan
    (group,) = plan.groups()

    def seconds(devices=2, tflops=1.0, efficiency=0.5):
        machine = planning.Machine(devices, tflops, efficiency, 0.0)
        return planning.far_estimate(plan, group, machine).seconds

    cost = build.cost(plan.settings, build.make_dataset(plan.settings))
    work = 6 * cost.step + len(programs.train.record_steps(6, 3, "log")) * cost.record
    assert seconds() == pytest.approx(6 * work / 0.5e12)
    assert seconds(devices=4) == pytest.approx(seconds() / 2)
    assert seconds(tflops=4.0) == pytest.approx(seconds() / 4)
    assert seconds(efficiency=0.25) == pytest.approx(2 * seconds())
    assert seconds(devices=64) == pytest.approx(seconds() / 6)  # one run for each


def test_a_far_device_holds_what_its_memory_has_room_for(resolved):
    plan = resolved(TINY).plan
    (group,) = plan.groups()

    def on(memory):
        machine = planning.Machine(2, 1.0, 0.5, memory / planning.GIB)
        return planning.far_estimate(plan, group, machine)

    free = on(0)
    assert free.slots == 6
    three = on(free.fixed_bytes + 3.5 * free.run_bytes)
    assert three.slots == 3 and three.seconds == free.seconds
    with pytest.raises(SettingError, match=r"One run needs .* GiB, and a device of"):
        on(free.fixed_bytes)
    here = sweep.layout(6, DEVICES[:1])
    program = programs.GroupProgram(plan, group, DEVICES[:1])
    six = planning.device_bytes(program, "map", here)
    assert free.fixed_bytes + 6 * free.run_bytes == pytest.approx(six, rel=0.2)


def test_a_dry_run_for_another_machine_prints_it_and_writes_nothing(tmp_path, capsys):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run"]
    machine = ["--machine_devices=8", "--machine_tflops=2", "--machine_efficiency=0.4"]
    assert launch.main(["launch", *line, *machine]) == launch.DONE
    said = capsys.readouterr().out
    assert "on 8 devices of 2 TFLOP/s at 40% of their peak" in said
    assert "Gflop" in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--machine_devices=8", "--machine_tflops=1"], "go with --dry_run"),
        (["--dry_run", "--machine_devices=8"], "and --machine_tflops=PEAK of one"),
        (["--dry_run", "--machine_devices=0", "--machine_tflops=1"], "be 1 or more"),
        (
            [
                *("--dry_run", "--machine_devices=1", "--machine_tflops=1"),
                "--machine_efficiency=2",
            ],
            "--machine_efficiency in (0, 1]",
        ),
        (["--dry_run", "--machine_devices=1", "--machine_tflops=nan"], "be 1 or more"),
        (["--dry_run", "--machine_efficiency=0.5"], "A machine needs"),
    ],
)
def test_half_a_machine_is_a_sentence(flags, said, tmp_path, capsys):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}", *flags]
    assert launch.main(["launch", *line]) == launch.WRONG_USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
