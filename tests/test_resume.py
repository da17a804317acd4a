"""Sweeps that are stopped, damaged and resumed: none of it leaves a trace in their
numbers."""

import shutil

import jax
import pytest
from sweeps import GRID, STOPS, same_runs

from grok_jax import sweep
from grok_jax.engine import planning, programs, runner
from grok_jax.engine.checkpoint import CheckpointError
from grok_jax.settings import SettingError

DEVICES = jax.local_devices()


@pytest.fixture(scope="module")
def reference(run_sweep):
    """The grid at once, on both devices."""
    return run_sweep(GRID)


SHORT = {"segment_seconds": 1e-9, "runs_per_chunk": 4}
"""GRID in two chunks, one step a segment after the first: some 34 places to stop."""


class StopAt:
    """Asks to stop when asked for the n-th time."""

    def __init__(self, number):
        self.left = number

    def __call__(self):
        self.left -= 1
        return self.left == 0


def interrupt(run_sweep, folder, *numbers, layers=(GRID,), **engine):
    """Runs and stops at each of these segments in turn."""
    for number in numbers:
        with pytest.raises(runner.Interrupted):
            run_sweep(
                *layers, folder=folder, stop=StopAt(number), **{**SHORT, **engine}
            )


@pytest.mark.parametrize("numbers", [(1,), (12, 14), (17,), (18, 1, 1)], ids=str)
def test_a_resumed_sweep_has_the_bits_of_an_uninterrupted_one(
    run_sweep, reference, assert_identical, tmp_path, numbers
):
    interrupt(run_sweep, tmp_path, *numbers)
    said = []
    resumed = run_sweep(GRID, folder=tmp_path, say=said.append, **SHORT)
    assert len(said) == 1 and said[0].startswith("Going on from checkpoint")
    same_runs(resumed, reference, assert_identical)
    assert resumed.attrs["seconds"] > 0
    for name in ("start_seconds", "step_seconds"):
        assert resumed[name].dims == resumed.t_test.dims
        assert (resumed[name] > 0).all()


def test_a_sweep_of_several_groups_resumes_to_the_same_bits(
    run_sweep, assert_identical, tmp_path
):
    """Two groups of two chunks; stopped in each of the groups."""
    layers = (GRID, dict(sweep=dict(width=(3, 7))))
    expected = run_sweep(*layers)
    interrupt(run_sweep, tmp_path, 20, 25, layers=layers)
    resumed = run_sweep(*layers, folder=tmp_path, **SHORT)
    same_runs(resumed, expected, assert_identical)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_sweep_resumed_on_other_devices_has_the_same_bits(
    run_sweep, reference, assert_identical, tmp_path, first, then
):
    interrupt(run_sweep, tmp_path, 12, devices=tuple(DEVICES[:first]))
    resumed = run_sweep(GRID, folder=tmp_path, **SHORT, devices=tuple(DEVICES[:then]))
    same_runs(resumed, reference, assert_identical)


@pytest.mark.parametrize("number", [14, 40])
def test_a_sweep_resumed_while_runs_end_early_has_the_same_bits(
    run_sweep, assert_identical, tmp_path, number
):
    expected = run_sweep(STOPS, segment_seconds=1e-9)
    interrupt(run_sweep, tmp_path, number, layers=(STOPS,), runs_per_chunk=0)
    resumed = run_sweep(STOPS, folder=tmp_path, devices=(DEVICES[0],))
    same_runs(resumed, expected, assert_identical)


def test_a_resume_with_room_for_fewer_runs_is_a_sentence(
    run_sweep, reference, resolved, assert_identical, tmp_path
):
    """All runs at once on two devices, then on one with memory for a few of them."""
    interrupt(run_sweep, tmp_path, 5, runs_per_chunk=0)
    plan, one = resolved(GRID).plan, tuple(DEVICES[:1])
    program = programs.GroupProgram(plan.groups()[0], one)
    room = planning.needed(program, "map", sweep.layout(2, one)) / planning.GIB
    small = {**SHORT, "devices": one, "memory_gb": 1.01 * room, "runs_per_chunk": 0}
    said = r"holds 6 runs at once, but only \d fit here; resume it on as many"
    with pytest.raises(SettingError, match=said):
        run_sweep(GRID, folder=tmp_path, **small)
    same_runs(run_sweep(GRID, folder=tmp_path), reference, assert_identical)


