"""Hermite polynomials, for targets and for activations."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def hermite(degree: int, z: ArrayLike) -> Array:
    """The probabilists' Hermite polynomial He_k(z), by its recursion
    He_{k+1} = z He_k - k He_{k-1}.

    >>> [hermite(k, 2.0).item() for k in range(5)]
    [1.0, 2.0, 3.0, 2.0, -5.0]
    """
    z = jnp.asarray(z)
    before, current = jnp.zeros_like(z), jnp.ones_like(z)
    for k in range(degree):
        before, current = current, z * current - k * before
    return current
