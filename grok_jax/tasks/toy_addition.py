"""Addition of embedded symbols (Liu et al. 2023, Omnigrok, Fig. 6)."""

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count, NonNegative, Rank, Share
from grok_jax.types import Dataset, Split


def toy_addition(
    keys: Keys,
    *,
    symbols: Count = 10,
    train_size: Rank = 45,
    messiness: Share = 0.0,
    dimension: Count = 2,
    spread: NonNegative = 0.3,
    target_dim: Count = 30,
    modular: bool = False,
    cover: bool = False,
) -> Dataset:
    """x = R_i + R_j for all pairs i <= j of p symbols; y is the target vector of i + j.

    The representation R [p, d] is fixed, messiness R_random + (1 - messiness) R_linear:
    R_random ~ U(-1, 1); the first coordinate of R_linear is evenly spaced from -1 to 1,
    the others are from U(-spread, spread) (as in the authors' code). The same draws are
    used for every messiness. The target vectors are N(0, I).

    Shapes: x [p (p + 1) / 2, d], y [p (p + 1) / 2, target_dim]; extras["targets"] holds
    the vector of each answer, extras["representation"] is R. The split is a weight:
    train and test share the table. A smaller train set with the same seed is a subset
    of a larger one; training on all pairs makes the test loss NaN.

    Args:
      train_size: number of training pairs.
      spread: 0 for symbols on a straight line.
      modular: whether the answer is i + j modulo p (the authors' code) instead of the
        plain sum (their text): p target vectors instead of 2 p - 1.
      cover: whether the train set holds a pair of every answer, if it is that large: no
        network can infer the vector of an answer that it was never shown.
    """
    p = symbols
    a, b = (jnp.asarray(index) for index in np.triu_indices(p))
    answer = (a + b) % p if modular else a + b

    def uniform(name: str, width: int) -> jax.Array:
        return jax.random.uniform(named_key(keys.data, name), (p, width), minval=-1.0)

    line = jnp.linspace(-1.0, 1.0, p)[:, None]
    linear = jnp.concatenate([line, spread * uniform("linear", dimension - 1)], axis=1)
    table = messiness * uniform("random", dimension) + (1 - messiness) * linear
    count = p if modular else 2 * p - 1
    targets = jax.random.normal(named_key(keys.data, "targets"), (count, target_dim))
    x, y = table[a] + table[b], targets[answer]
    rank = jax.random.permutation(keys.split, len(a))
    if cover:  # the first pair of each answer comes before all others
        first = jnp.full(count, len(a)).at[answer].min(rank)
        rank = jnp.argsort(jnp.argsort(rank - len(a) * (rank == first[answer])))
    train = rank < train_size
    weight = train.astype(x.dtype)
    extras = {"a": a, "b": b, "answer": answer}
    extras |= {"targets": targets, "representation": table}
    return Dataset(Split(x, y, weight), Split(x, y, 1 - weight), extras)
