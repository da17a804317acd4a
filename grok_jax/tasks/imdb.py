"""Sentiment of film reviews (Liu et al. 2023, Omnigrok, Fig. 4)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, choose_rows
from grok_jax.settings import Count, Natural
from grok_jax.types import Dataset, Split


def imdb(
    keys: Keys,
    *,
    files: dict[str, Array],
    folder: str = "",
    train_size: Count = 750,
    test_size: Natural = 0,
    vocabulary: Count = 1000,
    length: Count = 500,
) -> Dataset:
    """x [n, length] int32 holds the words of a review, 1 to `vocabulary` by how often
    they occur in the train reviews (ties: the one that comes first in the file); y [n]
    is 1.0 for a positive review and 0.0 for a negative one.

    Other words are left out; a shorter review is padded with 0 on the left, of a longer
    one the first `length` words stay (both as in the paper's code, which also balances
    the two classes between train and test; here the draw is plain). `files` is what
    `files.imdb` has read. A larger train set begins with the smaller one of the same
    seed, and so does a test set; the vocabulary follows the train set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.files`).
      test_size: 0 for all reviews that are not for training.
    """
    del folder  # read by files.imdb
    files = jax.tree.map(jnp.asarray, files)
    words, review, starts = files["words"], files["review"], files["starts"]
    reviews = len(starts)
    train, test = choose_rows(keys.data, reviews, train_size, test_size, "reviews")
    chosen = jnp.concatenate([train, test])

    for_training = jnp.zeros(reviews, jnp.int32).at[train].set(1)
    counts = (
        jnp.zeros(len(files["total"]), jnp.int32).at[words].add(for_training[review])
    )
    by_rank = jnp.argsort(-counts, stable=True)
    rank = jnp.zeros_like(by_rank).at[by_rank].set(jnp.arange(1, len(by_rank) + 1))
    token = jnp.where((counts > 0) & (rank <= vocabulary), rank, 0)[words]

    # where each word stands in x: its place among the known words of its review,
    # shifted by the padding; `mode="drop"` leaves out what lies beyond
    known = (token > 0).astype(jnp.int32)
    before = jnp.cumsum(known) - known
    sizes = jnp.zeros(reviews, jnp.int32).at[review].add(known)
    shift = jnp.maximum(length - sizes, 0) - before[starts]
    column = jnp.where(token > 0, before + shift[review], length)
    row = jnp.full(reviews, len(chosen)).at[chosen].set(jnp.arange(len(chosen)))[review]
    x = jnp.zeros((len(chosen), length), jnp.int32)
    x = x.at[row, column].set(token.astype(jnp.int32), mode="drop")
    y = files["positive"][chosen].astype(float)

    def split(rows: slice, size: int) -> Split:
        return Split(x[rows], y[rows], jnp.ones(size))

    return Dataset(
        split(slice(0, train_size), train_size),
        split(slice(train_size, None), len(test)),
        {},
    )


def review_sizes(*, vocabulary: Count = 1000) -> dict[str, int]:
    """The sizes of `imdb`'s data (`types.Task`)."""
    return {"vocabulary": vocabulary}
