"""Concentration of a table on a few frequencies or directions: Fourier and PCA.

Networks that generalise on a modular task place its tokens on circles: embeddings
become sinusoids of a few frequencies, and logits become sums of cos(w_k (a + b - c))
(Nanda et al. 2023, arXiv 2301.05217).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def fourier_concentration(table: ArrayLike, top: int = 5) -> Array:
    """Share of the power of a table [p, d] in the `top` strongest frequencies over its
    p rows; in [0, 1].

    The power at frequency k = 1 .. p // 2 is the squared discrete Fourier transform
    over the rows, cosine and sine, summed over the d columns; the constant is left out.
    The share is 1 for sinusoids of `top` frequencies, about top / ((p - 1) / 2) for
    noise with many columns, and NaN where all rows are equal.

    Raises: ValueError for a table that is not [p, d].

    >>> angle = 2 * jnp.pi * 3 * jnp.arange(11) / 11
    >>> circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    >>> round(fourier_concentration(circle, top=1).item(), 4)
    1.0
    """
    table = jnp.asarray(table)
    if table.ndim != 2:
        raise ValueError(f"A table [p, d] is needed here; got shape {table.shape}.")
    moved = table - table[:1]  # any constant would do; this makes equal rows exactly 0
    p = len(table)
    turns = np.outer(np.arange(1, p // 2 + 1), np.arange(p)) % p / p
    basis = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])
    # a product and no FFT, which a TPU does not have in float64
    moved = moved.astype(jnp.result_type(moved, float))
    transformed = jnp.matmul(basis.astype(moved.dtype), moved, precision="highest")
    waves = jnp.sum(transformed**2, axis=(0, 2))
    count = np.where(np.arange(1, p // 2 + 1) * 2 == p, 1, 2)  # with its conjugate
    power = count * waves
    if top < 1:
        raise ValueError(f"top must be at least 1 frequency, not {top}.")
    return jnp.sum(jnp.sort(power)[-top:]) / jnp.sum(power)


def principal_components(table: ArrayLike, count: int = 2) -> tuple[Array, Array]:
    """(projections [n, count], shares [count]): the rows of a table [n, d] projected on
    its first principal components, and the share of the variance that each explains.

    The rows are centred first. The sign of each component makes its projection with the
    largest absolute value positive.

    Raises: ValueError for a table that is not [n, d], or with fewer than `count`
      components.

    >>> table = jnp.array([[0.0, 0.0], [2.0, 2.0], [7.0, 7.0]])
    >>> projections, shares = principal_components(table, count=1)
    >>> (projections / jnp.sqrt(2)).round(4).ravel().tolist(), shares.tolist()
    ([-3.0, -1.0, 4.0], [1.0])
    """
    table = jnp.asarray(table)
    if table.ndim != 2 or not 1 <= count <= min(table.shape):
        raise ValueError(
            f"{count} components need a table [n, d] with at least {count} rows and "
            f"columns; got shape {table.shape}."
        )
    centred = table - jnp.mean(table, axis=0, keepdims=True)
    u, s, _ = jnp.linalg.svd(centred, full_matrices=False)
    projections = u[:, :count] * s[None, :count]
    largest = jnp.argmax(jnp.abs(projections), axis=0)
    sign = jnp.sign(jnp.take_along_axis(projections, largest[None], axis=0))
    return projections * sign, s[:count] ** 2 / jnp.sum(s**2)
