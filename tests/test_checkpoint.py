"""Checkpoints come back bit by bit, or not at all and with a sentence."""

import os
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from grok_jax import tree
from grok_jax.engine import checkpoint
from grok_jax.engine.checkpoint import CheckpointError

CONTENT = {
    "state": {
        "params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 7},
        "step": np.array([3, 4], np.int32),
        "alive": np.array([True, False]),
    },
    "records": {
        "0": {
            "loss": np.array([[1.0, np.nan], [-0.0, np.inf]]),
            "scalar": np.float64(1e-300),
        }
    },
}
ABOUT = {"position": {"group": 1, "living": [0, 3]}, "per_step": {"0": ["loss"]}}


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_is_content(leaves, content=CONTENT):
    expected = tree.flat_names(content)
    assert list(leaves) == list(expected)
    assert all(same(leaves[name], expected[name]) for name in expected)


def other(value):
    return {"state": {"w": np.full(4, float(value))}}


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    checkpoint.save(tmp_path, 1, CONTENT, ABOUT)
    leaves, about, skipped = checkpoint.restore_newest(tmp_path)
    assert_is_content(leaves)
    assert {key: about[key] for key in ABOUT} == ABOUT
    assert skipped == []


def test_fit_puts_the_leaves_back_into_their_tree(tmp_path):
    checkpoint.save(tmp_path, 1, CONTENT, {})
    leaves, _, _ = checkpoint.restore_newest(tmp_path)
    back = checkpoint.fit(leaves, CONTENT)
    assert_is_content(tree.flat_names(back))


def test_a_tree_without_leaves_may_be_saved(tmp_path):
    checkpoint.save(tmp_path, 1, {"state": {}, "records": {}}, ABOUT)
    leaves, about, _ = checkpoint.restore_newest(tmp_path)
    assert leaves == {} and about["position"] == ABOUT["position"]


def test_the_newest_by_number_is_restored_and_the_newest_two_are_kept(tmp_path):
    for step in (9, 10, 11):
        checkpoint.save(tmp_path, step, other(step), {"own": step})
    leaves, about, _ = checkpoint.restore_newest(tmp_path)
    assert about["own"] == 11 and (leaves["state.w"] == 11).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "11"]


def test_a_checkpoint_is_overwritten_by_one_of_the_same_number(tmp_path):
    checkpoint.save(tmp_path, 1, other(1), {})
    checkpoint.save(tmp_path, 1, other(2), {})
    leaves, _, _ = checkpoint.restore_newest(tmp_path)
    assert (leaves["state.w"] == 2).all()


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_without_a_checkpoint_there_is_nothing_and_no_complaint(tmp_path, name):
    if name == "empty":
        (tmp_path / name).mkdir()
        (tmp_path / name / "3.orbax-checkpoint-tmp").mkdir()
    assert checkpoint.restore_newest(tmp_path / name) == ({}, {}, [])


# --- damage --------------------------------------------------------------------------


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def spoil(folder, change):
    for path in files(folder):
        path.write_bytes(change(path.read_bytes()))


