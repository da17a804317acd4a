"""Sparse parity: the product of a few of many signs (Xu et al. 2025, Figs. 1, 6c)."""

import jax.numpy as jnp

from grok_jax.rng import Keys, named_key, sign_rows
from grok_jax.settings import Count, SettingError
from grok_jax.types import Dataset, Split


def sparse_parity(
    keys: Keys,
    *,
    bits: Count = 40,
    support: Count = 3,
    train_size: Count = 1000,
    test_size: Count = 1000,
) -> Dataset:
    """x [n, bits] of -1.0 and +1.0 with equal probability; y [n] is 1.0 where the
    product of the first `support` of them is +1, else 0.0.

    For the same seed, a larger train set begins with the smaller one, and likewise a
    test set.
    """
    if support > bits:
        raise SettingError(
            f"task.support is {support}; it must be at most task.bits {bits}."
        )

    def split(name: str, size: int) -> Split:
        x = sign_rows(named_key(keys.data, name), size, bits).astype(float)
        y = (jnp.prod(x[:, :support], axis=1) > 0).astype(float)
        return Split(x, y, jnp.ones(size))

    return Dataset(split("train", train_size), split("test", test_size), {})
