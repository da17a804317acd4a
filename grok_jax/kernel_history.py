"""How far, how fast and to what the kernels stored during training moved.

Everything runs on the host in float64; no spectrum is computed in a compiled step.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class KernelHistory(NamedTuple):
    """Measures [..., S] of kernels [..., S, m, m]; NaN where none was stored."""

    distance: np.ndarray
    """Distance from the first kernel, 1 - <K_t, K_0> / (|K_t| |K_0|), in [0, 1]."""
    velocity: np.ndarray
    """|K_t - K_s|_F / |K_s|_F, where s is the previous record; 0 at the first."""
    effective_rank: np.ndarray
    """(Tr K)^2 / Tr K^2: 1 for rank one, m for the identity."""
    top_power: np.ndarray
    """Share of |y|^2 in the top `top` eigenvectors, in [0, 1]."""
    difficulty: np.ndarray
    """Tr y^T K^-1 y over eigenvalues above m * eps (float32) of the largest (eq. 8)."""
    smallest: np.ndarray
    """Smallest eigenvalue divided by the largest; negative only through rounding."""


def kernel_history(
    kernels: ArrayLike, targets: ArrayLike, top: int = 10
) -> KernelHistory:
    """Measures of kernels [..., S, m, m] with targets [..., S, m] or [..., S, m, C], or
    [m] for all of them.

    Records without a kernel (NaN) are skipped: the velocity is measured from the last
    record that has one.

    Raises: ValueError if the shapes do not go together.

    >>> k = np.stack([np.eye(2), np.diag([1.0, 0.0])])
    >>> history = kernel_history(k, np.array([[1.0, 0.0], [1.0, 0.0]]), top=1)
    >>> history.effective_rank.tolist(), history.distance.round(3).tolist()
    ([2.0, 1.0], [0.0, 0.293])
    """
    kernels = np.asarray(kernels, np.float64)
    given, targets = targets, np.asarray(targets, np.float64)
    if targets.ndim == 1:
        targets = np.broadcast_to(targets, (*kernels.shape[:-2], len(targets)))
    if targets.ndim == kernels.ndim - 1:
        targets = targets[..., None]
    if targets.shape[:-1] != kernels.shape[:-1]:
        raise ValueError(
            f"Kernels {list(kernels.shape)} need targets {list(kernels.shape[:-1])}, "
            "with one more axis for several outputs; these are "
            f"{list(np.shape(given))}."
        )
    lead = kernels.shape[:-2]
    out = np.full((len(KernelHistory._fields), *lead), np.nan)
    for run in np.ndindex(lead[:-1]):
        stored = np.isfinite(kernels[run]).all(axis=(-1, -2))
        before = first = None
        for record in np.flatnonzero(stored):
            kernel = kernels[run][record]
            first = kernel if first is None else first
            before = kernel if before is None else before
            out[(slice(None), *run, record)] = _measure(
                kernel, first, before, targets[run][record], top
            )
            before = kernel
    return KernelHistory(*out)


def _measure(
    kernel: np.ndarray,
    first: np.ndarray,
    before: np.ndarray,
    targets: np.ndarray,
    top: int,
) -> list[float]:
    values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
    largest = values[-1]
    power = np.sum((vectors.T @ targets) ** 2, axis=1)
    kept = values > len(values) * np.finfo(np.float32).eps * largest
    norm = np.linalg.norm
    return [
        1 - np.sum(kernel * first) / (norm(kernel) * norm(first)),
        float(norm(kernel - before) / norm(before)),
        float(values.sum() ** 2 / np.sum(values**2)),
        float(power[-top:].sum() / power.sum()),
        float(np.sum(power[kept] / values[kept])),
        float(values[0] / largest),
    ]
