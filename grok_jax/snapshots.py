"""Weights in files that others read and write, and kernels along a training of one's
own, from the weights that its loop has saved."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from grok_jax import ntk
from grok_jax.tree import flat_names
from grok_jax.types import Apply, Params


def load(path: str | Path, like: Params) -> Params:
    """Weights from an orbax checkpoint, a safetensors file or a msgpack of flax, as a
    tree like `like`.

    Args:
      path: a folder that orbax's `StandardCheckpointer` wrote, or its
        `CheckpointManager` for one step; a file `*.safetensors`, in which a leaf's
        name is its path with dots ("Dense_0.kernel"); or a file `*.msgpack` that
        `flax.serialization.to_bytes` wrote.
      like: the tree of arrays that was saved, or of their shapes
        (`jax.eval_shape`).

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is there has other leaves or shapes, or is damaged.
      ImportError: a safetensors file, and that library is not installed.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise FileNotFoundError(f"There are no weights at {path}.")
    read = {".safetensors": _safetensors, ".msgpack": _msgpack}.get(path.suffix, _orbax)
    found = read(path)
    wanted = flat_names(like)
    if set(found) != set(wanted):
        missing = sorted(set(wanted) - set(found))
        extra = sorted(set(found) - set(wanted))
        raise ValueError(
            f"{path} holds another tree; missing: {', '.join(missing) or 'nothing'}; "
            f"unknown: {', '.join(extra) or 'nothing'}."
        )
    for name, leaf in wanted.items():
        shape = jnp.shape(found[name])
        if shape != leaf.shape:
            raise ValueError(f"{path}: {name} has shape {shape}, not {leaf.shape}.")
    leaves = [jnp.asarray(found[name], leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.structure(like).unflatten(leaves)


def save(path: str | Path, params: Params) -> None:
    """Writes weights as `load` reads them, for others too: `*.safetensors` with a leaf
    for each path with dots, or `*.msgpack` as `flax.serialization` has it.

    Raises:
      ValueError: the name has another ending.
      ImportError: a safetensors file, and that library is not installed.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        leaves = {name: jnp.asarray(leaf) for name, leaf in flat_names(params).items()}
        content = _library(path).save(leaves)
    elif path.suffix == ".msgpack":
        content = _flax().to_bytes(jax.tree.map(np.asarray, params))
    else:
        raise ValueError(f"{path.name} must end in .safetensors or .msgpack.")
    path.write_bytes(content)


def _library(path: Path) -> Any:
    try:
        return importlib.import_module("safetensors.flax")
    except ImportError as error:
        raise ImportError(
            f"{path.name} needs safetensors: pip install safetensors."
        ) from error


def _flax() -> Any:
    """flax.serialization, which loads all of flax."""
    return importlib.import_module("flax.serialization")


def _safetensors(path: Path) -> dict[str, Any]:
    library = _library(path)
    try:
        return library.load(path.read_bytes())
    except Exception as error:  # of a library in another language
        raise ValueError(f"{path} is no safetensors file: {error}.") from error


def _msgpack(path: Path) -> dict[str, Any]:
    try:
        return flat_names(_flax().msgpack_restore(path.read_bytes()))
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(f"{path} is no msgpack of flax: {error}.") from error


def _orbax(path: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    if (path / "default").is_dir():  # one step of a CheckpointManager
        path = path / "default"
    with ocp.PyTreeCheckpointer() as checkpointer:
        about: Any = checkpointer.metadata(path)
        if about is None or about.item_metadata is None:
            raise ValueError(
                f"{path} is no orbax checkpoint; give the folder of one step."
            )
        tree = about.item_metadata.tree
        plain = ocp.RestoreArgs(restore_type=np.ndarray)  # whatever devices saved it
        restore_args = jax.tree.map(lambda _: plain, tree)
        return flat_names(checkpointer.restore(path, restore_args=restore_args))


def kernels(
    apply_fn: Apply,
    snapshots: Iterable[Params | str | Path],
    x: ArrayLike,
    *,
    like: Params = None,
    select: Callable[[Params], Params] = lambda tree: tree,
    kind: ntk.Kind = "trace",
) -> np.ndarray:
    """The kernel at each snapshot of a training, compiled once: [S, n, n], or the
    shape of another kind.

    With `kernel_history` and `alignment` it shows how the kernel moved:

        k = snapshots.kernels(apply_fn, sorted(folder.iterdir()), x, like=params)
        history = kernel_history(k, y)  # y [n]

    Args:
      apply_fn: maps (params, x [n, ...]) to [n, C] or [n].
      snapshots: weights, or where `load` finds them; one is in memory at a time.
      x: [n, ...].
      like: the saved tree or its shapes; needed for paths.
      select: takes the weights from a saved tree, such as `lambda t: t["params"]`.
      kind: as in `ntk.empirical_ntk`.

    Raises:
      ValueError: a path without `like`, one tree, or no snapshots; else as `load` and
        `ntk.empirical_ntk`.

    >>> f = lambda w, x: x @ w
    >>> print(kernels(f, [jnp.ones(2), jnp.zeros(2)], jnp.eye(2))[1])
    [[1. 0.]
     [0. 1.]]
    """
    if isinstance(snapshots, Mapping):
        raise ValueError("The snapshots are one tree; give a list of trees or paths.")
    found = []
    for snapshot in snapshots:
        if isinstance(snapshot, str | Path):
            if like is None:
                raise ValueError("Paths need `like`, the tree that was saved.")
            snapshot = load(snapshot, like)
        kernel = ntk.empirical_ntk(apply_fn, select(snapshot), x, kind=kind)
        found.append(np.asarray(kernel))
    if not found:
        raise ValueError("There are no snapshots.")
    return np.stack(found)
