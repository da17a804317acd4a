"""Binary operations: the truth, the tables, tokens and embeddings, and the split."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_files import assert_same, put, refused

from grok_jax import rng
from grok_jax.settings import SettingError, schema
from grok_jax.tasks.modular import (
    OPERATIONS,
    load_embedding,
    modular,
    modular_embedded,
    modular_tokens,
)

TRUTH = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: (a * b) % p,
    "division": lambda a, b, p: next(c for c in range(p) if c * b % p == a),
    "sum_of_squares": lambda a, b, p: (a**2 + b**2) % p,
    "quadratic": lambda a, b, p: (a**2 + a * b + b**2) % p,
    "quadratic_plus": lambda a, b, p: (a**2 + a * b + b**2 + a) % p,
    "cubic": lambda a, b, p: (a**3 + a * b) % p,
    "cubic_plus": lambda a, b, p: (a**3 + a * b**2 + b) % p,
}


def pair_count(operation, p):
    return p * (p - 1) if operation == "division" else p * p


def test_every_operation_has_a_truth_and_every_task_knows_it():
    assert OPERATIONS.keys() == TRUTH.keys()
    for task in (modular, modular_tokens, modular_embedded):
        assert set(schema(task)["operation"].choices) == TRUTH.keys()


@pytest.mark.parametrize("operation", sorted(TRUTH))
def test_nothing_overflows_at_a_large_modulus(operation):
    p = 997
    pairs = [(a, b) for a in (0, 1, p - 1) for b in (1, p - 1)]
    a, b = jnp.array(pairs, jnp.int32).T
    answer = OPERATIONS[operation](a, b, p)
    assert answer.dtype == jnp.int32
    assert answer.tolist() == [TRUTH[operation](a, b, p) for a, b in pairs]


@pytest.mark.parametrize("operation", sorted(TRUTH))
def test_the_table_is_the_truth_on_every_pair(operation):
    p = 7
    data = modular(rng.run_keys(0), operation=operation, modulus=p)
    x, y = np.asarray(data.train.x), np.asarray(data.train.y)
    count = pair_count(operation, p)
    assert x.shape == (count, 2 * p) and y.shape == (count, p)
    pairs = set()
    for row, answer in zip(x, y, strict=True):
        a, b = int(row[:p].argmax()), int(row[p:].argmax())
        assert row.sum() == 2 and answer.sum() == 1
        assert answer.argmax() == TRUTH[operation](a, b, p)
        pairs.add((a, b))
    assert len(pairs) == count


def test_train_and_test_are_every_pair_once():
    data = modular(rng.run_keys(3), modulus=6, train_fraction=0.4)
    np.testing.assert_array_equal(data.train.weight + data.test.weight, np.ones(36))
    assert data.train.weight.sum() == round(0.4 * 36)


def test_a_smaller_fraction_of_one_seed_is_a_subset():
    small, large = (
        modular(rng.run_keys(3), modulus=6, train_fraction=f).train.weight
        for f in (0.3, 0.7)
    )
    assert (small <= large).all()


def test_the_split_follows_its_own_seed_alone():
    def split(**seeds):
        return modular(rng.run_keys(0, **seeds), modulus=6).train.weight

    np.testing.assert_array_equal(split(), split(init=5, data=7))
    assert not jnp.array_equal(split(), split(split=5))


# --- tokens --------------------------------------------------------------------------


def tokens(fraction=0.4, p=6, seed=3, **settings):
    keys = rng.run_keys(seed)
    return modular_tokens(keys, modulus=p, train_fraction=fraction, **settings)


def pairs(split):
    return {tuple(map(int, row)) for row in split.x[:, :2]}


@pytest.mark.parametrize("operation", sorted(TRUTH))
def test_every_sentence_ends_in_equals_and_has_the_true_answer(operation):
    p = 7
    data = tokens(p=p, operation=operation)
    for split in (data.train, data.test):
        assert split.x.dtype == split.y.dtype == jnp.int32
        for (a, b, last), answer in zip(
            split.x.tolist(), split.y.tolist(), strict=True
        ):
            assert last == p and answer == TRUTH[operation](a, b, p)
    count = pair_count(operation, p)
    assert data.train.x.shape == (round(0.4 * count), 3)
    assert len(pairs(data.train) | pairs(data.test)) == count
    assert not pairs(data.train) & pairs(data.test)
    np.testing.assert_array_equal(data.train.weight, np.ones(len(data.train.x)))


def test_tokens_are_split_as_the_table_of_the_same_seed():
    p = 6
    table = modular(rng.run_keys(3), modulus=p, train_fraction=0.4)
    chosen = np.flatnonzero(table.train.weight)
    assert pairs(tokens().train) == {(int(i) // p, int(i) % p) for i in chosen}
    for name, values in table.extras.items():
        np.testing.assert_array_equal(tokens().extras[name], values)


def test_fewer_train_pairs_of_one_seed_are_a_subset():
    assert pairs(tokens(0.3).train) < pairs(tokens(0.7).train)
    assert pairs(tokens(seed=3).train) != pairs(tokens(seed=4).train)


def test_tokens_are_made_inside_a_compiled_program():
    """The seed is traced there; the fraction, which sets shapes, is static."""
    compiled = jax.jit(lambda seed: modular_tokens(rng.run_keys(seed), modulus=6))(3)
    for own, expected in zip(
        jax.tree.leaves(compiled), jax.tree.leaves(tokens(0.3)), strict=True
    ):
        np.testing.assert_array_equal(own, expected)
    fraction = schema(modular_tokens)["train_fraction"]
    assert fraction.static and fraction.kind is float


def test_a_fraction_that_leaves_no_pair_to_learn_is_refused():
    with pytest.raises(SettingError, match=r"train_fraction 0.01 of 36 pairs"):
        tokens(0.01)


def test_without_equals_the_same_sentences_are_a_token_shorter():
    long, short = tokens(), tokens(equals=False)
    for split, other in zip(short[:2], long[:2], strict=True):
        assert split.x.dtype == jnp.int32
        np.testing.assert_array_equal(split.x, other.x[:, :2])
        np.testing.assert_array_equal(split.y, other.y)


@pytest.mark.parametrize("modulus", [1, 4, 9])
def test_division_needs_a_prime(modulus):
    with pytest.raises(SettingError) as caught:
        modular(rng.run_keys(0), operation="division", modulus=modulus)
    assert str(caught.value) == (
        f"task.operation division needs a prime task.modulus, which {modulus} is not."
    )


# --- embeddings ----------------------------------------------------------------------


def embedded(embedding="one_hot", p=7, seed=3, rows=None, **settings):
    return modular_embedded(
        rng.run_keys(seed),
        files={} if rows is None else {"embedding": rows},
        modulus=p,
        train_fraction=0.4,
        embedding=embedding,
        **settings,
    )


def test_the_pairs_are_those_of_the_tokens_and_both_numbers_are_embedded():
    for operation in ("multiplication", "division"):
        words = tokens(p=7, operation=operation)
        data = embedded(operation=operation)
        for split, other in zip(data[:2], words[:2], strict=True):
            assert split.y.dtype == jnp.int32
            expected = np.eye(7)[np.asarray(other.x[:, :2])].reshape(-1, 14)
            np.testing.assert_array_equal(split.x, expected)
            np.testing.assert_array_equal(split.y, other.y)
            np.testing.assert_array_equal(split.weight, other.weight)
        assert data.extras.keys() == {"a", "b", "answer"}


def table_of(data):
    """The rows of both numbers, as the pairs have them, [p, d] each."""
    p = max(data.extras["a"].tolist()) + 1
    x, words = (np.concatenate([d.train.x, d.test.x]) for d in (data, tokens(p=p)))
    halves = zip(np.split(x, 2, axis=1), words.T, strict=False)
    return [
        np.array([half[token == number][0] for number in range(p)])
        for half, token in halves
    ]


@pytest.mark.parametrize("p", [6, 7])
def test_binary_digits_are_the_number_in_unit_length(p):
    for rows in table_of(embedded("binary", p=p)):
        assert rows.shape[1] == int(np.log2(p - 1)) + 1
        np.testing.assert_array_equal((rows > 0) @ np.array([4, 2, 1]), np.arange(p))
        size = np.linalg.norm(rows, axis=1)
        np.testing.assert_allclose(size, [0, *[1] * (p - 1)], rtol=1e-6)


def test_fourier_rows_are_circles_at_the_first_primes():
    angle = 2 * np.pi * np.outer(np.arange(7), [2, 3]) / 7
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(2)
    for rows in table_of(embedded("fourier", frequencies=2)):
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_rows_of_a_file_are_brought_to_unit_length_and_zero_stays():
    rows = np.array([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0], *[[1.0, 0.0]] * 4])
    for own in table_of(embedded("file", rows=rows)):
        np.testing.assert_allclose(own[:3], [[0.6, 0.8], [0, -1], [0, 0]], rtol=1e-6)


def test_two_integers_need_one_binary_digit():
    assert embedded("binary", p=2).train.x.shape[1] == 2


def test_a_frequency_beyond_half_the_modulus_is_refused():
    with pytest.raises(SettingError) as caught:
        embedded("fourier", p=13, frequencies=4)
    assert str(caught.value) == (
        "task.frequencies 4 goes up to the frequency 7, but task.modulus 13 has none "
        "above 6."
    )


# embeddings of integers in files

VECTORS = np.array([[1.5, -2.0], [0.0, 0.25], [3e4, 7.0]])
VECTOR_TABLE = "1.5,-2\n0,0.25\n\n3e4,7\n"


def saved(array):
    raw = io.BytesIO()
    np.save(raw, array, allow_pickle=array.dtype == object)
    return raw.getvalue()


def read_vectors(place="", modulus=3):
    return load_embedding(embedding="file", modulus=modulus, folder=str(place))


def test_the_file_of_an_embedding_is_named_by_settings_of_its_task():
    read, made = schema(load_embedding), schema(modular_embedded)
    for name, leaf in read.items():
        assert made[name].default == leaf.default and made[name].kind is leaf.kind


@pytest.mark.parametrize("embedding", ["one_hot", "binary", "fourier"])
def test_an_embedding_that_is_computed_reads_nothing(embedding):
    assert load_embedding(embedding=embedding, folder="/no/such/place") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors.npy", saved(VECTORS)),
        ("vectors.npy", saved(np.asfortranarray(VECTORS.astype(np.float32)))),
        ("vectors.csv", VECTOR_TABLE),
        ("vectors.csv", VECTOR_TABLE.encode("utf-8-sig").replace(b"\n", b"\r\n")),
    ],
)
def test_an_embedding_is_a_file_or_the_one_table_of_a_folder(name, content, tmp_path):
    path = put(tmp_path, name, content)
    put(tmp_path, "notes.txt", "not a table")
    for place in (path, tmp_path):
        assert_same(read_vectors(place), {"embedding": VECTORS.astype(np.float32)})


def test_an_embedding_is_looked_for_in_the_usual_places(places):
    shared, cache = places
    says = (str(cache / "embedding"), ".npy, .csv", "task.folder")
    refused(read_vectors, "There is no embedding here", *says)
    put(cache / "embedding", "vectors.npy", saved(VECTORS))
    assert read_vectors()["embedding"].shape == (3, 2)
    put(shared / "embedding", "vectors.npy", saved(VECTORS[:, :1]))
    assert read_vectors()["embedding"].shape == (3, 1)


def test_a_place_without_an_embedding_or_with_several_is_named(tmp_path):
    refused(lambda: read_vectors(tmp_path / "no.npy"), "no.npy, which does not exist")
    refused(lambda: read_vectors(tmp_path), "which does not have a table of numbers")
    for name in ("a.npy", "b.csv"):
        put(tmp_path, name)
    refused(lambda: read_vectors(tmp_path), "has several tables (a.npy, b.csv)")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.npy", saved(VECTORS[:2]), "has shape (2, 2), where task.modulus 3"),
        ("v.npy", saved(VECTORS[:, 0]), "has shape (3,), where task.modulus 3 needs"),
        ("v.npy", saved(VECTORS[:, :0]), "has shape (3, 0), where task.modulus 3 nee"),
        ("v.npy", saved(np.array([[1, np.nan]] * 3)), "that are not finite (3 of 6)"),
        ("v.npy", saved(1e40 * VECTORS), "has numbers that are not finite (5 of 6)"),
        ("v.npy", saved(1j * VECTORS), "has values of type complex128, not real"),
        ("v.npy", saved(VECTORS.astype(str)), "has values of type <U32, not real"),
        ("v.npy", saved(VECTORS)[:-9], "could not be read"),
        ("v.npy", b"no array at all", "could not be read (the magic string is not"),
        ("v.npy", b"", "could not be read"),
        ("v.csv", "", "has shape (0, 0), where task.modulus 3 needs"),
        ("v.csv", "1,2\n3,4\n", "has shape (2, 2), where task.modulus 3 needs"),
        ("v.csv", "1,2\n3,4\n5\n", "could not be read (the number of columns changed"),
        ("v.csv", "1,2\n3,x\n5,6\n", "could not be read (could not convert string 'x'"),
        ("v.csv", "1,2\n3,inf\n5,6\n", "has numbers that are not finite (1 of 6)"),
        ("v.csv", "1,é\n".encode("latin-1"), "could not be read ('utf-8' codec can't"),
    ],
)
def test_a_damaged_embedding_says_what_is_wrong(name, content, says, tmp_path):
    path = put(tmp_path, name, content)
    refused(lambda: read_vectors(path), str(path), says)


class Trap:
    """Loading it from a pickle would leave a trace."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_no_pickled_embedding_is_loaded(tmp_path):
    path = put(tmp_path, "v.npy", saved(np.array([[Trap()]], object)))
    refused(lambda: read_vectors(path, 1), "v.npy could not be read")
    assert not Trap.sprung
