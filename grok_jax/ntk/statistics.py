"""What is asked of a kernel that is too large to be formed."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax import Array
from jax.typing import ArrayLike

from grok_jax.ntk.blocks import in_chunks, working_bytes
from grok_jax.ntk.empirical import MEMORY_BUDGET, empirical_ntk, make_problem
from grok_jax.ntk.inputs import check_inputs
from grok_jax.ntk.matrix_free import BATCH, linear_operator
from grok_jax.types import Apply, Params


class Statistics(NamedTuple):
    """Numbers about a kernel K [m, m], float64 on the host; estimates with the standard
    error of their mean over probes."""

    trace: float
    """tr K, exact."""
    norm: float
    """|K|_F, an estimate."""
    norm_error: float
    alignment: float
    """`alignment.cka` with y, an estimate through the norm."""
    alignment_error: float
    difficulty: float
    """`alignment.difficulty`, y^T (K + ridge I)^-1 y, to `tolerance`."""
    effective_dimension: float
    """tr K (K + ridge I)^-1, an estimate."""
    effective_dimension_error: float


def kernel_statistics(
    apply_fn: Apply,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    ridge: float,
    kind: Literal["trace", "pseudo", "full"] = "trace",
    probes: int = 32,
    tolerance: float = 1e-6,
    batch_size: int = BATCH,
    seed: int = 0,
) -> Statistics:
    """Trace, norm, alignment, difficulty and effective dimension by products alone.

    The memory does not grow with n (`ntk_vector_product`). Traces of functions of K are
    means of z^T h(K) z over random signs z (Hutchinson 1989); inverses are by SciPy's
    conjugate gradients, which take about sqrt(lambda_max / ridge) products each.

    Args:
      apply_fn: as in `empirical_ntk`.
      params: as in `empirical_ntk`.
      x: [n, ...].
      y: targets [n] or [n, C], as in `alignment.cka`; for `full` [n, C], and the kernel
        is taken as the matrix [n C, n C].
      ridge: above 0.
      kind: as in `empirical_ntk`.
      probes: random vectors, 2 or more; errors fall with their square root.
      tolerance: of the solutions, relative to the right-hand side.
      batch_size: rows that the network sees at once.
      seed: of the probes.

    Raises:
      ValueError: as `empirical_ntk`; targets of the wrong shape, ridge not above 0,
        fewer than two probes.
      RuntimeError: the conjugate gradients did not converge in 10 m products, as where
        rounding makes K + ridge I indefinite.

    >>> x, y = 2 * jnp.eye(2), np.array([1.0, 2.0])  # K = 4 I
    >>> found = kernel_statistics(lambda w, x: x @ w, jnp.ones(2), x, y, ridge=1.0)
    >>> found.trace, round(found.difficulty, 6), round(found.effective_dimension, 6)
    (8.0, 1.0, 1.6)
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0; got {ridge}.")
    if probes < 2:
        raise ValueError(f"probes must be 2 or more; got {probes}.")
    operator = linear_operator(apply_fn, params, x, kind, batch_size)
    size = operator.shape[0]
    targets = np.asarray(jax.device_get(y), np.float64)
    fits = targets.size == size if kind == "full" else targets.shape[:1] == (size,)
    if not fits or targets.ndim not in (1, 2):
        raise ValueError(
            f"The targets must have one row per row of x ({np.shape(x)[0]}) and, for "
            f"kind full, one column per output; got shape {targets.shape}."
        )
    targets = targets.reshape(size, -1)
    solve = functools.partial(_solve, operator, ridge, tolerance)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (probes, size))
    images = [operator @ z for z in signs]
    squares, square_error = _mean([float(k @ k) for k in images])
    dimension, dimension_error = _mean(
        [float(k @ solve(z)) for z, k in zip(signs, images, strict=True)]
    )
    along = sum(float(c @ (operator @ c)) for c in targets.T)
    norm = float(np.sqrt(squares))
    norm_error = square_error / (2 * norm) if norm else 0.0
    aligned = along / (norm * np.linalg.norm(targets.T @ targets)) if norm else np.nan
    return Statistics(
        trace=_trace(apply_fn, params, x, kind, batch_size),
        norm=norm,
        norm_error=norm_error,
        alignment=float(aligned),
        alignment_error=float(aligned) * norm_error / norm if norm else np.nan,
        difficulty=sum(float(c @ solve(c)) for c in targets.T),
        effective_dimension=dimension,
        effective_dimension_error=dimension_error,
    )


def _mean(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def _solve(
    operator: Any, ridge: float, tolerance: float, right: np.ndarray
) -> np.ndarray:
    """(K + ridge I)^-1 right."""
    linalg: Any = scipy.sparse.linalg  # whose annotations are wrong
    regular = linalg.LinearOperator(
        operator.shape, matvec=lambda v: operator @ v + ridge * v, dtype=np.float64
    )
    found, failed = linalg.cg(regular, right, rtol=tolerance)
    if failed:
        raise RuntimeError(
            f"The conjugate gradients did not converge in {failed} products at ridge "
            f"{ridge}; a larger ridge or tolerance, or float64, may help."
        )
    return found


def _trace(
    apply_fn: Apply, params: Params, x: ArrayLike, kind: Any, batch_size: int
) -> float:
    """The sum of the kernel's diagonal."""
    rows, _ = check_inputs(x, None)

    def own(row: Array) -> Array:
        kernel = empirical_ntk(apply_fn, params, row[None], kind=kind)
        return jnp.trace(kernel[0, 0]) if kind == "full" else kernel[0, 0]

    @jax.jit
    def diagonal(x: Array) -> Array:
        problem = make_problem(apply_fn, params, x, None, kind)
        most, _ = working_bytes(problem, batch_size, batch_size, MEMORY_BUDGET)
        return in_chunks(jax.vmap(own), x, min(most, batch_size))

    return float(np.sum(np.asarray(diagonal(rows), np.float64)))
