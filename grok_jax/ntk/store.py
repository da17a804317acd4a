"""Kernels larger than memory: block by block into a zarr store, and on after a kill."""

import contextlib
import functools
import hashlib
import importlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from grok_jax.ntk import blocks
from grok_jax.ntk.empirical import MEMORY_BUDGET, make_problem
from grok_jax.ntk.inputs import Kind, check_settings
from grok_jax.types import Apply, Params

Block = tuple[int, int]


def store_ntk(
    path: str | Path,
    apply_fn: Apply,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "trace",
    block_size: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
    progress: bool = True,
) -> Any:
    """`empirical_ntk` into a zarr store, one block at a time.

    The same call again goes on where the last one was stopped or killed: blocks that
    are done are not computed again. Blocks are shared out over the local devices and,
    where JAX is distributed, over processes that all see `path`; each writes its own
    chunks.

    Args:
      path: of the store, a folder; made if it does not exist.
      apply_fn: as in `empirical_ntk`. That it is the same function when a call goes on
        is not checked.
      params: as in `empirical_ntk`.
      x1: [n1, ...]; arrays of NumPy stay on the host, but for one block.
      x2: [n2, ...], or None for x1: half the work.
      kind: as in `empirical_ntk`.
      block_size: rows and columns of a block, which are the chunks of the store; None:
        as many as fit in the budget.
      memory_budget: bytes that a block may take on its device.
      progress: whether to show a progress bar.

    Returns:
      The finished kernel, a `zarr.Array` that is read like a NumPy array; with several
      processes, once all of them are done.

    Raises:
      ValueError: as `empirical_ntk`, or the store holds another kernel (other inputs,
        weights, kind or block size).
      ImportError: zarr is not installed.
    """
    check_settings(kind, block_size)
    first, second = np.asarray(x1), None if x2 is None else np.asarray(x2)
    if second is not None:
        dtype = jnp.promote_types(first.dtype, second.dtype)
        first, second = first.astype(dtype), second.astype(dtype)
    most = _rows(apply_fn, params, first, second, kind, block_size, memory_budget)
    n1, n2 = len(first), len(first if second is None else second)
    rows = min(most, max(n1, n2))
    # Of two full blocks, since numbers of rows decide which rule is cheaper for a leaf.
    full = _block(first, 0, rows)
    problem = make_problem(apply_fn, params, full, full, kind)
    shape = (n1, n2, *blocks.entry_shape(problem))
    about = {
        "kind": kind,
        "of": _digest(params, first, second),
        "rows": rows,
        "symmetric": second is None,
    }
    kernel, done = _open(Path(path), shape, problem.factorization.dtype, about)
    finished = done[:]
    _meet("shared out")  # before any process marks a block as done
    wanted = [
        (i, j)
        for i in range(-(-n1 // rows))
        for j in range(i if second is None else 0, -(-n2 // rows))
    ]
    wanted = [block for block in wanted if not finished[block]]
    own = wanted[jax.process_index() :: jax.process_count()]
    with _bar(len(own), progress) as advance:
        for (i, j), value in _compute(problem, first, second, rows, own, memory_budget):
            at = slice(i * rows, (i + 1) * rows), slice(j * rows, (j + 1) * rows)
            value = value[: n1 - i * rows, : n2 - j * rows]
            kernel[at] = value
            if second is None and i != j:
                kernel[at[::-1]] = value.transpose(1, 0, *range(2, value.ndim)[::-1])
            done[i, j] = True  # after its values, so that a kill loses a block at most
            advance()
    _meet("done")
    return kernel


def _meet(where: str) -> None:
    """Waits for the other processes, if there are any."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"grok_jax.ntk.store_ntk: {where}")


def _rows(
    apply_fn: Apply,
    params: Params,
    x1: np.ndarray,
    x2: np.ndarray | None,
    kind: Kind,
    block_size: int | None,
    memory_budget: int,
) -> int:
    """Rows of a block: those asked for, or as many as `empirical_ntk` would take."""
    found: list[int] = []

    def look(params: Params, x1: jax.Array, x2: jax.Array | None) -> None:
        problem = make_problem(apply_fn, params, x1, x2, kind)
        found.append(blocks.choose_blocks(problem, block_size, memory_budget).rows)

    jax.eval_shape(look, params, x1, x2)
    return found[0]


def _block(x: np.ndarray, index: int, rows: int) -> np.ndarray:
    """Block `index` of the rows of x; the last one is filled up with its last row."""
    place = np.arange(index * rows, (index + 1) * rows)
    return x[np.minimum(place, len(x) - 1)]


def _compute(
    problem: blocks.Problem,
    first: np.ndarray,
    second: np.ndarray | None,
    rows: int,
    own: list[Block],
    memory_budget: int,
) -> Iterator[tuple[Block, np.ndarray]]:
    """The blocks in turn, several devices at work at once."""
    chunk, _ = blocks.working_bytes(problem, rows, rows, memory_budget)
    shape = (rows, rows, *blocks.entry_shape(problem))

    @jax.jit
    def form(leaves: Any, x: jax.Array) -> Any:
        return blocks.form(problem._replace(leaves=leaves), chunk, x)

    @functools.partial(jax.jit, static_argnums=2)
    def pair(factors1: Any, factors2: Any, diagonal: bool) -> jax.Array:
        found = blocks.pair(problem, factors1, factors2)
        if not found:  # a function that ignores its parameters
            return jnp.zeros(shape, problem.factorization.dtype)
        value = blocks.total(found)
        return blocks.symmetrise(value) if diagonal else value

    devices = jax.local_devices()
    leaves = [jax.device_put(problem.leaves, device) for device in devices]
    kept: list[tuple[int, Any]] = [(-1, None)] * len(devices)

    def start(turn: int, block: Block) -> jax.Array:
        """Begins a block on its device; the factors of its rows are kept for the next
        one, which mostly has the same rows."""
        (i, j), at = block, turn % len(devices)

        def formed(x: np.ndarray, index: int) -> Any:
            moved = jax.device_put(_block(x, index, rows), devices[at])
            return form(leaves[at], moved)

        if kept[at][0] != i:
            kept[at] = i, formed(first, i)
        left = kept[at][1]
        same = second is None and i == j
        right = left if same else formed(first if second is None else second, j)
        return pair(left, right, same)

    with jax.default_matmul_precision("highest"):
        begun: deque[tuple[Block, jax.Array]] = deque()
        for turn, block in enumerate(own):
            begun.append((block, start(turn, block)))
            if len(begun) > len(devices):  # each device has work while one is written
                first_block, value = begun.popleft()
                yield first_block, np.asarray(value)
        for block, value in begun:
            yield block, np.asarray(value)


def _digest(params: Params, *inputs: np.ndarray | None) -> str:
    """A hash of the numbers that the kernel is of."""
    found = hashlib.sha256(str(jax.tree.structure(params)).encode())
    for array in [*jax.tree.leaves(params), *inputs]:
        value = np.ascontiguousarray(jax.device_get(array) if array is not None else [])
        found.update(f"{value.shape} {value.dtype}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def _open(
    path: Path, shape: tuple[int, ...], dtype: Any, about: dict[str, Any]
) -> tuple[Any, Any]:
    """The arrays `kernel` and `done` of the store, made by the first process."""
    try:
        zarr = importlib.import_module("zarr")
    except ImportError as error:
        raise ImportError(
            "A stored kernel needs zarr: pip install 'grok_jax[zarr]'."
        ) from error
    rows = about["rows"]
    if jax.process_index() == 0 and not (path / "done" / "zarr.json").exists():
        group = zarr.open_group(path, mode="a")
        group.attrs.update(about)
        chunks = (min(rows, shape[0]), min(rows, shape[1]), *shape[2:])
        group.create_array(
            "kernel",
            shape=shape,
            chunks=chunks,
            dtype=jnp.dtype(dtype).name,
            fill_value=np.nan,
            overwrite=True,
        )
        counts = -(-shape[0] // rows), -(-shape[1] // rows)
        group.create_array("done", shape=counts, chunks=(1, 1), dtype="bool")
    _meet("opened")
    group = zarr.open_group(path, mode="r+")
    known = dict(group.attrs)
    if known != about:
        wrong = ", ".join(name for name in about if known.get(name) != about[name])
        raise ValueError(
            f"{path} holds another kernel (it differs in: {wrong}); "
            "name another folder, or delete it."
        )
    return group["kernel"], group["done"]


@contextlib.contextmanager
def _bar(count: int, show: bool) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each block, which moves a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    show = show and jax.process_index() == 0
    with Progress(console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("blocks of the kernel", total=count)
        yield functools.partial(bar.advance, task)