DAMAGE = {
    "cut in half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_is_skipped_with_a_sentence(tmp_path, damage):
    checkpoint.save(tmp_path, 1, other(1), {"own": 1})
    checkpoint.save(tmp_path, 2, other(2), {"own": 2})
    spoil(tmp_path / "2", DAMAGE[damage])
    leaves, about, skipped = checkpoint.restore_newest(tmp_path)
    assert about["own"] == 1 and (leaves["state.w"] == 1).all()
    (sentence,) = skipped
    assert sentence.startswith("Checkpoint 2 is not readable (")
    assert sentence.endswith("); going back to the one before it.")


def test_an_emptied_folder_of_a_checkpoint_is_skipped(tmp_path):
    checkpoint.save(tmp_path, 1, other(1), {"own": 1})
    (tmp_path / "2").mkdir()
    _, about, skipped = checkpoint.restore_newest(tmp_path)
    assert about["own"] == 1 and len(skipped) == 1


def test_when_all_are_damaged_one_sentence_says_so(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, other(step), {})
        spoil(tmp_path / str(step), DAMAGE["cut in half"])
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore_newest(tmp_path)
    assert str(error.value) == (
        f"No checkpoint in {tmp_path} is readable; give another workdir to start "
        "afresh."
    )


def test_values_that_do_not_agree_with_their_checksum_are_not_restored(tmp_path):
    """Readable for orbax, and yet not what was saved."""
    checkpoint.save(tmp_path, 1, other(1), {"own": 1})
    checkpoint.save(tmp_path, 2, other(2), {"own": 2})
    with ocp.PyTreeCheckpointer() as orbax:
        arrays = orbax.restore(tmp_path / "2")
        arrays["00000"] = np.nextafter(arrays["00000"], 3.0)
        orbax.save(tmp_path / "2", arrays, force=True)
    _, about, skipped = checkpoint.restore_newest(tmp_path)
    assert about["own"] == 1
    assert "its checksum does not agree with its content" in skipped[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_flipped_byte_is_restored_as_something_else(tmp_path):
    """Each is found out, or lies where nothing is read."""
    rng = np.random.default_rng(0)
    content = {"state": {"w": rng.standard_normal(200)}}
    checkpoint.save(tmp_path / "good", 1, content, ABOUT)
    _, expected, _ = checkpoint.restore_newest(tmp_path / "good")
    found = 0
    for path in files(tmp_path / "good" / "1"):
        original = path.read_bytes()
        for place in rng.choice(len(original), min(4, len(original)), replace=False):
            flipped = bytearray(original)
            flipped[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            try:
                leaves, about, _ = checkpoint.restore_newest(tmp_path / "good")
                assert_is_content(leaves, content)
                assert about == expected
            except CheckpointError:
                found += 1
        path.write_bytes(original)
    assert found > 0


def test_another_layout_is_refused_by_number(tmp_path):
    checkpoint.save(tmp_path, 1, other(1), {"version": 99})
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore_newest(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / '1'} has layout 99; this program reads {checkpoint.VERSION}."
    )


# --- another tree --------------------------------------------------------------------


def test_leaves_that_do_not_fit_are_named():
    leaves = {"a.x": np.zeros(2), "a.y": np.zeros(3), "old": np.zeros(1)}
    like = {"a": {"x": np.zeros(2), "y": np.zeros(4)}, "new": np.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        checkpoint.fit(leaves, like)
    assert str(error.value) == (
        "The checkpoint does not fit this program. missing: new; left over: old; "
        "of another shape: a.y."
    )


# --- a disk that will not have it ----------------------------------------------------


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "checkpoints"
    with pytest.raises(CheckpointError) as error:
        checkpoint.save(folder, 3, CONTENT, {})
    assert str(error.value).startswith(
        f"Checkpoint 3 could not be written to {folder}: "
    )
    assert str(error.value).endswith("; the checkpoints before it are whole.")


def alone(program, folder):
    """A program that ran on `folder` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from grok_jax.engine import checkpoint

folder = Path(sys.argv[1])
noise = np.random.default_rng(0).standard_normal(200_000)
checkpoint.save(folder, 1, {"w": noise[:10]}, {"own": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoint.save(folder, 2, {"w": noise}, {"own": 2})
except checkpoint.CheckpointError as error:
    print(error)
leaves, about, skipped = checkpoint.restore_newest(folder)
assert (leaves["w"] == noise[:10]).all() and about["own"] == 1 and not skipped
"""


def test_a_full_disk_is_one_sentence_and_the_one_before_is_whole(tmp_path):
    """A limit on the size of a file stands for the end of the disk."""
    done = alone(FULL, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"Checkpoint 2 could not be written to {tmp_path}: ")
    assert len(done.stdout.splitlines()) == 1


UNREADABLE = """
import sys, time
from pathlib import Path
import numpy as np
from grok_jax.engine import checkpoint

folder = Path(sys.argv[1])
checkpoint.save(folder, 1, {f"w{i}": np.full(1000, i) for i in range(60)}, {})
for path in folder.rglob("d/*"):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
try:
    checkpoint.restore_newest(folder)
except checkpoint.CheckpointError as error:
    print(error)
time.sleep(0.5)  # reads that were begun end on threads of their own
"""


def test_reads_that_were_begun_leave_no_trace(tmp_path):
    done = alone(UNREADABLE, tmp_path)
    assert done.stdout.startswith(f"No checkpoint in {tmp_path} is readable")
    assert "Event loop is closed" not in done.stderr


def test_random_keys_come_back_as_keys(tmp_path):
    keys = {"rng": jax.random.split(jax.random.key(3, impl="rbg"), 2), "n": np.ones(2)}
    checkpoint.save(tmp_path, 1, keys, {})
    leaves, _, _ = checkpoint.restore_newest(tmp_path)
    back = checkpoint.fit(leaves, jax.eval_shape(lambda: keys))
    assert back["rng"].dtype == keys["rng"].dtype
    assert (jax.random.bits(back["rng"][1]) == jax.random.bits(keys["rng"][1])).item()
