"""Products with a kernel that is never stored, and eigenpairs of kernels."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from grok_jax.ntk.blocks import cut, in_chunks
from grok_jax.ntk.inputs import Kind, check_inputs, check_kind, per_sample
from grok_jax.types import Apply, Params

BATCH = 256
"""Rows that a product with a kernel shows the network at once."""


def ntk_vector_product(
    apply_fn: Apply,
    params: Params,
    x1: ArrayLike,
    vector: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "trace",
    batch_size: int = BATCH,
) -> Array:
    """K(x1, x2) v without forming K: backward over x2, then forward over x1.

    Its memory does not grow with n1 and n2: it holds one gradient, and the network's
    activations on `batch_size` rows.

    Args:
      apply_fn: as in `empirical_ntk`.
      params: as in `empirical_ntk`.
      x1: [n1, ...].
      vector: v [n2] for `trace` and `pseudo`; [n2, C] for `full` (summed over both)
        and for `diagonal` (each output's kernel applied to its own column).
      x2: [n2, ...], or None for x1.
      kind: as in `empirical_ntk`; `trace` and `diagonal` cost C products.
      batch_size: rows that the network sees at once.

    Returns:
      [n1], or [n1, C] for `full` and `diagonal`.

    Raises:
      ValueError: as `empirical_ntk`; a vector of the wrong shape; batch_size below 1.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> print(ntk_vector_product(lambda w, x: x @ w, jnp.ones(2), x, jnp.ones(2)))
    [16. 36.]
    """
    check_kind(kind)
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}.")
    x1, x2 = check_inputs(x1, x2)
    x2 = x1 if x2 is None else x2
    outputs, leaves, _ = per_sample(apply_fn, params)
    several = jax.vmap(outputs, in_axes=(None, 0))
    f2 = jax.eval_shape(several, leaves, x2)
    n2, count = f2.shape
    vector = jnp.asarray(vector, f2.dtype)
    wanted = (n2, count) if kind in ("full", "diagonal") else (n2,)
    if vector.shape != wanted:
        raise ValueError(
            f"The vector for kind {kind!r} must have shape {wanted}; "
            f"got {vector.shape}."
        )
    with jax.default_matmul_precision("highest"):

        def product(cotangent: Array) -> Array:
            direction = _backward(several, leaves, x2, cotangent, batch_size)
            return _forward(several, leaves, x1, direction, batch_size)

        if kind == "full":
            return product(vector)
        if kind == "pseudo":
            each = jnp.broadcast_to(vector[:, None], (n2, count))
            return product(each).sum(axis=1) / count

        def one_output(one_hot: Array) -> Array:
            along = vector if kind == "diagonal" else vector[:, None]
            return product(along * one_hot[None]) @ one_hot

        each = jax.lax.map(one_output, jnp.eye(count, dtype=f2.dtype))
        return each.T if kind == "diagonal" else each.mean(axis=0)


def _backward(
    several: Apply, leaves: list[Array], x: Array, cotangent: Array, batch_size: int
) -> list[Array]:
    """sum_i J(x_i)^T cotangent_i, a tree like the leaves."""

    def of(x: Array, cotangent: Array) -> list[Array]:
        return jax.vjp(lambda p: several(p, x), leaves)[1](cotangent)[0]

    if len(x) <= batch_size:
        return of(x, cotangent)
    rows = cut(x, batch_size)
    added = rows.shape[0] * rows.shape[1] - len(x)  # rows that count for nothing
    cotangent = jnp.pad(cotangent, ((0, added), (0, 0)))
    cotangent = cotangent.reshape(*rows.shape[:2], -1)

    def add(total: list[Array], batch: tuple[Array, Array]) -> tuple[list[Array], None]:
        return jax.tree.map(jnp.add, total, of(*batch)), None

    first = of(rows[0], cotangent[0])
    return jax.lax.scan(add, first, (rows[1:], cotangent[1:]))[0]


def _forward(
    several: Apply,
    leaves: list[Array],
    x: Array,
    direction: list[Array],
    batch_size: int,
) -> Array:
    """J(x_i) direction, [n, C]."""

    def of(x: Array) -> Array:
        return jax.jvp(lambda p: several(p, x), (leaves,), (direction,))[1]

    return in_chunks(of, x, batch_size)


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a kernel, in float64 on the host."""

    eigenvalues: np.ndarray  # [n], descending; a negative one measures the rounding
    eigenvectors: np.ndarray  # [n, n], one per column


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
    return Spectrum(values[::-1], vectors[:, ::-1])


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of a kernel [m, m], in float64 on the host."""

    values: np.ndarray  # [count], descending
    vectors: np.ndarray  # [m, count]
    errors: np.ndarray
    """[count]: |K v - value v|; an eigenvalue of K lies within it of the value."""


def top_eigenpairs(
    apply_fn: Apply,
    params: Params,
    x: ArrayLike,
    count: int,
    *,
    kind: Literal["trace", "pseudo", "full"] = "trace",
    tolerance: float = 0.0,
    batch_size: int = BATCH,
) -> Eigenpairs:
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
      batch_size: rows that the network sees at once.

    Raises:
      ValueError: as `empirical_ntk`, or count out of range.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> pairs = top_eigenpairs(lambda w, x: x @ w, jnp.ones(2), x, 1)
    >>> print(pairs.values.round(5))
    [4.]
    """
    check_kind(kind)
    if kind == "diagonal":
        raise ValueError("top_eigenpairs takes kind trace, pseudo or full.")
    operator = linear_operator(apply_fn, params, x, kind, batch_size)
    size = operator.shape[0]
    if not 1 <= count < size:
        raise ValueError(f"count must be in 1 .. {size - 1}; got {count}.")
    linalg: Any = scipy.sparse.linalg  # whose annotations are wrong
    start = np.random.default_rng(0).standard_normal(size)
    values, vectors = linalg.eigsh(
        operator, k=count, which="LA", tol=tolerance, v0=start
    )
    values, vectors = values[::-1], vectors[:, ::-1]
    images = np.stack([operator @ vector for vector in vectors.T], axis=1)
    errors = np.linalg.norm(images - values * vectors, axis=0)
    return Eigenpairs(values, vectors, errors)


def linear_operator(
    apply_fn: Apply,
    params: Params,
    x: ArrayLike,
    kind: Literal["trace", "pseudo", "full"] = "trace",
    batch_size: int = BATCH,
) -> Any:
    """The kernel of the rows of x as a `scipy.sparse.linalg.LinearOperator` [m, m],
    with m = n, or n C for `full`: what SciPy's solvers take.

    >>> operator = linear_operator(lambda w, x: x @ w, jnp.ones(2), jnp.eye(2))
    >>> print(operator @ np.array([1.0, 2.0]))
    [1. 2.]
    """
    check_kind(kind)
    x, _ = check_inputs(x, None)
    outputs, leaves, _ = per_sample(apply_fn, params)
    out = jax.eval_shape(lambda leaves, x: outputs(leaves, x[0]), leaves, x)
    shape = (len(x), out.size) if kind == "full" else (len(x),)
    size = int(np.prod(shape))

    @jax.jit
    def product(params: Params, x: Array, vector: Array) -> Array:
        return ntk_vector_product(
            apply_fn, params, x, vector, kind=kind, batch_size=batch_size
        )

    def multiply(vector: np.ndarray) -> np.ndarray:
        moved = jax.device_put(vector.reshape(shape).astype(out.dtype))
        return np.asarray(jax.device_get(product(params, x, moved)), np.float64).ravel()

    linalg: Any = scipy.sparse.linalg  # whose annotations are wrong
    return linalg.LinearOperator((size, size), matvec=multiply, dtype=np.float64)
