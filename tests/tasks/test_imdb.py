"""Reviews: how they are read, and as tokens, against the loops that define them."""

import collections
import gzip
import itertools
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_files import MANY_BYTES, put, refused, tar_of

from grok_jax import rng
from grok_jax.settings import SettingError
from grok_jax.tasks.imdb import STOP_WORDS, _split_words, imdb, load_reviews

KEYS = rng.run_keys(0)
SIZES = [
    {"train_size": 9, "vocabulary": 5, "length": 4},  # some cut, some padded
    {"train_size": 23, "vocabulary": 999, "length": 40},  # nothing left out
    {"train_size": 1, "vocabulary": 3, "length": 1, "test_size": 5},
]


def as_files(reviews, positive, words=0):
    """What `load_reviews` gives for reviews of these words (numbers)."""
    flat = np.array([word for review in reviews for word in review], np.int32)
    length = np.array([len(review) for review in reviews], np.int32)
    return {
        "words": flat,
        "review": np.repeat(np.arange(len(reviews), dtype=np.int32), length),
        "starts": np.cumsum(length, dtype=np.int32) - length,
        "positive": np.array(positive, np.uint8),
        "total": np.bincount(flat, minlength=words).astype(np.int32),
    }


LENGTHS = [*range(12), *range(11, -1, -1)]  # of 24 reviews; two of them are empty


