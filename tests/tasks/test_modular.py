"""Binary operations, as tables and tokens: the truth, the code and the split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import rng
from grok_jax.settings import SettingError, schema
from grok_jax.tasks.modular import modular, modular_tokens

TRUTH = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: (a * b) % p,
}


@pytest.mark.parametrize("operation", sorted(TRUTH))
def test_the_table_is_the_truth_on_every_pair(operation):
    p = 7
    data = modular(rng.run_keys(0), operation=operation, modulus=p)
    x, y = np.asarray(data.train.x), np.asarray(data.train.y)
    assert x.shape == (p * p, 2 * p) and y.shape == (p * p, p)
    pairs = set()
    for row, answer in zip(x, y, strict=True):
        a, b = row[:p].argmax(), row[p:].argmax()
        assert row.sum() == 2 and answer.sum() == 1
        assert answer.argmax() == TRUTH[operation](a, b, p)
        pairs.add((a, b))
    assert len(pairs) == p * p


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
    assert data.train.x.shape == (round(0.4 * p * p), 3)
    assert len(pairs(data.train) | pairs(data.test)) == p * p
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
