"""Checkpoints of a sweep: the only module that knows orbax. Process 0 calls it.

A checkpoint is one flat tree of arrays by name. Each is written beside its name and
renamed when complete, so that a kill at any moment leaves the one before it whole.
"""

import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from grok_jax import tree

VERSION = 1
KEEP = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or does not fit the program."""


def save(folder: Path, step: int, content: Any, about: dict[str, Any]) -> None:
    """Writes `content` (a tree of numpy arrays) as checkpoint `step`, complete on
    return, and removes all but the newest `KEEP`.

    Raises:
      CheckpointError: the disk is full or cannot be written; older checkpoints stay.
    """
    names = tree.flat_names(content)
    leaves = [np.asarray(leaf) for leaf in names.values()]
    arrays = {f"{i:05d}": leaf for i, leaf in enumerate(leaves)}
    own = {"version": VERSION, "names": list(names), "checksum": _checksum(leaves)}
    about = {**own, **about}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    try:
        with _checkpointer() as writer:
            writer.save(folder.absolute() / str(step), arrays, force=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Checkpoint {step} could not be written to {folder}: {_first(error)}; "
            "the checkpoints before it are whole."
        ) from error
    for old in _steps(folder)[KEEP:]:
        shutil.rmtree(folder / str(old), ignore_errors=True)


def restore_newest(
    folder: Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
    """The newest readable checkpoint: (arrays by name, its `about`, a sentence for
    each newer one that was skipped). Without any, the first two are empty.

    Raises:
      CheckpointError: there are checkpoints but none is readable, or the newest
        readable one was written in another layout.
    """
    skipped = []
    steps = _steps(folder)
    for step in steps:
        try:
            leaves, about = _read(folder.absolute() / str(step))
        except Exception as error:  # whatever a damaged file makes the reader raise
            skipped.append(
                f"Checkpoint {step} is not readable ({_first(error)}); going back to "
                "the one before it."
            )
            continue
        if about["version"] != VERSION:
            raise CheckpointError(
                f"{folder / str(step)} has layout {about['version']}; this program "
                f"reads {VERSION}."
            )
        return leaves, about, skipped
    if steps:
        raise CheckpointError(
            f"No checkpoint in {folder} is readable; give another workdir to start "
            "afresh."
        )
    return {}, {}, skipped


def fit(leaves: dict[str, np.ndarray], like: Any) -> Any:
    """The tree of `like` with the leaves of those names.

    Raises:
      CheckpointError: a leaf is missing, left over or of another shape; it names them.
    """
    expected = tree.flat_names(like)
    wrong = {
        "missing": sorted(expected.keys() - leaves.keys()),
        "left over": sorted(leaves.keys() - expected.keys()),
        "of another shape": [
            name
            for name in sorted(expected.keys() & leaves.keys())
            if tuple(expected[name].shape) != leaves[name].shape
        ],
    }
    if any(wrong.values()):
        said = "; ".join(f"{how}: {', '.join(n)}" for how, n in wrong.items() if n)
        raise CheckpointError(f"The checkpoint does not fit this program. {said}.")
    return jax.tree.unflatten(
        jax.tree.structure(like), [leaves[name] for name in expected]
    )


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with _checkpointer() as reader:
        arrays = reader.restore(path)
    about = json.loads(bytes(np.asarray(arrays.pop("about"))))
    leaves = [np.asarray(arrays[key]) for key in sorted(arrays)]
    if about["checksum"] != _checksum(leaves):
        raise ValueError("its checksum does not agree with its content")
    return dict(zip(about["names"], leaves, strict=True)), about


def _checkpointer() -> ocp.Checkpointer:
    """Of process 0 alone: where there are several, the others know nothing of it."""
    if not jax.distributed.is_initialized():
        return ocp.PyTreeCheckpointer()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="writer"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _checksum(leaves: list[np.ndarray]) -> int:
    total = 0
    for leaf in leaves:
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return total


def _steps(folder: Path) -> list[int]:
    """Complete checkpoints, newest first (a half-written one bears another name)."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name) for path in folder.iterdir() if path.name.isdigit()),
        reverse=True,
    )


def _first(error: Exception) -> str:
    """The cause in a few words (tensorstore names it at the end of a long line)."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
