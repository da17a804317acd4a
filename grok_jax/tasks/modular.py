"""Binary operations modulo p, as a table of all pairs."""

from typing import Literal

import jax
import jax.numpy as jnp

from grok_jax.rng import Keys
from grok_jax.settings import Count, Fraction
from grok_jax.types import Dataset, Split

OPERATIONS = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: (a * b) % p,
}


def modular(
    keys: Keys,
    *,
    operation: Literal["addition", "subtraction", "multiplication"] = "addition",
    modulus: Count = 23,
    train_fraction: Fraction = 0.9,
) -> Dataset:
    """(a o b) mod p for all p^2 pairs; x [p^2, 2p] holds the one-hot codes of a and b,
    y [p^2, p] that of the answer.

    The split is a weight: train and test share the table, so that a train fraction and
    a split seed change no shape. round(train_fraction p^2) pairs are for training;
    with a smaller fraction of the same seed, a subset of them.
    """
    p = modulus
    a, b = (v.ravel() for v in jnp.meshgrid(*(jnp.arange(p),) * 2, indexing="ij"))
    answer = OPERATIONS[operation](a, b, p)
    x = jnp.concatenate([jax.nn.one_hot(a, p), jax.nn.one_hot(b, p)], axis=1)
    y = jax.nn.one_hot(answer, p)
    place = jax.random.permutation(keys.split, p * p)
    train = (place < jnp.round(train_fraction * p * p)).astype(x.dtype)
    return Dataset(
        Split(x, y, train), Split(x, y, 1 - train), {"a": a, "b": b, "answer": answer}
    )
