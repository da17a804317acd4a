"""Named random keys: adding a new use of randomness never changes other draws."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.settings import SettingError


def named_key(key: Array, name: str) -> Array:
    """Derives the key for one named purpose.

    >>> key = jax.random.key(0)
    >>> bool((named_key(key, "init") == named_key(key, "init")).all())
    True
    >>> bool((named_key(key, "init") == named_key(key, "data")).any())
    False
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


class Keys(NamedTuple):
    """Independent keys of one run."""

    data: Array
    split: Array
    init: Array
    batches: Array


def run_keys(
    seed: Array | int,
    *,
    data: Array | int = -1,
    split: Array | int = -1,
    init: Array | int = -1,
    batches: Array | int = -1,
) -> Keys:
    """Keys that depend only on a run's seed; one given by name (>= 0) overrides it.

    A run therefore draws the same numbers at any position in a grid.
    """
    given = {"data": data, "split": split, "init": init, "batches": batches}
    return Keys(
        **{
            name: named_key(jax.random.key(jnp.where(own < 0, seed, own)), name)
            for name, own in given.items()
        }
    )


def linear_layer(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """{"w": [in, out], "b": [out]}, both U(-k, k) with k = 1 / sqrt(in), which is
    PyTorch's default for nn.Linear and Omnigrok's initialisation at scale 1."""
    bound = inputs**-0.5

    def draw(name: str, *shape: int) -> Array:
        draw_key = named_key(key, name)
        return jax.random.uniform(draw_key, shape, minval=-bound, maxval=bound)

    return {"w": draw("w", inputs, outputs), "b": draw("b", outputs)}


def affine(layer: dict[str, Array], x: Array) -> Array:
    """A `linear_layer` of x [n, in]: x w + b, [n, out]."""
    return jnp.matmul(x, layer["w"]) + layer["b"][None]


def choose_rows(
    key: Array, count: int, train_size: int, test_size: int, what: str
) -> tuple[Array, Array]:
    """Disjoint training and test rows of a table of `count` examples; a larger set
    begins with the smaller one of the same key. `test_size` 0: all other rows.

    Raises: SettingError if there are too few; `what` names the examples.
    """
    available = count - train_size
    if max(test_size, 1) > available:
        raise SettingError(
            f"There are {count} {what}, which is not enough for task.train_size "
            f"{train_size} and task.test_size {test_size}."
        )
    order = jax.random.permutation(key, count)
    return order[:train_size], order[::-1][: test_size or available]


def gaussian_rows(key: Array, count: int, dim: int) -> Array:
    """N(0, 1) draws [count, dim], each row from its own key, so that the first n rows
    do not depend on `count`."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.normal(k, (dim,)))(keys)


def sign_rows(key: Array, count: int, dim: int) -> Array:
    """Signs -1 and +1 with equal probability, int8 [count, dim], each row from its own
    key, so that the first n rows do not depend on `count`.

    Rows are drawn one after another, so that only one row at a time takes more than a
    byte per sign.
    """

    def row(i: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, i), (-(-dim // 32),), "uint32")
        bits = (words[:, None] >> jnp.arange(32, dtype="uint32")[None]) & 1
        return 2 * bits.ravel()[:dim].astype(jnp.int8) - 1

    return jax.lax.map(row, jnp.arange(count))
