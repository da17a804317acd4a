"""Several processes on one machine: the launcher as a pod would run it, on loopback."""

import signal

import numpy as np
import processes
import pytest
from processes import DESCENT, K3, ends, newest, places, wait_for_checkpoint

from grok_jax import launch
from grok_jax.engine import hosts, runner, workdirs
from grok_jax.settings import SettingError

pytestmark = pytest.mark.optimised(loops=False)

SHORT = (
    DESCENT,
    "--config.sweep.seed=(0,1,2)",
    "--config.engine.mode=map",
)
LONG = (
    DESCENT,
    "--config.sweep.seed=(0,1)",
    "--config.engine.mode=map",
    "--config.train.steps=8000",
    "--config.train.records=20",
    "--config.input_dim=48",
    "--config.train_size=300",
    "--config.stop.metric=",
    "--config.engine.segment_seconds=0.05",
    "--config.engine.checkpoint_seconds=0.2",
)


def start(workdir, count, *more, devices=1):
    """`count` launchers of one run, each with `devices` devices."""
    arguments = [
        *(f"--config={K3}:smoke", f"--workdir={workdir}"),
        *(f"--config.engine.devices={devices}", *more),
    ]
    if count == 1:
        return [processes.start(arguments)]
    return processes.start_several(count, arguments)


def same(first, second):
    one, two = (workdirs.read_results(w / "results.nc") for w in (first, second))
    assert set(one.variables) == set(two.variables)
    for name in {*one.variables} - {*runner.BY_CLOCK}:
        np.testing.assert_array_equal(one[name], two[name], err_msg=str(name))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "run"
    line = ["launch", f"--config={K3}:smoke", f"--workdir={workdir}", *SHORT]
    assert launch.main(line) == launch.DONE
    return workdir


@pytest.mark.slow
def test_two_processes_make_the_results_of_one_and_one_of_them_writes(alone, tmp_path):
    status, said = ends(start(tmp_path / "run", 2, *SHORT, devices=2))
    assert status == [0, 0], said
    assert "4 x CPU" in said[0]  # no device was asked for before it was set up
    assert "claims hold" in said[0] and "claims" not in said[1]
    same(alone, tmp_path / "run")
    status, said = ends(start(tmp_path / "run", 2, *SHORT))  # complete: only redrawn
    assert status == [0, 0] and "is complete" in said[0]


@pytest.mark.slow
def test_four_processes_of_two_devices_make_them_too(alone, tmp_path):
    """12 runs on 8 devices: some of them have one run, others two."""
    status, said = ends(start(tmp_path / "run", 4, *SHORT, devices=2))
    assert status == [0] * 4, said
    same(alone, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_job_of_which_one_process_was_killed_ends_and_goes_on(victim, tmp_path):
    workdir, whole = tmp_path / "run", tmp_path / "whole"
    both = start(workdir, 2, *LONG)
    wait_for_checkpoint(workdir, 1, both)
    both[victim].kill()
    status, said = ends(both)
    assert status[victim] == -signal.SIGKILL and status[1 - victim] not in (0, 75), said
    status, said = ends(start(workdir, 2, *LONG))
    assert status == [0, 0] and "Going on from checkpoint" in said[0], said
    assert ends(start(whole, 1, *LONG))[0] == [0]
    same(whole, workdir)


@pytest.mark.slow
def test_sigterm_to_any_process_stops_all_and_the_number_of_devices_may_change(
    tmp_path,
):
    """From 8 devices to 2, to 1 and back to 8."""
    workdir, whole = tmp_path / "run", tmp_path / "whole"
    for count, devices in ((4, 2), (2, 1), (1, 1)):
        before = newest(workdir)
        all_of_them = start(workdir, count, *LONG, devices=devices)
        wait_for_checkpoint(workdir, before, all_of_them)
        all_of_them[-1].terminate()
        status, said = ends(all_of_them)
        assert status == [75] * count, said
    to_the_end = (*LONG, "--config.engine.segment_seconds=2")
    status, said = ends(start(workdir, 4, *to_the_end, devices=2))
    assert status == [0] * 4, said
    assert ends(start(whole, 1, *to_the_end))[0] == [0]
    same(whole, workdir)


@pytest.mark.slow
def test_what_one_process_refuses_ends_all(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "letter.txt").write_text("mine")
    status, said = ends(start(workdir, 2, *SHORT))
    assert status == [2, 2] and "is not empty" in said[0], said
    assert [path.name for path in workdir.iterdir()] == ["letter.txt"]


def test_without_others_nothing_is_asked_and_everything_is_ones_own():
    hosts.initialize()
    assert not hosts.several() and hosts.is_writer()
    assert hosts.agree(3.0, False).tolist() == [3.0, 0.0]
    assert hosts.broadcast({"a": 1}) == ({"a": 1}, {})
    with hosts.together():
        pass


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "16"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.2,10.0.0.3"}, True),
    ],
)
def test_slurm_and_pods_are_recognised(environment, several):
    assert hosts.is_one_of_several(environment) == several


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num_processes=2"], "need --coordinator=HOST:PORT, --num_processes=N and"),
        (places("x", 2, 0), "--coordinator is '127.0.0.1:x'; write HOST:PORT"),
        (places(1, 0, 0), "--num_processes is 0; it must be 1 or more"),
        (places(1, 2, 2), "--process_id is 2; it must be from 0 to 1"),
    ],
)
def test_a_wrong_place_is_a_sentence(flags, said, tmp_path, capsys):
    line = ["launch", f"--config={K3}:smoke", f"--workdir={tmp_path / 'run'}", *flags]
    assert launch.main(line) == launch.WRONG_USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **_: no_cluster())
    with pytest.raises(SettingError, match="did not find each other: no cluster"):
        hosts.initialize(distributed=True)


def no_cluster():
    raise ValueError("no cluster here")


def test_a_machine_with_a_tpu_asks_for_its_cluster_and_does_without_one(monkeypatch):
    """A queued resource has no TPU_WORKER_HOSTNAMES: the metadata server is asked."""
    asked = []
    monkeypatch.setattr(
        hosts.jax.distributed, "initialize", lambda **_: asked.append(1) or no_cluster()
    )
    hosts.initialize()
    assert not asked
    monkeypatch.setenv("TPU_ML_PLATFORM", "JAX")
    hosts.initialize()
    assert asked and not hosts.several()
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 4)
    with pytest.raises(SettingError, match="one of 4 hosts of an accelerator; give"):
        hosts.devices(1)


@pytest.mark.parametrize(
    ("tasks", "nodes", "more", "alone"),
    [
        ("2", "2", {}, True),
        ("8", "2", {}, False),
        ("2", "2", {"JAX_LOCAL_DEVICE_IDS": "0"}, False),
    ],
)
def test_one_task_a_node_has_all_its_gpus(tasks, nodes, more, alone):
    slurm = {"SLURM_STEP_NUM_TASKS": tasks, "SLURM_STEP_NUM_NODES": nodes}
    assert hosts.one_task_a_node({**slurm, **more}) == alone
    assert not hosts.one_task_a_node({})