def draw(seed):
    """Random reviews of up to 15 words, numbered by first occurrence."""
    numpy = np.random.default_rng(seed)
    rough = [numpy.integers(0, 15, n) ** 2 // 15 for n in numpy.permutation(LENGTHS)]
    number = {}
    return [
        [number.setdefault(int(w), len(number)) for w in review] for review in rough
    ]


def by_loops(reviews, train, vocabulary, length):
    """Tokens [n, length] of every review, by the vocabulary of those in `train`."""
    count = collections.Counter(word for row in train for word in reviews[row])
    ranked = sorted(count, key=lambda word: (-count[word], word))[:vocabulary]
    token = {word: place + 1 for place, word in enumerate(ranked)}
    rows = []
    for review in reviews:
        known = [token[word] for word in review if word in token][:length]
        rows.append([0] * (length - len(known)) + known)
    return np.array(rows)


@partial(jax.jit, static_argnames=("train_size", "test_size", "vocabulary", "length"))
def make(found, keys=KEYS, **settings):
    return imdb(keys, files=found, **settings)


def drawn(seed, **sizes):
    """Which reviews are for training and which for testing."""
    names = as_files(draw(seed), range(24), 15)  # their sentiment is their number
    return [
        np.asarray(part.y).astype(int).tolist() for part in make(names, **sizes)[:2]
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", SIZES)
def test_tokens_are_those_of_the_plain_loops(seed, sizes):
    reviews, positive = draw(seed), np.arange(24) % 2
    train, test = drawn(seed, **sizes)
    expected = by_loops(reviews, train, sizes["vocabulary"], sizes["length"])
    data = make(as_files(reviews, positive, 15), **sizes)
    for split, rows in ((data.train, train), (data.test, test)):
        np.testing.assert_array_equal(split.x, expected[rows])
        np.testing.assert_array_equal(split.y, positive[rows])
        np.testing.assert_array_equal(split.weight, np.ones(len(rows)))
        assert split.x.dtype == jnp.int32 and split.y.dtype == jnp.zeros(1).dtype


def test_the_comparison_with_the_loops_cuts_pads_and_drops():
    reviews, (train, _) = draw(0), drawn(0, **SIZES[0])
    tokens, whole = by_loops(reviews, train, 5, 4), by_loops(reviews, train, 5, 40)
    assert (tokens[:, 0] > 0).any() and (tokens == 0).any()
    assert ((whole > 0).sum(1) > 4).any()
    assert (whole > 0).sum() < sum(LENGTHS)


def test_a_long_review_keeps_its_first_words_and_a_short_one_is_padded_on_the_left():
    found = as_files([[0, 1, 2, 3], [3]] * 2, [0, 1] * 2)
    data = make(found, train_size=3, length=3)
    x, short = (
        np.concatenate([np.asarray(getattr(part, name)) for part in data[:2]])
        for name in ("x", "y")
    )
    last = x[short == 1][0, 2]  # the word that both have
    np.testing.assert_array_equal(x[short == 1], [[0, 0, last]] * 2)
    assert (x[short == 0] > 0).all() and last not in x[short == 0]


def test_the_vocabulary_is_that_of_the_train_reviews():
    found = as_files([[row, 24, 24] for row in range(24)], [0] * 24)
    data = make(found, train_size=10, length=3)
    assert sorted(data.train.x[:, 0].tolist()) == list(range(2, 12))
    np.testing.assert_array_equal(data.train.x[:, 1:], np.ones((10, 2)))
    np.testing.assert_array_equal(data.test.x, np.tile([0, 1, 1], (14, 1)))


def test_train_and_test_are_every_review_once_and_a_larger_set_extends_a_smaller():
    train, test = drawn(0, **SIZES[0])
    assert sorted(train + test) == list(range(24))
    more, rest = drawn(0, train_size=15, test_size=6)
    assert more[:9] == train and rest == test[:6]


def test_the_draw_follows_the_data_key_alone():
    names = as_files(draw(0), range(24), 15)
    same = rng.run_keys(7)._replace(data=KEYS.data)
    first, second, third = (
        make(names, keys, **SIZES[0]).train.y.tolist()
        for keys in (KEYS, same, rng.run_keys(1))
    )
    assert first == second != third


@pytest.mark.parametrize(("train_size", "test_size"), [(24, 0), (40, 0), (20, 5)])
def test_too_few_reviews_are_refused(train_size, test_size):
    with pytest.raises(SettingError, match=f"24 reviews.*train_size {train_size}"):
        sizes = {"train_size": train_size, "test_size": test_size}
        make(as_files(draw(0), [0] * 24), **sizes)


def test_real_reviews_tell_their_sentiment():
    folder = os.path.join(os.environ.get("GROK_JAX_DATA", ""), "imdb")
    if not os.path.isdir(folder):
        pytest.skip("GROK_JAX_DATA names no folder with IMDb reviews")
    data = make(load_reviews(), train_size=2000, test_size=1000)
    assert data.train.x.shape == (2000, 500) and data.train.x.max() == 1000
    counts = np.bincount(np.asarray(data.train.x).ravel(), minlength=1001)[1:]
    assert (np.diff(counts) <= 0).mean() > 0.95  # but for reviews that were cut

    def has(split):
        rows = jnp.arange(len(split.x))[:, None]
        return jnp.zeros((len(split.x), 1001)).at[rows, split.x].set(1.0)[:, 1:]

    def log_share(label):
        mine = (data.train.y == label).astype(float)
        return jnp.log((1 + mine @ has(data.train)) / (2 + mine.sum()))

    evidence = log_share(1) - log_share(0)  # naive Bayes
    accuracy = jnp.mean((has(data.test) @ evidence > 0) == (data.test.y == 1))
    assert 0.75 < accuracy < 0.95


# their files

REVIEWS = [
    ('A well-made film,<br /><br />not the "BEST" of 1999!', "positive"),
    ("Dull. Don't watch it; dull dull film\nwith <BR> music", "negative"),
    ("It was not the one", "negative"),  # nothing but stop words
    ("Café music_video <i>film</i>", "positive"),
]
WORDS = [
    ["wellmade", "film", "best"],
    ["dull", "dont", "watch", "dull", "dull", "film", "music"],
    [],
    ["café", "music_video", "ifilmi"],
]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


TABLE = "review,sentiment\r\n" + "".join(
    f"{quoted(review)},{sentiment}\r\n" for review, sentiment in REVIEWS
)


def words_of(found):
    """The numbered words of each review, with the words themselves forgotten."""
    bounds = [*found["starts"], len(found["words"])]
    return [found["words"][a:b].tolist() for a, b in itertools.pairwise(bounds)]


def numbered(reviews):
    number = {}
    return [[number.setdefault(word, len(number)) for word in r] for r in reviews]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_reviews_become_numbers_of_words(suffix, encoding, tmp_path):
    content = TABLE.encode(encoding)
    name = f"IMDB Dataset.csv{suffix}"
    put(tmp_path, name, gzip.compress(content) if suffix else content)
    found = load_reviews(folder=str(tmp_path))
    assert words_of(found) == numbered(WORDS)
    np.testing.assert_array_equal(found["positive"], [1, 0, 0, 1])
    np.testing.assert_array_equal(found["review"], [0] * 3 + [1] * 7 + [3] * 3)
    assert found["total"].tolist() == [1, 2, 1, 3, 1, 1, 1, 1, 1, 1]


def test_stop_words_are_words_as_they_are_compared():
    assert len(STOP_WORDS) > 150
    for word in STOP_WORDS:
        assert _split_words(word) == [word]


def review_files():
    """name -> text of the official archive, with what is to be passed over."""
    named, count = {}, itertools.count()
    for review, sentiment in REVIEWS:
        split = "train" if len(named) % 2 else "test"
        named[f"aclImdb/{split}/{sentiment[:3]}/{next(count)}_7.txt"] = review
    named["aclImdb/train/unsup/0_0.txt"] = "unlabelled text"
    named["aclImdb/train/labeledBow.feat"] = "9 0:9"
    named["aclImdb/README"] = "Large Movie Review Dataset"
    return named


def test_the_official_archive_is_read_where_it_lies(tmp_path):
    put(tmp_path, "aclImdb_v1.tar.gz", tar_of(review_files(), "gz"))
    found = load_reviews(folder=str(tmp_path))
    assert words_of(found) == numbered(WORDS)
    np.testing.assert_array_equal(found["positive"], [1, 0, 0, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            TABLE.replace("review", "text", 1),
            "has no column 'review', only 'text', 'sen",
        ),
        ("", "has no column 'review', only an empty first line"),
        (TABLE.replace("negative", "bad", 1), "line 4 has the sentiment 'bad'"),
        (TABLE + "a film\r\n", "line 7 has too few columns"),
        ("review,sentiment\n", "has no reviews"),
        (TABLE.encode("latin-1"), "could not be read ('utf-8' codec can't decode"),
        ('review,sentiment\n"' + "x" * 200_000, "could not be read (field larger than"),
    ],
)
def test_a_damaged_table_of_reviews_says_what_is_wrong(content, says, tmp_path):
    put(tmp_path, "IMDB Dataset.csv", content)
    refused(lambda: load_reviews(folder=str(tmp_path)), "IMDB Dataset.csv", says)


def test_a_cut_archive_of_reviews_is_named(tmp_path):
    named = {**review_files(), "aclImdb/README": MANY_BYTES.hex()}
    path = put(tmp_path, "aclImdb_v1.tar.gz", tar_of(named, "gz")[:5_000])
    refused(lambda: load_reviews(folder=str(tmp_path)), str(path), "could not be read")


def test_two_tables_are_one_too_many(tmp_path):
    for name in ("a.csv", "b.csv.gz"):
        put(tmp_path, name)
    refused(
        lambda: load_reviews(folder=str(tmp_path)), "several tables (a.csv, b.csv.gz)"
    )
