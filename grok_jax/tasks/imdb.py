"""Sentiment of film reviews (Liu et al. 2023, Omnigrok, Fig. 4)."""

import array
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.rng import Keys, choose_rows
from grok_jax.settings import Count, Natural
from grok_jax.tasks import reading
from grok_jax.tasks.reading import DataError, Files
from grok_jax.types import Dataset, Split

_FORMS = (
    "a table of the columns review and sentiment ('IMDB Dataset.csv', plain or .gz) or "
    "aclImdb_v1.tar.gz"
)
# Our own list of English function words, by word class. They are compared after
# punctuation is removed, so contractions ("dont") are kept, as in the paper's code.
_FUNCTION_WORDS = (
    "a an the this that these those some any each every either neither both all such",
    "same other another few more most own",
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves",
    "he him his himself she her hers herself it its itself they them their theirs",
    "themselves who whom whose which what one",
    "am is are was were be been being do does did doing done have has had having can",
    "could may might must shall should will would ought",
    "and or but nor so yet if because although though while whereas unless until as",
    "than whether",
    "at by for from in into of off on onto out over to toward towards up down with",
    "within without about above across after against along among around before behind",
    "below beneath beside between beyond during except near since through throughout",
    "under upon",
    "not no too very just only also even then there here when where why how now again",
    "once",
    "s t d m re ve ll",
)
STOP_WORDS = frozenset(" ".join(_FUNCTION_WORDS).split())
_BREAK = re.compile(r"<br\s*/?>")
_DROPPED = re.compile(r"[^\w\s]|\d")


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
    """x [n, length] int32 holds the words of a review, numbered 1 to `vocabulary` by
    their frequency in the train reviews (ties: first in the file first); y [n] is 1.0
    for a positive review and 0.0 for a negative one.

    Other words are left out. Shorter reviews are padded with 0 on the left and longer
    ones are cut after `length` words, as in the paper's code (which also balances the
    two classes between train and test; here the draw is uniform). `files` is the result
    of `load_reviews`. For the same seed, a larger train set begins with the smaller
    one, and likewise a test set; the vocabulary depends on the train set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.reading`).
      test_size: 0 for all reviews that are not used for training.
    """
    del folder  # read by load_reviews
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

    # The column of each word in x: its index among the known words of its review plus
    # the padding; `mode="drop"` discards indices out of range.
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
    """The sizes of the data of `imdb` (`types.Task`)."""
    return {"vocabulary": vocabulary}


def load_reviews(*, folder: str = "") -> Files:
    """Film reviews as word numbers, without stop words, one review after the other:
    `words` [T], the `review` [T] of each word and the index where each review `starts`
    [n]; `positive` [n] is the sentiment of each review, 0 or 1, and `total` [W] the
    count of each word. Words are numbered by first occurrence.

    Text is lower-cased, HTML breaks separate words, and punctuation and digits are
    removed, so that "don't" is "dont" and "well-made" is "wellmade" (as in the paper's
    code, which however keeps a break as a word joined to its neighbours).
    """
    found = reading.find("imdb", folder, _read, _FORMS)
    if found is None:
        raise reading.missing("imdb", "IMDb reviews", _FORMS)
    return found


def _read(place: Path) -> Files | None:
    if tables := reading.tables(place, ".csv", ".csv.gz"):
        return _number_words(_table_reviews(tables), tables[0])
    if (archive := place / "aclImdb_v1.tar.gz").is_file():
        return _number_words(_archive_reviews(archive), archive)
    return None


def _table_reviews(paths: list[Path]) -> Iterator[tuple[str, bool]]:
    known = {"positive": True, "negative": False}
    for where, (review, sentiment) in reading.rows(paths, ("review", "sentiment")):
        if sentiment not in known:
            raise DataError(
                f"{where} has the sentiment {sentiment!r}, which is neither positive "
                "nor negative."
            )
        yield review, known[sentiment]


def _archive_reviews(path: Path) -> Iterator[tuple[str, bool]]:
    names = r"aclImdb/(?:train|test)/(neg|pos)/[^/]+\.txt"
    for match, text in reading.members(path, names):
        yield text, match[1] == "pos"


def _number_words(reviews: Iterable[tuple[str, bool]], source: Path) -> Files:
    number: dict[str, int] = {}
    words, sizes, positive = array.array("i"), array.array("i"), array.array("b")
    for text, is_positive in reviews:
        kept = [word for word in _split_words(text) if word not in STOP_WORDS]
        words.extend([number.setdefault(word, len(number)) for word in kept])
        sizes.append(len(kept))
        positive.append(is_positive)
    if not words:
        raise DataError(f"{source} has no reviews.")
    numbers, length = np.asarray(words, np.int32), np.asarray(sizes, np.int32)
    return {
        "words": numbers,
        "review": np.repeat(np.arange(len(length), dtype=np.int32), length),
        "starts": np.cumsum(length, dtype=np.int32) - length,
        "positive": np.asarray(positive, np.uint8),
        "total": np.bincount(numbers).astype(np.int32),
    }


def _split_words(text: str) -> list[str]:
    return _DROPPED.sub("", _BREAK.sub(" ", text.lower())).split()
