"""The empirical NTK of any function, whole or for each leaf."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from grok_jax.ntk.blocks import Problem, choose_blocks, solve
from grok_jax.ntk.factors import factorize, sample_factors
from grok_jax.ntk.inputs import Kind, check_inputs, check_settings, per_sample
from grok_jax.ntk.jaxprs import footprint
from grok_jax.ntk.layers import Layer, multiplications
from grok_jax.ntk.reverse import mesh_axes, varying
from grok_jax.types import Apply, Params

MEMORY_BUDGET = 2**30
"""Bytes beyond inputs and kernel above which a kernel is computed in blocks."""


def empirical_ntk(
    apply_fn: Apply,
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
      summed outputs. C times cheaper, but a different kernel: say so when you show it.

    Args:
      apply_fn: maps (params, x [n, ...]) to [n, C] or [n] (then C = 1). Like a static
        argument of `jax.jit` it must be pure; the kernel is compiled once per
        function object, shape and kind (under `vmap`: once per call, so put
        `jax.jit` around the `vmap`).
      params: any tree; leaves that are not floating are constants.
      x1: [n1, ...].
      x2: [n2, ...], or None for x1: half the work and a symmetric result.
      kind: see above.
      block_size: rows and columns of a block, 1 or more; None: as many as fit.
      memory_budget: bytes beyond inputs and kernel that automatic blocks may take;
        above it, factors are formed again for each block instead of kept.

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
    apply_fn: Apply,
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
      ValueError: k does not have four axes.
    """
    k = jnp.asarray(k)
    if k.ndim != 4:
        raise ValueError(f"A full kernel [n1, n2, C, C] is needed; got {k.shape}.")
    n1, n2, rows, columns = k.shape
    return jnp.swapaxes(k, 1, 2).reshape(n1 * rows, n2 * columns)


def predicted_bytes(
    apply_fn: Apply,
    params: Params,
    x1: Any,
    x2: Any = None,
    *,
    kind: Kind = "trace",
    block_size: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> int:
    """Bytes that `empirical_ntk` takes besides its inputs, predicted before it runs.

    Only shapes are used (params, x1 and x2 may be `jax.ShapeDtypeStruct`s). The count
    includes the factors, the work to form them, one block with its temporaries, and two
    or three copies of the kernel. In measurements on networks with dense layers,
    attention and convolutions, XLA allocates between 1/5 and 5/4 of it.
    """
    found = []

    def count(params: Params, x1: Array, x2: Array | None) -> None:
        problem = make_problem(apply_fn, params, x1, x2, kind)
        found.append(choose_blocks(problem, block_size, memory_budget).total)

    check_settings(kind, block_size)
    jax.eval_shape(count, params, x1, x2)
    return found[0]


def _run(
    apply_fn: Apply,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
    kind: Kind,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool,
) -> list[Array]:
    check_settings(kind, block_size)
    static = (apply_fn, kind, block_size, memory_budget, by_layer)
    arrays = jax.tree.leaves((params, x1, x2))
    if _hashable(apply_fn) and not any(isinstance(a, Tracer) for a in arrays):
        return _compiled_kernels(*static, params, x1, x2)
    # Not cached: a cache would keep traced values that apply_fn closes over.
    return jax.jit(functools.partial(_kernels, *static))(params, x1, x2)


def _hashable(apply_fn: Apply) -> bool:
    """False for a module with dictionaries or arrays among its fields."""
    try:
        hash(apply_fn)
    except TypeError:
        return False
    return True


def _kernels(
    apply_fn: Apply,
    kind: Kind,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
) -> list[Array]:
    """The kernel, or one for each leaf if `by_layer`."""
    problem = make_problem(apply_fn, params, x1, x2, kind)
    blocks = choose_blocks(problem, block_size, memory_budget, by_layer)
    with jax.default_matmul_precision("highest"):
        return solve(problem, blocks, len(jax.tree.leaves(params)) if by_layer else 0)


_compiled_kernels = jax.jit(_kernels, static_argnums=range(5))


def make_problem(
    apply_fn: Apply,
    params: Params,
    x1: ArrayLike,
    x2: ArrayLike | None,
    kind: Kind,
) -> Problem:
    """Checks the inputs of a kernel and finds its layers."""
    x1, x2 = check_inputs(x1, x2)
    outputs, leaves, places = per_sample(apply_fn, params)
    with jax.default_matmul_precision("highest"):
        out = jax.eval_shape(outputs, leaves, x1[0])
        types = [jax.typeof(v) for v in (*leaves, x1, x2) if v is not None]
        axes = frozenset().union(*map(mesh_axes, [*types, out]))
        leaves = [varying(leaf, axes) for leaf in leaves]
        x1 = varying(x1, axes)
        x2 = x2 if x2 is None else varying(x2, axes)
        eye = jnp.eye(out.size, dtype=out.dtype)
        cotangents = eye.sum(0, keepdims=True) if kind == "pseudo" else eye
        cotangents = varying(cotangents, axes)

        factorization = factorize(
            jax.make_jaxpr(outputs)(leaves, x1[0]),
            len(leaves),
            lambda layer: _gram_is_cheaper(
                layer,
                len(cotangents),
                kind,
                len(x1) * len(x1 if x2 is None else x2),
                len(x1) + (0 if x2 is None else len(x2)),
            ),
        )
        formed = jax.make_jaxpr(functools.partial(sample_factors, factorization))(
            leaves, x1[0], cotangents
        )
    return Problem(
        factorization,
        places,
        leaves,
        cotangents,
        x1,
        x2,
        kind,
        out.size,
        footprint(formed, len(leaves)),
        sum(a.size * a.dtype.itemsize for a in formed.out_avals),
    )


def _gram_is_cheaper(
    layer: Layer, rows: int, kind: Kind, pairs: int, samples: int
) -> bool:
    gram, gradient = multiplications(layer, rows, kind, pairs, samples)
    return gram <= gradient
