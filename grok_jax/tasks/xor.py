"""XOR clusters in high dimension (Xu et al. 2025, GrokTransfer, Sec. 3)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, named_key, sign_rows
from grok_jax.settings import Bounds, Count, Natural, SettingError
from grok_jax.types import Dataset, Split

Dimension = Annotated[int, Bounds(low=3)]
BLOCK = 4096
"""Columns of the int8 signs that are converted to floats at a time."""


def xor_clusters(
    keys: Keys,
    *,
    dimension: Dimension = 80_000,
    train_size: Count = 400,
    test_size: Count = 400,
    fresh_size: Natural = 0,
    compact: bool = False,
) -> Dataset:
    """x [n, dimension] int8 of -1 and +1, equally likely; y [n] = x_1 x_2, -1.0 or 1.0.

    The first two columns are signal and all others noise. The paper scales the noise by
    eps; here `cluster_net` does, so that an example takes one byte per column. For the
    same seed, a larger train set begins with the smaller one, and likewise a test set.

    Args:
      fresh_size: the number of further examples, extras "fresh_x" and "fresh_y".
      compact: the noise in an orthonormal basis of what the r examples of all sets span
        in its p - 2 columns, x [n, 2 + r] floats: all that a network sees of it, in a
        fraction of the columns. `cluster_net` draws its weights accordingly.

    Raises: SettingError if compact examples are more than the columns of noise.
    """
    sizes = {"train": train_size, "test": test_size, "fresh": fresh_size}
    signs = {
        name: sign_rows(named_key(keys.data, name), size, dimension)
        for name, size in sizes.items()
    }
    labels = {name: (x[:, 0] * x[:, 1]).astype(float) for name, x in signs.items()}
    if compact:
        if sum(sizes.values()) > dimension - 2:
            raise SettingError(
                f"task.compact takes at most {dimension - 2} examples at "
                f"task.dimension {dimension}, not {sum(sizes.values())}."
            )
        rows = jnp.concatenate(list(signs.values()))
        signal, noise = rows[:, :2].astype(float), _coordinates(rows[:, 2:])
        whole = jnp.concatenate([signal, noise], axis=1)
        ends = (train_size, train_size + test_size)
        signs = dict(zip(sizes, jnp.split(whole, ends), strict=True))
    train, test = (
        Split(signs[name], labels[name], jnp.ones(sizes[name]))
        for name in ("train", "test")
    )
    fresh = {"fresh_x": signs["fresh"], "fresh_y": labels["fresh"]}
    return Dataset(train, test, fresh if fresh_size else {})


def _coordinates(signs: Array) -> Array:
    """Rows [n, n] with the inner products of the rows of `signs` [n, q] int8, q >= n:
    their coordinates in an orthonormal basis, by Cholesky's factor of the products."""
    count, columns = signs.shape
    block = min(BLOCK, columns)
    cut = columns // block * block

    def add(total: Array, start: Array) -> tuple[Array, None]:
        part = jax.lax.dynamic_slice_in_dim(signs, start, block, axis=1).astype(float)
        return total + part @ part.T, None

    zero = jnp.zeros((count, count))
    products, _ = jax.lax.scan(add, zero, jnp.arange(0, cut, block))
    rest = signs[:, cut:].astype(float)
    return jnp.linalg.cholesky(products + rest @ rest.T)
