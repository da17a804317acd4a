"""Binary operations modulo p: all pairs as one table, or as tokens."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys
from grok_jax.settings import Count, Fraction, SettingError, StaticFraction
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
    table = _pairs(operation, p)
    x = jnp.concatenate([jax.nn.one_hot(table[v], p) for v in ("a", "b")], axis=1)
    y = jax.nn.one_hot(table["answer"], p)
    place = jax.random.permutation(keys.split, p * p)
    train = (place < jnp.round(train_fraction * p * p)).astype(x.dtype)
    return Dataset(Split(x, y, train), Split(x, y, 1 - train), table)


def modular_tokens(
    keys: Keys,
    *,
    operation: Literal["addition", "subtraction", "multiplication"] = "addition",
    modulus: Count = 113,
    train_fraction: StaticFraction = 0.3,
) -> Dataset:
    """The sentences "a b =" and (a o b) mod p: x [n, 3] int32 tokens, where "=" is
    token p, and y [n] int32 (Nanda et al. 2023; Omnigrok, Fig. 7).

    Train and test are arrays of their own, so that a step touches the train pairs
    alone, and each fraction has its own shapes. They are the pairs that `modular`
    chooses; with a smaller fraction of the same seed, a subset of them. extras hold a,
    b and answer [p^2] of all pairs, as those of `modular`.
    """
    p = modulus
    count = round(train_fraction * p * p)
    if count == 0:
        raise SettingError(
            f"task.train_fraction {train_fraction} of {p * p} pairs is not one pair."
        )
    table = _pairs(operation, p)
    x = jnp.stack([table["a"], table["b"], jnp.full(p * p, p)], axis=1)
    order = jnp.argsort(jax.random.permutation(keys.split, p * p))

    def split(pairs: Array) -> Split:
        return Split(
            x[pairs].astype(jnp.int32),
            table["answer"][pairs].astype(jnp.int32),
            jnp.ones(len(pairs)),
        )

    return Dataset(split(order[:count]), split(order[count:]), table)


def _pairs(operation: str, p: int) -> dict[str, Array]:
    """a, b and answer [p^2] of every pair, in the order of a table."""
    a, b = (v.ravel() for v in jnp.meshgrid(*(jnp.arange(p),) * 2, indexing="ij"))
    return {"a": a, "b": b, "answer": OPERATIONS[operation](a, b, p)}
