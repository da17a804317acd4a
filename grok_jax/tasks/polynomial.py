"""Polynomial regression on Gaussian inputs (Kumar et al. 2024, Sec. 5)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count
from grok_jax.types import Dataset, Split


def polynomial(
    keys: Keys,
    *,
    input_dim: Count = 100,
    train_size: Count = 550,
    test_size: Count = 1000,
) -> Dataset:
    """x ~ N(0, I / D), y(x) = (beta . x)^2 / 2 with beta ~ N(0, I_D).

    Shapes: x [n, D], y [n]; extras["beta"] [D]. A larger train set begins with the
    smaller one of the same seed, and so does a test set.
    """
    beta = jax.random.normal(named_key(keys.data, "beta"), (input_dim,))

    def split(name: str, size: int) -> Split:
        x = _rows(named_key(keys.data, name), size, input_dim) / jnp.sqrt(input_dim)
        y = 0.5 * jnp.matmul(x, beta, precision="highest") ** 2
        return Split(x, y, jnp.ones(size))

    return Dataset(split("train", train_size), split("test", test_size), {"beta": beta})


def _rows(key: Array, count: int, dim: int) -> Array:
    """Gaussian rows, each from its own key: the first n do not depend on `count`."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.normal(k, (dim,)))(keys)