def test_a_resume_without_room_for_one_run_is_a_sentence(run_sweep, tmp_path):
    interrupt(run_sweep, tmp_path, 12)
    small = {"devices": tuple(DEVICES[:1]), "memory_gb": 1e-6}
    with pytest.raises(SettingError, match="One run needs"):
        run_sweep(GRID, folder=tmp_path, **{**SHORT, **small})
    same = run_sweep(GRID, folder=tmp_path, **SHORT)  # nothing is lost
    assert same.train_loss.notnull().all()


def test_a_sweep_by_vmap_resumes_to_the_same_bits(
    run_sweep, assert_identical, tmp_path
):
    engine = {**SHORT, "mode": "vmap"}
    expected = run_sweep(GRID, **engine)
    interrupt(run_sweep, tmp_path, 9, **engine)
    resumed = run_sweep(GRID, folder=tmp_path, **engine)
    same_runs(resumed, expected, assert_identical)


def test_a_resumed_sweep_keeps_its_mode_and_chunks_whatever_is_asked_now(
    run_sweep, reference, assert_identical, tmp_path
):
    interrupt(run_sweep, tmp_path, 5)
    resumed = run_sweep(GRID, folder=tmp_path, mode="vmap", runs_per_chunk=2)
    assert resumed.attrs["modes"] == "map"
    same_runs(resumed, reference, assert_identical)


def test_a_complete_sweep_run_again_computes_nothing(
    run_sweep, reference, assert_identical, tmp_path, compilations
):
    run_sweep(GRID, folder=tmp_path)
    with compilations() as names:
        again = run_sweep(GRID, folder=tmp_path)
    assert not [name for name in names if "on_device" in name]
    same_runs(again, reference, assert_identical)


def newest(folder):
    return max(
        (p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
    )


def spoil(checkpoint):
    """Cuts every file of a checkpoint in half."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(
    run_sweep, reference, assert_identical, tmp_path
):
    interrupt(run_sweep, tmp_path, 5, 6)
    bad = newest(tmp_path)
    spoil(bad)
    said = []
    resumed = run_sweep(GRID, folder=tmp_path, say=said.append, **SHORT)
    assert said[0].startswith(f"Checkpoint {bad.name} is not readable (")
    assert said[0].endswith("going back to the one before it.")
    assert said[1].startswith(f"Going on from checkpoint {int(bad.name) - 1}:")
    same_runs(resumed, reference, assert_identical)


def test_no_readable_checkpoint_at_all_is_one_sentence_and_nothing_runs(
    run_sweep, tmp_path
):
    interrupt(run_sweep, tmp_path, 2, 2)
    for path in tmp_path.iterdir():
        spoil(path)
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is readable"):
        run_sweep(GRID, folder=tmp_path, **SHORT)


def test_a_checkpoint_of_another_program_names_the_leaves_that_do_not_fit(
    run_sweep, tmp_path
):
    interrupt(run_sweep, tmp_path, 2)
    with pytest.raises(CheckpointError) as error:
        run_sweep(GRID, dict(model=dict(width=9)), folder=tmp_path)
    assert "of another shape: anchor.w, params.w" in str(error.value)


def test_a_half_written_checkpoint_is_not_looked_at(
    run_sweep, reference, assert_identical, tmp_path
):
    interrupt(run_sweep, tmp_path, 5)
    half = tmp_path / "9.orbax-checkpoint-tmp"
    shutil.copytree(newest(tmp_path), half)
    spoil(half)
    said = []
    resumed = run_sweep(GRID, folder=tmp_path, say=said.append, **SHORT)
    assert len(said) == 1
    same_runs(resumed, reference, assert_identical)
