"""Random keys by name: a new consumer never shifts another's draws."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.settings import SettingError


def named_key(key: Array, name: str) -> Array:
    """The key for one purpose.

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
    """Keys from a run's own seed alone; one given by name (>= 0) stands in for it.

    A run therefore draws the same numbers wherever it stands in a grid.
    """
    own = {"data": data, "split": split, "init": init, "batches": batches}
    return Keys(
        **{
            name: named_key(jax.random.key(jnp.where(other < 0, seed, other)), name)
            for name, other in own.items()
        }
    )


def linear_layer(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """{"w": [in, out], "b": [out]}, both U(-k, k) with k = 1 / sqrt(in): what PyTorch
    draws for nn.Linear, the initialisation of Omnigrok at scale 1."""
    bound = inputs**-0.5

    def draw(name: str, *shape: int) -> Array:
        own = named_key(key, name)
        return jax.random.uniform(own, shape, minval=-bound, maxval=bound)

    return {"w": draw("w", inputs, outputs), "b": draw("b", outputs)}


def choose_rows(
    key: Array, count: int, train_size: int, test_size: int, what: str
) -> tuple[Array, Array]:
    """Rows of a table of `count` examples for training and for testing, disjoint; a
    larger set begins with the smaller one of the same key. `test_size` 0: all others.

    Raises: SettingError where there are too few; `what` names the examples.
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
    """N(0, 1) [count, dim], each row from its own key: the first n rows do not depend
    on `count`."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.normal(k, (dim,)))(keys)


def sign_rows(key: Array, count: int, dim: int) -> Array:
    """-1 and +1 with even odds, int8 [count, dim], each row from its own key: the first
    n rows do not depend on `count`.

    They are drawn one after another, so that nothing wider than a byte per sign is held
    of more than one row.
    """

    def row(i: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, i), (-(-dim // 32),), "uint32")
        bits = (words[:, None] >> jnp.arange(32, dtype="uint32")[None]) & 1
        return 2 * bits.ravel()[:dim].astype(jnp.int8) - 1

    return jax.lax.map(row, jnp.arange(count))
