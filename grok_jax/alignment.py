"""How well a kernel fits a task: alignment, distance, spectral power, difficulty.

Every function takes kernels [n, n] and targets [n] or [n, C] and returns arrays.
`cka`, `kernel_distance` and `effective_rank` are a few sums and may be evaluated inside
a training step. `target_power` and `difficulty` factorise the kernel: given concrete
arrays they run on the host in float64, whatever JAX's default precision is; under `jit`
or `vmap` they use the dtype of their inputs (a batched eigendecomposition is slow on a
GPU: store the kernel and call them later).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from grok_jax.precision import host_if_concrete, on_device


def cka(
    k: ArrayLike,
    y: ArrayLike,
    centered: bool = False,
    *,
    seen: ArrayLike | None = None,
) -> jax.Array:
    """Kernel-target alignment, y^T K y / (|K|_F |y|^2), in [0, 1] for a PSD kernel.

    It is 1 when K is proportional to y y^T, so that the target is its only function.
    Targets unrelated to K give tr K / (n |K|_F), at most 1 / sqrt(n). For targets
    [n, C] it is <K, y y^T> / (|K|_F |y y^T|_F), the same number when C = 1.
    Source: Kumar et al. 2024 (with K on the test inputs); Cortes et al. 2012 for
    `centered`.

    Args:
      k: kernel [n, n].
      y: targets [n] or [n, C].
      centered: subtract the mean from y, and row and column means from K.
      seen: bool [n], the examples that count; all by default. The result is that of
        their kernel and targets alone.

    Returns:
      A scalar; NaN where K or y (after centring) is zero.

    Raises:
      ValueError: k is not square or y does not have one row per row of k.

    >>> y = jnp.array([1.0, -2.0, 3.0])
    >>> print(f"{cka(jnp.outer(y, y), y):.3f}  {cka(jnp.eye(3), y):.3f}")
    1.000  0.577
    """
    k, y = jnp.asarray(k), jnp.asarray(_as_columns(k, y))
    rows = None if seen is None else jnp.asarray(seen)[:, None]
    if centered:
        k, y = _center(_center(k, rows).T, rows).T, _center(y, rows)
    if rows is not None:
        k, y = jnp.where(rows & rows.T, k, 0), jnp.where(rows, y, 0)
    k, y = _unit(k), _unit(y)
    target_norm = jnp.linalg.norm(_matmul(y.T, y))
    return jnp.sum(y * _matmul(k, y)) / target_norm


def kernel_distance(k1: ArrayLike, k2: ArrayLike) -> jax.Array:
    """Distance between two kernels up to scale, 1 - <K1, K2> / (|K1|_F |K2|_F).

    In [0, 1] for PSD kernels: 0 when they are proportional (no change since K1 up to
    scale), 1 when orthogonal. Source: Fort et al. 2020. Divided by the time between the
    kernels it is the kernel velocity. The kernels may have any shape that they share,
    so `diagonal` and `full` kernels can be compared too.

    Raises:
      ValueError: the two shapes differ.

    >>> k = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> print(f"{kernel_distance(k, k):.3f} {kernel_distance(k, jnp.eye(2)):.3f}")
    0.000 0.106
    """
    k1, k2 = jnp.asarray(k1), jnp.asarray(k2)
    if k1.shape != k2.shape:
        raise ValueError(f"The kernels differ in shape: {k1.shape} and {k2.shape}.")
    # Half the squared chord between the unit kernels: no cancellation near zero.
    return jnp.sum((_unit(k1) - _unit(k2)) ** 2) / 2


def effective_rank(k: ArrayLike) -> jax.Array:
    """Participation ratio of the spectrum, (tr K)^2 / tr K^2, in [1, n] for PSD K.

    It is 1 when a single eigenvalue dominates and n when all are equal. If it falls
    during training, the kernel is concentrating on few functions.

    Raises:
      ValueError: k is not square.

    >>> print(effective_rank(jnp.eye(4)), effective_rank(jnp.ones((4, 4))))
    4.0 1.0
    """
    _rows(k)
    k = jnp.asarray(k)
    return (jnp.trace(k) / jnp.linalg.norm(k)) ** 2


def target_power(k: ArrayLike, y: ArrayLike) -> jax.Array:
    """Cumulative share of |y|^2 in the leading eigenvectors of K, [n].

    Entry i is sum_{j <= i} |v_j^T y|^2 / |y|^2 with eigenvalues in descending order;
    non-decreasing, last entry 1. A curve that rises early means that the target lies
    in the functions that the kernel learns first (Canatar et al. 2021; Kumar et al.
    2024, Fig. 5 uses single eigenvectors as targets).

    Args:
      k: symmetric kernel [n, n].
      y: targets [n] or [n, C] (summed over outputs).

    Raises:
      ValueError: k is not square or y does not have one row per row of k.

    >>> print(target_power(np.diag([1.0, 3.0]), np.array([3.0, 4.0])))
    [0.64 1.  ]
    """
    xp, (k, y) = host_if_concrete(k, _as_columns(k, y))
    _, vectors = xp.linalg.eigh(_symmetric(k))
    cumulative = xp.cumsum(xp.sum((vectors[:, ::-1].T @ y) ** 2, axis=1))
    return on_device(cumulative / cumulative[-1])


def difficulty(k: ArrayLike, y: ArrayLike, ridge: float | ArrayLike = 0.0) -> jax.Array:
    """Difficulty of a task for a kernel, y^T (K + ridge I)^-1 y, non-negative.

    Source: Kumar et al. 2024, eq. 8, with the kernel at initialisation. In the lazy
    limit it is the squared parameter displacement that fits y exactly: a high value
    means that the network has to move far. Summed over outputs for targets [n, C].

    Args:
      k: symmetric kernel [n, n]; one that is singular, be it to rounding, needs a
        ridge.
      y: targets [n] or [n, C].
      ridge: added to the diagonal.

    Returns:
      A scalar; under `jit` or `vmap`, NaN where K + ridge I is not positive.

    Raises:
      ValueError: k is not square or y does not have one row per row of k; or, given
        concrete arrays, K + ridge I is not positive.

    >>> print(difficulty(np.diag([1.0, 4.0]), np.array([1.0, 2.0])))
    2.0
    """
    columns = _as_columns(k, y)
    xp, (matrix, columns, ridge) = host_if_concrete(k, columns, ridge)
    regular = _symmetric(matrix) + ridge * xp.eye(len(matrix), dtype=matrix.dtype)
    if xp is np:
        try:
            root = np.linalg.cholesky(regular)
        except np.linalg.LinAlgError as error:
            raise ValueError("K + ridge I is not positive; give a ridge.") from error
        solved = np.linalg.solve(root, columns)
    else:
        root = jax.scipy.linalg.cholesky(regular, lower=True)
        solved = jax.scipy.linalg.solve_triangular(root, columns, lower=True)
    return on_device(xp.sum(solved**2))


def _as_columns(k: ArrayLike, y: ArrayLike) -> Any:
    """The targets as [n, C], checked against the kernel; numpy arrays stay numpy."""
    n = _rows(k)
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    if y.ndim not in (1, 2) or y.shape[0] != n:
        raise ValueError(
            f"The targets must be [n] or [n, C] with n = {n} rows, one per row of the "
            f"kernel; got shape {y.shape}."
        )
    return y.reshape(n, -1)


def _rows(k: ArrayLike) -> int:
    shape = np.shape(k)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"A kernel [n, n] is needed here; got shape {shape}.")
    return shape[0]


def _center(a: jax.Array, rows: jax.Array | None) -> jax.Array:
    """a [n, m] without the mean over its rows, or over those where `rows` [n, 1]."""
    return a - jnp.mean(a, axis=0, keepdims=True, where=rows)


def _unit(a: Any) -> jax.Array:
    return a / jnp.linalg.norm(a)


def _symmetric(k: Any) -> Any:
    return (k + k.T) / 2


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
