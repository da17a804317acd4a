"""Tables of binary operations: the truth, the code and the split."""

import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import rng
from grok_jax.tasks.modular import modular

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
