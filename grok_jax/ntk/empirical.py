"""Empirical neural tangent kernels of any function, and what follows from them.

The kernel is K(x, x') = <df(x)/dtheta, df(x')/dtheta> (Jacot et al. 2018). Dense
layers and table look-ups are contracted layer by layer without per-sample Jacobians
(`_probes.py`); every other parameter keeps its explicit gradient; the two agree.

Samples are independent: row i is `apply_fn(params, x[i:i+1])[0]` and its gradient,
whatever apply_fn does with a batch (a BatchNorm in train mode sees batches of one).
Matrix products run at the highest precision of the device inside the kernel.

Memory: a block of rows against a block of columns at a time, of any size; by default
the largest that fits in `MEMORY_BUDGET` by the count of `predicted_bytes`.
"""

import difflib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from grok_jax import _probes

Params = Any
ApplyFn = Callable[[Params, Array], Array]
Kind = Literal["full", "diagonal", "trace", "pseudo"]

MEMORY_BUDGET = 2**30
"""Bytes of work, beside inputs and kernel, above which a kernel is cut into blocks."""

_HALVINGS = 3  # of a symmetric block: 9/16 of the products remain
_SMALLEST_HALF = 100  # rows; below, the products are too small to be fast


def empirical_ntk(
    apply_fn: ApplyFn,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "trace",
    block_size: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> Array:
    """The empirical NTK of apply_fn between the rows of x1 and of x2.

    With J_c(x) the gradient of output c with respect to all floating leaves:

    - `full` [n1, n2, C, C]: J_c(x1) . J_d(x2); `flatten_kernel` makes it a matrix.
    - `diagonal` [n1, n2, C]: J_c(x1) . J_c(x2), one kernel per output.
    - `trace` [n1, n2]: the mean of `diagonal` over outputs.
    - `pseudo` [n1, n2]: (sum_c J_c(x1)) . (sum_c J_c(x2)) / C, the gradient of the
      summed outputs. C times cheaper, and a different kernel: say so where you show it.

    Args:
      apply_fn: maps (params, x [n, ...]) to [n, C] or [n] (then C = 1). Like a static
        argument of `jax.jit` it must be pure; the kernel is compiled once per
        function object, shape and kind (under `vmap`: once per call, so put
        `jax.jit` around the `vmap`).
      params: any tree; leaves that are not floating are constants.
      x1: [n1, ...].
      x2: [n2, ...], or None for x1: half the work, and a symmetric result.
      kind: see above.
      block_size: rows and columns at a time, 1 or more; None: as many as fit.
      memory_budget: bytes of work, beside inputs and kernel, that automatic blocks
        may take; above it, factors are formed again for each block instead of kept.

    Returns:
      The kernel, in the dtype of the outputs or float32 if that is wider.

    Raises:
      ValueError: unknown kind, block_size below 1, empty or mismatched x1 and x2,
        params without a floating leaf, or apply_fn that returns another shape.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> print(empirical_ntk(lambda w, x: x @ w, jnp.ones((2, 5)), x))
    [[ 5. 11.]
     [11. 25.]]
    """
    (kernel,) = _run(apply_fn, params, x1, x2, kind, block_size, memory_budget, False)
    return kernel


def layer_ntks(
    apply_fn: ApplyFn,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "trace",
    block_size: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> Params:
    """One kernel per parameter leaf, in a tree like params; they sum to the NTK.

    Leaves that are not floating, or that apply_fn does not use, have a kernel of
    zeros. Arguments and errors as in `empirical_ntk`.

    >>> params = {"w": jnp.ones(2), "b": jnp.zeros(())}
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> print(layer_ntks(lambda p, x: x @ p["w"] + p["b"], params, x)["b"])
    [[1. 1.]
     [1. 1.]]
    """
    kernels = _run(apply_fn, params, x1, x2, kind, block_size, memory_budget, True)
    return jax.tree.unflatten(jax.tree.structure(params), kernels)


def flatten_kernel(k: ArrayLike) -> Array:
    """A `full` kernel [n1, n2, C, C] as the matrix [n1 C, n2 C] of all outputs.

    Raises:
      ValueError: k has not four axes.
    """
    k = jnp.asarray(k)
    if k.ndim != 4:
        raise ValueError(f"A full kernel [n1, n2, C, C] is needed; got {k.shape}.")
    n1, n2, rows, columns = k.shape
    return jnp.swapaxes(k, 1, 2).reshape(n1 * rows, n2 * columns)


def predicted_bytes(
    apply_fn: ApplyFn,
    params: Params,
    x1: Any,
    x2: Any = None,
    *,
    kind: Kind = "trace",
    block_size: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> int:
    """Bytes that `empirical_ntk` takes beside its inputs, counted before it runs.

    Only shapes are looked at (`jax.ShapeDtypeStruct` will do for params, x1 and x2).
    The count is of the factors, the work to form them, one block with its temporaries,
    and two or three copies of the kernel. Measured on networks with dense layers,
    attention and convolutions, XLA allocates between 1/5 and 5/4 of it.
    """
    found = []

    def count(params: Params, x1: Array, x2: Array | None) -> None:
        problem = _make_problem(apply_fn, params, x1, x2, kind)
        found.append(_choose_blocks(problem, block_size, memory_budget).total)

    _check_static(kind, block_size)
    jax.eval_shape(count, params, x1, x2)
    return found[0]


def _run(
    apply_fn: ApplyFn,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
    kind: Kind,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool,
) -> list[Array]:
    _check_static(kind, block_size)
    static = (apply_fn, kind, block_size, memory_budget, by_layer)
    arrays = jax.tree.leaves((params, x1, x2))
    if _hashable(apply_fn) and not any(isinstance(a, Tracer) for a in arrays):
        return _compiled_kernels(*static, params, x1, x2)
    # Not kept: a cache would hold on to traced values that apply_fn closes over.
    return jax.jit(functools.partial(_kernels, *static))(params, x1, x2)


def _hashable(apply_fn: ApplyFn) -> bool:
    """False for a module with dictionaries or arrays among its fields."""
    try:
        hash(apply_fn)
    except TypeError:
        return False
    return True


def _check_kind(kind: str) -> None:
    kinds = get_args(Kind)
    if kind not in kinds:
        near = difflib.get_close_matches(str(kind), kinds, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown kind {kind!r}; kinds are {', '.join(kinds)}.{hint}")


def _check_static(kind: str, block_size: int | None) -> None:
    _check_kind(kind)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be 1 or more; got {block_size}.")


def _kernels(
    apply_fn: ApplyFn,
    kind: Kind,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
) -> list[Array]:
    """The kernel, or those of all leaves if `by_layer`."""
    problem = _make_problem(apply_fn, params, x1, x2, kind)
    blocks = _choose_blocks(problem, block_size, memory_budget, by_layer)
    with jax.default_matmul_precision("highest"):
        return _solve(problem, blocks, len(jax.tree.leaves(params)) if by_layer else 0)


_compiled_kernels = jax.jit(_kernels, static_argnums=range(5))


class _Problem(NamedTuple):
    plan: _probes.Plan
    places: tuple[int, ...]  # of the floating leaves among all leaves
    leaves: list[Array]  # the floating ones
    cotangents: Array  # [R, C], the combinations of outputs to differentiate
    x1: Array
    x2: Array | None
    kind: Kind
    outputs: int  # C
    sample: _probes.Footprint  # of forming the factors of one sample
    factor_bytes: int  # of keeping them


class _Blocks(NamedTuple):
    rows: int  # at a time
    keep: bool  # the factors of all samples, or form them again for each block
    total: int  # predicted bytes


def _make_problem(
    apply_fn: ApplyFn,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
    kind: Kind,
) -> _Problem:
    x1, x2 = _check_inputs(x1, x2)
    outputs, leaves, places = _per_sample(apply_fn, params)
    with jax.default_matmul_precision("highest"):
        out = jax.eval_shape(outputs, leaves, x1[0])
        types = [jax.typeof(v) for v in (*leaves, x1, x2) if v is not None]
        axes = frozenset().union(*map(_probes.mesh_axes, [*types, out]))
        leaves = [_probes.varying(leaf, axes) for leaf in leaves]
        x1 = _probes.varying(x1, axes)
        x2 = x2 if x2 is None else _probes.varying(x2, axes)
        eye = jnp.eye(out.size, dtype=out.dtype)
        cotangents = eye.sum(0, keepdims=True) if kind == "pseudo" else eye
        cotangents = _probes.varying(cotangents, axes)

        plan = _probes.make_plan(
            jax.make_jaxpr(outputs)(leaves, x1[0]),
            len(leaves),
            lambda layer: _factors_are_cheaper(
                layer,
                leaves,
                len(cotangents),
                kind,
                len(x1),
                len(x1 if x2 is None else x2),
            ),
        )
        formed = jax.make_jaxpr(functools.partial(_probes.factors, plan))(
            leaves, x1[0], cotangents
        )
    return _Problem(
        plan,
        places,
        leaves,
        cotangents,
        x1,
        x2,
        kind,
        out.size,
        _probes.footprint(formed, len(leaves)),
        sum(a.size * a.dtype.itemsize for a in formed.out_avals),
    )


def _per_sample(
    apply_fn: ApplyFn, params: Params
) -> tuple[Callable[[Sequence[Array], Array], Array], list[Array], tuple[int, ...]]:
    """(floating leaves, x [...]) -> f [C], those leaves, and their places."""
    every, structure = jax.tree.flatten(params)
    every = [jnp.asarray(leaf) for leaf in every]
    places = _floating(every)
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in every):
        raise ValueError("Complex parameters have no NTK here; split them in two.")
    if not places:
        raise ValueError("params has no floating leaf, so there is no gradient.")

    def outputs(leaves: Sequence[Array], x: Array) -> Array:
        merged = structure.unflatten(_replace(every, places, leaves))
        out = apply_fn(merged, x[None])
        returned = getattr(out, "shape", type(out).__name__)
        if isinstance(returned, str) or len(returned) not in (1, 2) or returned[0] != 1:
            raise ValueError(
                "apply_fn must map x [n, ...] to [n] or [n, C]; for one row, "
                f"{(1, *x.shape)}, it returned {returned}."
            )
        return out.reshape(-1)

    return outputs, [every[i] for i in places], places


def _floating(leaves: Sequence[Array]) -> tuple[int, ...]:
    return tuple(
        i for i, p in enumerate(leaves) if jnp.issubdtype(p.dtype, jnp.floating)
    )


def _replace(
    every: Sequence[Array], places: Sequence[int], leaves: Sequence[Array]
) -> list[Array]:
    merged = list(every)
    for place, leaf in zip(places, leaves, strict=True):
        merged[place] = leaf
    return merged


def _check_inputs(x1: ArrayLike, x2: ArrayLike | None) -> tuple[Array, Array | None]:
    x1 = jnp.asarray(x1)
    if x2 is not None:
        x2 = jnp.asarray(x2)
        if x1.shape[1:] != x2.shape[1:]:
            raise ValueError(
                "The rows of x1 and x2 must have one shape; got "
                f"{x1.shape[1:]} and {x2.shape[1:]}."
            )
        dtype = jnp.promote_types(x1.dtype, x2.dtype)
        x1, x2 = x1.astype(dtype), x2.astype(dtype)
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None and (x.ndim == 0 or len(x) == 0):
            raise ValueError(f"{name} must have at least one row; got shape {x.shape}.")
    return x1, x2


def _factors_are_cheaper(
    layer: _probes.Layer,
    leaves: Sequence[Array],
    rows: int,
    kind: Kind,
    n1: int,
    n2: int,
) -> bool:
    """Compares multiplications: over pairs of positions, or of Jacobian entries."""
    combinations = rows * rows if kind == "full" else rows
    _, inputs, outputs = layer.uses[0].sizes
    size, positions = leaves[layer.weight].size, layer.positions
    factored = n1 * n2 * positions**2 * (inputs + combinations * outputs)
    explicit = n1 * n2 * combinations * size + (n1 + n2) * rows * positions * size
    return factored <= explicit


def _choose_blocks(
    problem: _Problem,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool = False,
) -> _Blocks:
    """Blocks of the given size, or the largest that fit in the budget."""
    n1, n2 = len(problem.x1), len(problem.x1 if problem.x2 is None else problem.x2)
    outputs = len(problem.cotangents)
    entries = {"full": outputs**2, "diagonal": outputs}.get(problem.kind, 1)
    item, plan = problem.plan.dtype.itemsize, problem.plan
    kernels = n1 * n2 * entries * item * (len(problem.leaves) if by_layer else 1)
    # XLA forms the products of several layers before it adds the first two up.
    pairs = sum(layer.positions**2 for layer in plan.layers) * (1 + entries)
    pairs += (2 + len(plan.jacobians)) * entries
    # Measured: twice what the program shows, for layouts and convolutions.
    forming = 2 * problem.sample.sample
    samples = n1 + (0 if problem.x2 is None else n2)

    def count(rows: int) -> tuple[_Blocks, int]:
        """The blocks, and their bytes beside the kernel."""
        rows1, rows2 = min(rows, n1), min(rows, n2)
        beside = problem.sample.shared + rows1 * rows2 * pairs * item
        if rows >= max(n1, n2):
            beside += samples * forming
            return _Blocks(rows, True, beside + 2 * kernels), beside
        beside += rows * forming
        kept = beside + samples * problem.factor_bytes
        if kept <= memory_budget:
            return _Blocks(rows, True, kept + 3 * kernels), kept
        beside += (rows1 + rows2) * problem.factor_bytes
        return _Blocks(rows, False, beside + 3 * kernels), beside

    rows = max(n1, n2) if block_size is None else min(block_size, max(n1, n2))
    blocks, beside = count(rows)
    while block_size is None and beside > memory_budget and rows > 1:
        rows = -(-rows // 2)
        blocks, beside = count(rows)
    return blocks


def _solve(problem: _Problem, blocks: _Blocks, leaves: int) -> list[Array]:
    """The kernel; or, where `leaves` counts the leaves of params, that of each."""
    plan, kind, x1, x2 = problem.plan, problem.kind, problem.x1, problem.x2
    n1, n2 = len(x1), len(x1 if x2 is None else x2)

    def form(x: Array) -> Any:
        one = functools.partial(_probes.factors, plan, problem.leaves)
        return jax.vmap(one, in_axes=(0, None))(x, problem.cotangents)

    def pair(factors1: Any, factors2: Any) -> dict[int, Array]:
        found = _probes.kernels(plan, factors1, factors2, kind)
        if kind in ("trace", "pseudo"):
            found = {leaf: k / problem.outputs for leaf, k in found.items()}
        return found if leaves else {0: functools.reduce(jnp.add, found.values())}

    if not plan.layers and not plan.jacobians:
        found = {}
    elif blocks.rows >= max(n1, n2):
        factors = form(x1)
        found = _by_halves(factors, pair) if x2 is None else pair(factors, form(x2))
    else:
        found = _by_blocks(x1, x2, blocks, form, pair)

    entries = {"full": 2, "diagonal": 1}.get(kind, 0)
    shape = (n1, n2) + (len(problem.cotangents),) * entries
    zeros = jnp.zeros(shape, plan.dtype)
    if not leaves:
        return [found.get(0, zeros)]
    kernels = [zeros] * leaves
    for leaf, kernel in found.items():
        kernels[problem.places[leaf]] = kernel
    return kernels


def _by_blocks(
    x1: Array,
    x2: Array | None,
    blocks: _Blocks,
    form: Callable[[Array], Any],
    pair: Callable[[Any, Any], dict[int, Array]],
) -> dict[int, Array]:
    """Kernels from one pair of blocks at a time; the last block repeats a row."""
    rows = _cut(x1, blocks.rows)
    load = (lambda factors: factors) if blocks.keep else form
    stored = jax.lax.map(form, rows) if blocks.keep else rows
    if x2 is None:
        count = len(rows)
        first, second = np.triu_indices(count)

        def one(place: tuple[Array, Array]) -> dict[int, Array]:
            i, j = place
            left = load(jax.tree.map(lambda a: a[i], stored))
            right = load(jax.tree.map(lambda a: a[j], stored))
            return jax.tree.map(
                lambda k: jnp.where(i == j, _symmetrise(k), k), pair(left, right)
            )

        upper = jax.lax.map(one, (jnp.asarray(first), jnp.asarray(second)))
        place = np.zeros((count, count), int)
        place[first, second] = place[second, first] = np.arange(len(first))

        def mirror(k: Array) -> Array:
            below = np.tril(np.ones((count, count), bool), -1)
            below = below.reshape(count, count, *(1,) * (k.ndim - 1))
            return jnp.where(below, jax.vmap(jax.vmap(_swap))(k[place]), k[place])

        grid = jax.tree.map(mirror, upper)
    else:
        columns = _cut(x2, blocks.rows)
        others = jax.lax.map(form, columns) if blocks.keep else columns

        def strip(block: Any) -> dict[int, Array]:
            left = load(block)
            return jax.lax.map(lambda other: pair(left, load(other)), others)

        grid = jax.lax.map(strip, stored)

    def join(k: Array) -> Array:
        tall = k.shape[0] * k.shape[2], k.shape[1] * k.shape[3]
        whole = jnp.swapaxes(k, 1, 2).reshape(tall + k.shape[4:])
        return whole[: len(x1), : len(x1 if x2 is None else x2)]

    return jax.tree.map(join, grid)


def _cut(x: Array, rows: int) -> Array:
    """x as blocks [count, rows or fewer, ...] of one size, the last row repeated."""
    count = -(-len(x) // rows)
    rows = -(-len(x) // count)
    place = np.minimum(np.arange(count * rows), len(x) - 1)
    return x[place].reshape(count, rows, *x.shape[1:])


def _by_halves(
    factors: Any, pair: Callable[[Any, Any], dict[int, Array]]
) -> dict[int, Array]:
    """pair(factors, factors), which is symmetric, from about half of its products."""
    n = len(jax.tree.leaves(factors)[0])
    tiles = []  # (first row, first column, kernels), on and above the diagonal

    def cut(start: int, stop: int, halvings: int) -> None:
        middle = (start + stop) // 2
        if halvings == 0 or middle - start < _SMALLEST_HALF:
            part = jax.tree.map(lambda a: a[start:stop], factors)
            tiles.append((start, start, jax.tree.map(_symmetrise, pair(part, part))))
            return
        top = jax.tree.map(lambda a: a[start:middle], factors)
        bottom = jax.tree.map(lambda a: a[middle:stop], factors)
        tiles.append((start, middle, pair(top, bottom)))
        cut(start, middle, halvings - 1)
        cut(middle, stop, halvings - 1)

    def join(*parts: Array) -> Array:
        k = jnp.zeros((n, n, *parts[0].shape[2:]), parts[0].dtype)
        for (row, column, _), part in zip(tiles, parts, strict=True):
            tall, wide = part.shape[:2]
            k = k.at[row : row + tall, column : column + wide].set(part)
            if row != column:
                k = k.at[column : column + wide, row : row + tall].set(_swap(part))
        return k

    cut(0, n, _HALVINGS)
    return jax.tree.map(join, *(kernels for _, _, kernels in tiles))


def _swap(k: Array) -> Array:
    """The kernel with its arguments exchanged, and with them the outputs of `full`."""
    return jnp.transpose(k, (1, 0, *range(2, k.ndim)[::-1]))


def _symmetrise(k: Array) -> Array:
    return (k + _swap(k)) / 2


def ntk_vector_product(
    apply_fn: ApplyFn,
    params: Params,
    x1: ArrayLike,
    vector: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "trace",
) -> Array:
    """K(x1, x2) v without forming K: backward over x2, then forward over x1.

    Args:
      apply_fn: as in `empirical_ntk`.
      params: as in `empirical_ntk`.
      x1: [n1, ...].
      vector: v [n2] for `trace` and `pseudo`; [n2, C] for `full` (summed over both)
        and for `diagonal` (each output's kernel applied to its own column).
      x2: [n2, ...], or None for x1.
      kind: as in `empirical_ntk`; `trace` and `diagonal` cost C products.

    Returns:
      [n1], or [n1, C] for `full` and `diagonal`.

    Raises:
      ValueError: as `empirical_ntk`, or a vector of the wrong shape.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> print(ntk_vector_product(lambda w, x: x @ w, jnp.ones(2), x, jnp.ones(2)))
    [16. 36.]
    """
    _check_kind(kind)
    x1, x2 = _check_inputs(x1, x2)
    x2 = x1 if x2 is None else x2
    outputs, leaves, _ = _per_sample(apply_fn, params)
    with jax.default_matmul_precision("highest"):

        def all_outputs(leaves: list[Array], x: Array) -> Array:
            return jax.vmap(outputs, in_axes=(None, 0))(leaves, x)

        f2, pullback = jax.vjp(lambda p: all_outputs(p, x2), leaves)
        n2, count = f2.shape
        vector = jnp.asarray(vector, f2.dtype)
        wanted = (n2, count) if kind in ("full", "diagonal") else (n2,)
        if vector.shape != wanted:
            raise ValueError(
                f"The vector for kind {kind!r} must have shape {wanted}; "
                f"got {vector.shape}."
            )

        def product(cotangent: Array) -> Array:
            (direction,) = pullback(cotangent)
            return jax.jvp(lambda p: all_outputs(p, x1), (leaves,), (direction,))[1]

        if kind == "full":
            return product(vector)
        if kind == "pseudo":
            each = jnp.broadcast_to(vector[:, None], f2.shape)
            return product(each).sum(axis=1) / count

        def one_output(one_hot: Array) -> Array:
            along = vector if kind == "diagonal" else vector[:, None]
            return product(along * one_hot[None]) @ one_hot

        each = jax.lax.map(one_output, jnp.eye(count, dtype=f2.dtype))
        return each.T if kind == "diagonal" else each.mean(axis=0)


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a kernel, in float64 on the host."""

    eigenvalues: np.ndarray  # [n], descending
    eigenvectors: np.ndarray  # [n, n], one per column
    minimum: float  # eigenvalue; a negative one measures the kernel's rounding
    maximum: float


def spectrum(k: ArrayLike) -> Spectrum:
    """The eigendecomposition of a symmetric kernel, in float64 on the host.

    Not for use inside a training step: store the kernel, decompose it afterwards.

    Args:
      k: concrete [n, n], or a `full` kernel [n, n, C, C], taken as [n C, n C].

    Raises:
      ValueError: k is traced, not square, or not finite.

    >>> spectrum(np.diag([1.0, 3.0])).eigenvalues
    array([3., 1.])
    """
    if isinstance(k, Tracer):
        raise ValueError(
            "spectrum works on the host; call it outside jit and vmap, on the kernel."
        )
    k = np.asarray(jax.device_get(k), np.float64)
    if k.ndim == 4:
        k = k.swapaxes(1, 2).reshape(k.shape[0] * k.shape[2], -1)
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(f"A square kernel is needed; got shape {k.shape}.")
    if not np.isfinite(k).all():
        raise ValueError("The kernel has entries that are not finite.")
    values, vectors = np.linalg.eigh((k + k.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    return Spectrum(values, vectors, float(values[-1]), float(values[0]))


def top_eigenpairs(
    apply_fn: ApplyFn,
    params: Params,
    x: ArrayLike,
    count: int,
    *,
    kind: Literal["trace", "pseudo", "full"] = "trace",
    tolerance: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues and their eigenvectors, without forming the kernel.

    Lanczos on `ntk_vector_product`: memory O(n count) instead of O(n^2). The products
    run in the dtype of apply_fn, which bounds the accuracy.

    Args:
      apply_fn: as in `empirical_ntk`.
      params: as in `empirical_ntk`.
      x: [n, ...].
      count: 1 to m - 1, with m = n, or n C for `full`.
      kind: as in `empirical_ntk`; `diagonal` is C matrices and not offered.
      tolerance: relative, for the eigenvalues; 0 is machine precision.

    Returns:
      Eigenvalues [count], descending, and eigenvectors [m, count].

    Raises:
      ValueError: as `empirical_ntk`, or count out of range.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> values, _ = top_eigenpairs(lambda w, x: x @ w, jnp.ones(2), x, 1)
    >>> print(values.round(5))
    [4.]
    """
    _check_kind(kind)
    if kind == "diagonal":
        raise ValueError("top_eigenpairs takes kind trace, pseudo or full.")
    x, _ = _check_inputs(x, None)
    outputs, leaves, _ = _per_sample(apply_fn, params)
    out = jax.eval_shape(lambda leaves, x: outputs(leaves, x[0]), leaves, x)
    shape = (len(x), out.size) if kind == "full" else (len(x),)
    size = int(np.prod(shape))
    if not 1 <= count < size:
        raise ValueError(f"count must be in 1 .. {size - 1}; got {count}.")

    @jax.jit
    def product(params: Params, x: Array, vector: Array) -> Array:
        return ntk_vector_product(apply_fn, params, x, vector, kind=kind)

    def multiply(vector: np.ndarray) -> np.ndarray:
        moved = jax.device_put(vector.reshape(shape).astype(out.dtype))
        return np.asarray(jax.device_get(product(params, x, moved)), np.float64).ravel()

    linalg: Any = scipy.sparse.linalg  # whose annotations are wrong
    operator = linalg.LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    values, vectors = linalg.eigsh(
        operator, k=count, which="LA", tol=tolerance, v0=start
    )
    return values[::-1], vectors[:, ::-1]


def linearize(apply_fn: ApplyFn, params: Params) -> ApplyFn:
    """First-order Taylor expansion of apply_fn in its parameters around `params`.

    f_lin(new, x) = f(params, x) + df/dparams (new - params): exact at `params`, and
    its kernel at any `new` is that of apply_fn at `params`. Train it with any loss and
    optimiser for a lazy reference where no closed form exists (Adam, cross-entropy);
    for gradient descent on squared error there is `lazy_dynamics`.

    Args:
      apply_fn: maps (params, x) to outputs of any shape.
      params: any tree; leaves that are not floating stay at their value here.

    Returns:
      f_lin(new_params, x), with new_params a tree like params.

    >>> f = linearize(lambda w, x: w**2 * x, jnp.float32(3.0))
    >>> print(f(jnp.float32(3.0), 1.0), f(jnp.float32(4.0), 1.0))
    9.0 15.0
    """
    base, structure = jax.tree.flatten(params)
    base = [jnp.asarray(leaf) for leaf in base]
    places = _floating(base)

    def linearized(new_params: Params, x: Array) -> Array:
        def apply(*leaves: Array) -> Array:
            return apply_fn(structure.unflatten(_replace(base, places, leaves)), x)

        new = structure.flatten_up_to(new_params)
        start = [base[i] for i in places]
        change = [jnp.asarray(new[i], base[i].dtype) - base[i] for i in places]
        value, slope = jax.jvp(apply, start, change)
        return jax.tree.map(jnp.add, value, slope)

    return linearized


def kernel_regression(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_test_train: ArrayLike,
    ridge: float | ArrayLike = 0.0,
) -> Array:
    """Predictions of kernel (ridge) regression, K_test,train (K + ridge I)^+ y.

    With ridge 0 and eigenvalues >= 0 it is where `lazy_dynamics` from f0 = 0 ends.
    Eigenvalues below P times the rounding unit of the largest count as zero.

    Given concrete arrays it works in float64 on the host, whatever JAX's default
    precision; under `jit` and `vmap` in the dtype of its inputs.

    Args:
      k_train: [P, P]; or a `full` kernel [P, P, C, C].
      y_train: [P] or [P, C]; with [P, P] every output has the same kernel.
      k_test_train: [M, P], or [M, P, C, C].
      ridge: added to the diagonal.

    Returns:
      [M] or [M, C], like y_train.

    Raises:
      ValueError: the shapes do not fit together.

    >>> k = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> print(kernel_regression(k, np.array([1.0, -1.0]), k[:1]))
    [1.]
    """
    xp, (k, y, k_test, ridge) = _host_if_concrete(k_train, y_train, k_test_train, ridge)
    k, y_columns, k_test = _as_matrices(k, y, k_test)
    with jax.default_matmul_precision("highest"):
        values, vectors = xp.linalg.eigh((k + k.T) / 2)
        values = values + ridge
        size = xp.abs(values)
        zero = size <= len(k) * xp.finfo(k.dtype).eps * xp.max(size)
        inverse = xp.where(zero, 0.0, 1 / xp.where(zero, 1.0, values))
        out = k_test @ (vectors @ (inverse[:, None] * (vectors.T @ y_columns)))
    return _on_device(out.reshape(-1, *y.shape[1:]))


def lazy_dynamics(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_eval_train: ArrayLike,
    learning_rate: float | ArrayLike,
    steps: Sequence[int] | ArrayLike,
    f0_train: ArrayLike | None = None,
    f0_eval: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Exact predictions of gradient descent on a linearised model, at any steps.

    Full-batch gradient descent without momentum on the mean over samples of the
    squared error summed over outputs, L = (1/P) sum_i |f(x_i) - y_i|^2, moves the
    residual r = f - y by r <- (I - (2 lr / P) K) r, so with c = 2 lr / P

      f_train(t) = y + (I - c K)^t (f0 - y)
      f_eval(t)  = f0_eval - K_eval [I - (I - c K)^t] K^-1 (f0 - y)

    evaluated eigenvalue by eigenvalue; zero eigenvalues and steps that oscillate or
    diverge (lr > P / lambda_max) included. Where the loss also averages over C
    outputs, pass lr / C. A [P, P] kernel acts on every output alike (`trace`, an
    approximation for C > 1); with `full` the outputs mix and the result is exact.

    Given concrete arrays it works in float64 on the host, whatever JAX's default
    precision; under `jit` and `vmap` in the dtype of its inputs.

    Args:
      k_train: [P, P]; or a `full` kernel [P, P, C, C].
      y_train: [P] or [P, C].
      k_eval_train: [M, P], or [M, P, C, C].
      learning_rate: of L above.
      steps: [S] integers >= 0.
      f0_train: predictions at step 0, like y_train; None: zero.
      f0_eval: [M] or [M, C]; None: zero.

    Returns:
      f_train [S, P] or [S, P, C], and f_eval [S, M] or [S, M, C].

    Raises:
      ValueError: the shapes do not fit together, or a step is no integer >= 0.

    >>> k, y = np.array([[1.0]]), np.array([1.0])
    >>> f_train, f_eval = lazy_dynamics(k, y, 2 * k, 0.25, [0, 1, 2, 1000])
    >>> print(f_train[:, 0], f_eval[:, 0])
    [0.   0.5  0.75 1.  ] [0.  1.  1.5 2. ]
    """
    _check_steps(steps)
    given = [k_train, y_train, k_eval_train, learning_rate, steps]
    starts = [f for f in (f0_train, f0_eval) if f is not None]
    xp, (k, y, k_eval, rate, t, *starts) = _host_if_concrete(*given, *starts)
    k, target, k_eval = _as_matrices(k, y, k_eval)
    outputs = target.shape[1]

    def start(given: ArrayLike | None, rows: int, name: str) -> Any:
        if given is None:
            return xp.zeros((rows, outputs), k.dtype)
        value: Any = starts.pop(0)
        wanted = (rows * outputs // math.prod(y.shape[1:]), *y.shape[1:])
        if value.shape != wanted:
            raise ValueError(f"{name} must have shape {wanted}; got {value.shape}.")
        return value.reshape(rows, outputs)

    train = start(f0_train, len(k), "f0_train")
    evaluated = start(f0_eval, len(k_eval), "f0_eval")
    rate = 2 * rate / len(y)
    with jax.default_matmul_precision("highest"), np.errstate(all="ignore"):
        values, vectors = xp.linalg.eigh((k + k.T) / 2)
        left, moved = _decay(xp, rate * values, t.astype(k.dtype))
        modes = vectors.T @ (train - target)

        def combine(basis: Any, weights: Any) -> Any:
            """basis [m, P] times (weights [S, P] modes [P, C]) -> [S, m, C]."""
            weighted = (weights.T[:, :, None] * modes[:, None, :]).reshape(len(k), -1)
            mixed = (basis @ weighted).reshape(len(basis), len(t), outputs)
            return xp.swapaxes(mixed, 0, 1)

        f_train = target[None] + combine(vectors, left)
        f_eval = evaluated[None] - rate * combine(k_eval @ vectors, moved)
    shape = (len(t), -1, *y.shape[1:])
    return _on_device(f_train.reshape(shape)), _on_device(f_eval.reshape(shape))


def _decay(xp: Any, z: Any, t: Any) -> tuple[Any, Any]:
    """(1 - z)^t and (1 - (1 - z)^t) / z, for z [P] and t [S], as [S, P]."""
    z, t = z[None, :], t[:, None]
    # log|1 - z| without cancellation on either side of z = 1
    slope = xp.log1p(xp.where(z < 1, -z, z - 2))
    exponent = xp.where(t == 0, 0.0, t * slope)
    sign = xp.where((z > 1) & (t % 2 == 1), -1.0, 1.0)
    left = sign * xp.exp(exponent)
    moved = xp.where(z < 1, -xp.expm1(exponent), 1 - left)
    return left, xp.where(z == 0, t, moved / xp.where(z == 0, 1.0, z))


def _check_steps(steps: Sequence[int] | ArrayLike) -> None:
    if isinstance(steps, Tracer):
        return
    values = np.asarray(jax.device_get(steps))
    if values.ndim != 1 or (values < 0).any() or (values != np.floor(values)).any():
        raise ValueError(f"steps must be a list of integers >= 0; got {steps}.")


def _as_matrices(k: Any, y: Any, k_eval: Any) -> tuple[Any, Any, Any]:
    """Kernels [P, P] and [M, P] and targets [P, C]; a `full` kernel as one output."""
    wanted = 2 * y.shape[:1]
    if k.ndim == 4 and y.ndim == 2:
        wanted += 2 * y.shape[1:]
    fits = k.shape == wanted and k_eval.shape[1:] == wanted[1:]
    if y.ndim not in (1, 2) or k_eval.ndim != k.ndim or not fits:
        raise ValueError(
            "Kernels [P, P] and [M, P] with targets [P] or [P, C], or [P, P, C, C] and "
            f"[M, P, C, C] with targets [P, C], are needed; got {k.shape}, "
            f"{k_eval.shape} and {y.shape}."
        )
    if k.ndim == 2:
        return k, y.reshape(len(y), -1), k_eval
    flat = [a.swapaxes(1, 2).reshape(-1, y.size) for a in (k, k_eval)]
    return flat[0], y.reshape(-1, 1), flat[1]


def _host_if_concrete(*arrays: ArrayLike) -> tuple[Any, list[Any]]:
    """numpy and float64 arrays, or jax.numpy and the arrays if any is traced."""
    if any(isinstance(a, Tracer) for a in arrays):
        return jnp, [jnp.asarray(a) for a in arrays]
    return np, [np.asarray(jax.device_get(a), np.float64) for a in arrays]


def _on_device(result: Any) -> Array:
    """The result as a JAX array in JAX's precision, by an explicit transfer."""
    return result if isinstance(result, Array) else jax.device_put(result)
