"""What a sweep takes: against what it took, against counts by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from grok_jax import experiment, launch, sweep
from grok_jax.engine import config, planning, programs, runner
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
    return programs.GroupProgram(plan.groups()[0], DEVICES)


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
    for name in {*results[0].variables} - {*runner.BY_CLOCK}:
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_in_map_mode_a_chunk_is_no_larger_than_what_is_saved_at_ease(
    program, monkeypatch
):
    def chunk(mode, asked=0):
        own = planning.Engine(devices=DEVICES, mode=mode, runs_per_chunk=asked)
        return planning.choose(program, own)[1]

    assert chunk("map") == 12
    four = planning.state_bytes(program, sweep.layout(4, DEVICES))
    monkeypatch.setattr(planning, "AT_ONCE", four + 1)
    assert [chunk("map"), chunk("map", asked=10), chunk("vmap")] == [4, 10, 12]
    monkeypatch.setattr(planning, "AT_ONCE", 1)
    assert chunk("map") == 2


def test_one_run_too_large_is_a_sentence_that_says_how_large(program):
    least = planning.needed(program, "map", sweep.layout(2, DEVICES))
    with pytest.raises(SettingError) as error:
        planning.choose(program, engine(least / 2, mode="map"))
    size = f"{least / planning.GIB:.3g} GiB on each device"
    assert f"One run needs {size}, but only" in str(error.value)
    assert "engine.memory_gb" in str(error.value)


def test_a_grid_that_the_compiler_refuses_is_cut_into_chunks(program, monkeypatch):
    """As a TPU's does."""
    planned = program.bytes

    def refused(mode, place):
        if place.slots > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory.")
        return planned(mode, place)

    monkeypatch.setattr(program, "bytes", refused)
    most = 3
    assert planning.choose(program, engine(planning.GIB, mode="map")) == ("map", 6)
    most = 0
    with pytest.raises(SettingError, match="One run needs more GiB on each device, bu"):
        planning.choose(program, engine(planning.GIB, mode="map"))


def test_a_launch_that_cannot_fit_ends_with_that_sentence(tmp_path, capsys):
    line = [f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}"]
    small = ["--config.engine.memory_gb=1e-6", "--config.engine.mode=map"]
    assert launch.main(["launch", *line, *small]) == launch.WRONG_USAGE
    assert "grok_jax: One run needs " in capsys.readouterr().err


def test_each_device_holds_the_data_of_its_own_runs_alone(resolved):
    """12 seeds on two devices: six sets on each; in chunks of four, two."""
    plan = resolved(TINY).plan
    program = programs.GroupProgram(plan.groups()[0], DEVICES)
    for capacity, room in ((12, 6), (4, 2)):
        chunk = programs.Chunk(program, np.arange(4), capacity, "map")
        (data, _), runs, *_ = chunk.arguments(
            programs.make_pieces(program.steps, 0, 0, 1)
        )
        for leaf in jax.tree.leaves(data):
            assert [len(part.data) for part in leaf.addressable_shards] == [room, room]
        for member in range(4):
            device, slot = member % 2, member // 2
            place = int(np.asarray(runs["data"].addressable_shards[device].data)[slot])
            mine = experiment.make_dataset(program.group.runs[member]).train.x
            held = data.train.x.addressable_shards[device].data[place]
            np.testing.assert_allclose(held, mine, rtol=1e-6)


MEASURE = """
import json, resource, sys, tempfile
from pathlib import Path
from grok_jax import sweep
from grok_jax.engine import config, machine, planning, programs, runner

def resident(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0]) * 1024

layer, mode = json.loads(sys.argv[1])
own = dict(engine=dict(mode=mode, checkpoint_seconds=1e-3))
resolved = config.resolve(config.make_config(layer, own))
engine = machine.set_up_jax(resolved.engine)
group = resolved.plan.groups()[0]
program = programs.GroupProgram(group, engine.devices)
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


def test_a_dry_run_trains_no_weak_network_to_its_end(resolved, monkeypatch):
    """A few of its steps are timed; all of them count."""
    layer = dict(
        task=dict(name="modular_tokens", modulus=5, equals=False),
        model=dict(name="fnn", embedding=4, width=6),
        loss=dict(name="classification"),
        transfer=dict(model=dict(embedding=3, width=4, layers=2), every=5),
        train=dict(steps=4, records=2),
    )
    trained, now = [], [0.0]
    chunk = planning.Chunk

    def begun(program, members, size, mode):
        made = chunk(program, members, size, mode)
        trained.append(float(np.max(made.state.notes["weak_steps_taken"])))
        now[0] += 1 + 0.25 * trained[-1]  # a clock by which a step takes so long
        return made

    monkeypatch.setattr(planning, "Chunk", begun)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: now[0])
    seconds = []
    for steps in (100, 10**9):
        own = config.make_config(layer, dict(transfer=dict(steps=steps)))
        plan = config.resolve(own).plan
        own = planning.Engine(mode="map", devices=DEVICES)
        seconds.append(planning.estimate(plan.groups()[0], own).seconds)
    assert set(trained) == {5, 25}
    np.testing.assert_allclose(seconds, [1 + 25, 1 + 2.5e8], rtol=1e-3)
