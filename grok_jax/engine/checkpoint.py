"""Checkpoints of a sweep: the only module that uses orbax. Process 0 calls it.

A checkpoint is a flat tree of arrays by name. On disk it is an orbax folder, written
under a temporary name and renamed when complete; in an object store it is that folder
as one object, STEP.zip, written atomically. So a kill at any moment leaves the previous
checkpoint complete. Both kinds can be read from either place.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from grok_jax import tree
from grok_jax.engine import remote
from grok_jax.settings import first_line

VERSION = 4
KEEP = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read, or does not fit the program."""


class WriteError(CheckpointError):
    """A checkpoint cannot be written: the disk is full, or a store does not answer."""


def save(folder: Path, step: int, content: Any, about: dict[str, Any]) -> None:
    """Writes `content` (a tree of numpy arrays) as checkpoint `step`, complete on
    return, and removes all but the newest `KEEP`.

    Raises:
      WriteError: the disk is full or not writable; older checkpoints stay.
    """
    names = tree.flat_names(tree.without_keys(content))
    leaves = [np.asarray(leaf) for leaf in names.values()]
    arrays = {f"{i:05d}": leaf for i, leaf in enumerate(leaves)}
    header = {"version": VERSION, "names": list(names), "checksum": _checksum(leaves)}
    about = {**header, **about}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    try:
        if remote.is_remote(folder):
            _save_remotely(folder / f"{step}.zip", arrays)
        else:
            _save_locally(folder.absolute() / str(step), arrays)
    except (*remote.failures(folder), ValueError) as error:
        raise WriteError(
            f"Checkpoint {step} could not be written to {folder}: "
            f"{_cause(error, folder)}; "
            "the checkpoints before it are whole."
        ) from error
    _remove_old(folder)


def restore_newest(
    folder: Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
    """The newest readable checkpoint: (arrays by name, its `about`, a message for each
    newer one that was skipped). If there is none, the first two are empty.

    Raises:
      CheckpointError: there are checkpoints but none is readable, or the newest
        readable one has another layout.
    """
    skipped = []
    paths = _complete(folder)
    if paths:
        _silence_pending_reads()
    for path in paths:
        try:
            leaves, about = _read(path)
        except Exception as error:  # damaged files raise many kinds
            skipped.append(
                f"Checkpoint {path.stem} is not readable ({_cause(error, path)}); "
                "going back to the one before it."
            )
            continue
        if about["version"] != VERSION:
            raise CheckpointError(
                f"{path} has layout {about['version']}; this program reads {VERSION}."
            )
        return leaves, about, skipped
    if paths:
        raise CheckpointError(
            f"No checkpoint in {folder} is readable; give another workdir to start "
            "afresh."
        )
    return {}, {}, skipped


def fit(leaves: dict[str, np.ndarray], like: Any) -> Any:
    """A tree like `like` whose leaves are taken from `leaves` by name.

    Raises:
      CheckpointError: names the leaves that are missing, left over or of another shape.
    """
    expected = tree.flat_names(jax.eval_shape(tree.without_keys, like))
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
    fitted = jax.tree.unflatten(
        jax.tree.structure(like), [leaves[name] for name in expected]
    )
    return tree.with_keys(fitted, like)


def _save_locally(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with _checkpointer() as writer:
        writer.save(path, arrays, force=True)


def _save_remotely(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Packs the orbax folder in a scratch folder and uploads it as one object."""
    with tempfile.TemporaryDirectory(prefix="grok_jax_") as scratch:
        folder, packed = Path(scratch) / "whole", Path(scratch) / path.name
        _save_locally(folder, arrays)
        with zipfile.ZipFile(packed, "w") as pack:
            for file in sorted(folder.rglob("*")):
                pack.write(file, file.relative_to(folder))
        remote.upload(packed, path)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, about) of a checkpoint folder or zip, local or remote."""
    with tempfile.TemporaryDirectory(prefix="grok_jax_") as scratch:
        folder, packed = path, path.suffix == ".zip"
        if remote.is_remote(path):
            folder = Path(scratch) / ("packed" if packed else "whole")
            remote.download(path, folder)
        if packed:
            with zipfile.ZipFile(folder) as pack:
                folder = Path(scratch) / "whole"
                pack.extractall(folder)
        with _checkpointer() as reader:
            arrays = reader.restore(folder)
    about = json.loads(bytes(np.asarray(arrays.pop("about"))))
    leaves = [np.asarray(arrays[key]) for key in sorted(arrays)]
    if about["checksum"] != _checksum(leaves):
        raise ValueError("its checksum does not agree with its content")
    return dict(zip(about["names"], leaves, strict=True)), about


def _silence_pending_reads() -> None:
    """Silences traces after a failed read: the first one closes orbax's event loop, and
    tensorstore's threads print a trace for every other read, whenever it ends."""
    before = sys.unraisablehook

    def silenced(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    if getattr(before, "__qualname__", "") != silenced.__qualname__:
        sys.unraisablehook = silenced


def _checkpointer() -> Any:
    """An orbax checkpointer of process 0 alone; other processes take no part in it."""
    import orbax.checkpoint as ocp  # half a second, for who saves or restores

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


def _complete(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first (a partial one has another name).

    Raises:
      CheckpointError: the object store cannot be read.
    """
    try:
        found = list(folder.iterdir()) if folder.is_dir() else []
    except remote.failures(folder) as error:
        why = remote.reason(error)
        raise CheckpointError(f"{folder} cannot be read: {why}.") from error
    paths = [path for path in found if re.fullmatch(r"\d+(\.zip)?", path.name)]
    newest = sorted(paths, key=lambda path: (int(path.stem), path.name), reverse=True)
    return [path if remote.is_remote(path) else path.absolute() for path in newest]


def _remove_old(folder: Path) -> None:
    """Removes all but the newest `KEEP`; any that cannot be removed stay."""
    with contextlib.suppress(CheckpointError, *remote.failures(folder)):
        for old in _complete(folder)[KEEP:]:
            if remote.is_remote(old):
                remote.remove(old)
            elif old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()


def _cause(error: Exception, where: Path) -> str:
    """The cause in a few words (tensorstore puts it at the end of a long line)."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    if remote.is_remote(where):
        return remote.reason(error)
    return first_line(error)
