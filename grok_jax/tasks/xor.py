"""XOR clusters in high dimension (Xu et al. 2025, GrokTransfer, Sec. 3)."""

from typing import Annotated

import jax.numpy as jnp

from grok_jax.rng import Keys, named_key, sign_rows
from grok_jax.settings import Bounds, Count
from grok_jax.types import Dataset, Split

Dimension = Annotated[int, Bounds(low=3)]


def xor_clusters(
    keys: Keys,
    *,
    dimension: Dimension = 80_000,
    train_size: Count = 400,
    test_size: Count = 400,
) -> Dataset:
    """x [n, dimension] int8 of -1 and +1, equally likely; y [n] = x_1 x_2, -1.0 or 1.0.

    The first two columns are signal and all others noise. The paper scales the noise by
    eps; here `cluster_net` does, so that an example takes one byte per column. For the
    same seed, a larger train set begins with the smaller one, and likewise a test set.
    """

    def split(name: str, size: int) -> Split:
        x = sign_rows(named_key(keys.data, name), size, dimension)
        return Split(x, (x[:, 0] * x[:, 1]).astype(float), jnp.ones(size))

    return Dataset(split("train", train_size), split("test", test_size), {})
