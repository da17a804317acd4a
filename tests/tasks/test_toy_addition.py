"""Addition of embedded symbols: the table, the representation and the split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.rng import run_keys
from grok_jax.settings import schema
from grok_jax.tasks.toy_addition import toy_addition


@functools.cache
def program(**static):
    def draw(keys, traced):
        return toy_addition(keys, **static, **traced)

    return jax.jit(draw)


def make(keys=None, *, messiness=0.0, train_size=45, spread=0.3, **static):
    traced = {"messiness": messiness, "train_size": train_size, "spread": spread}
    return program(**static)(keys or run_keys(0), traced)


@pytest.mark.parametrize("modular", [False, True])
def test_the_table_is_the_truth_on_every_pair_once(modular):
    p = 6
    data = make(symbols=p, modular=modular, messiness=0.4, target_dim=7)
    extras = {name: np.asarray(leaf) for name, leaf in data.extras.items()}
    x, y, _ = data.train
    assert extras["targets"].shape == (p if modular else 2 * p - 1, 7)
    rows = zip(x, y, extras["a"], extras["b"], extras["answer"], strict=True)
    pairs = set()
    for x_row, y_row, a, b, answer in rows:
        assert answer == ((a + b) % p if modular else a + b)
        table = extras["representation"]
        np.testing.assert_allclose(x_row, table[a] + table[b], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(y_row, extras["targets"][answer])
        pairs.add((int(a), int(b)))
    assert pairs == {(i, j) for i in range(p) for j in range(i, p)}


def test_without_messiness_or_spread_equal_sums_have_equal_inputs_on_a_line():
    data = make(spread=0.0)
    total = np.asarray(data.extras["answer"])
    along = 2 * total / 9 - 2
    np.testing.assert_allclose(data.train.x[:, 0], along, atol=1e-6)
    np.testing.assert_array_equal(data.train.x[:, 1:], np.zeros((55, 1)))


def test_the_representation_is_linear_in_the_messiness():
    def table(messiness):
        return make(messiness=messiness).extras["representation"]

    mixed = 0.3 * table(1.0) + 0.7 * table(0.0)
    np.testing.assert_allclose(table(0.3), mixed, rtol=1e-5, atol=1e-6)
    assert not np.allclose(table(1.0), table(0.0), atol=0.1)


MANY = dict(symbols=300, dimension=5, target_dim=6)


def test_both_representations_fill_the_range_of_the_authors_code():
    """R_random in +-1 everywhere; R_linear in +-spread beside its line."""
    random = make(messiness=1.0, **MANY).extras["representation"]
    linear = make(messiness=0.0, spread=0.3, **MANY).extras["representation"]
    np.testing.assert_allclose(linear[:, 0], np.linspace(-1, 1, 300), atol=1e-6)
    for drawn, bound in ((random, 1.0), (linear[:, 1:], 0.3)):
        u = np.ravel(np.float64(drawn)) / bound
        assert abs(u).max() <= 1 + 1e-6 and 1 - abs(u).max() < 20 / u.size
        assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size)
    correlation = np.corrcoef(np.ravel(random[:, 1:]), np.ravel(linear[:, 1:]))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(1200)


def test_the_vectors_of_the_answers_are_standard_normal():
    targets = np.float64(make(**MANY).extras["targets"])
    assert targets.shape == (599, 6)
    assert abs(targets.mean()) < 5 / np.sqrt(targets.size)
    assert abs(np.mean(targets**2) - 1) < 5 * np.sqrt(2 / targets.size)


@pytest.mark.parametrize("train_size", [25, 45, 55])
def test_train_and_test_are_every_pair_once(train_size):
    data = make(train_size=train_size)
    np.testing.assert_array_equal(data.train.weight + data.test.weight, np.ones(55))
    assert data.train.weight.sum() == train_size
    for name in ("x", "y"):
        np.testing.assert_array_equal(
            getattr(data.train, name), getattr(data.test, name)
        )


def test_a_smaller_train_set_of_one_seed_is_a_subset():
    small, large = (make(train_size=size).train.weight for size in (25, 45))
    assert (small <= large).all()


def test_the_split_and_the_table_follow_their_own_keys():
    one = make(messiness=0.5)
    split = make(run_keys(0, split=5), messiness=0.5)
    data = make(run_keys(0, data=5), messiness=0.5)
    assert not np.array_equal(one.train.weight, split.train.weight)
    np.testing.assert_array_equal(one.train.weight, data.train.weight)
    for name in ("x", "y"):
        table, same, other = (getattr(d.train, name) for d in (one, split, data))
        np.testing.assert_array_equal(table, same)
        assert not np.allclose(table, other, atol=0.1)


def test_one_program_serves_every_messiness_and_train_size():
    leaves = schema(toy_addition)
    traced = {name for name, leaf in leaves.items() if not leaf.static}
    assert traced == {"train_size", "messiness", "spread"}
    assert [leaves["messiness"].bounds.hold(v) for v in (-0.1, 0.0, 1.0, 1.1)] == [
        False,
        True,
        True,
        False,
    ]
    draw = jax.jit(
        jax.vmap(lambda m, n: toy_addition(run_keys(0), messiness=m, train_size=n))
    )
    many = draw(jnp.array([0.2, 0.8]), jnp.array([10, 30]))
    one = make(messiness=0.8, train_size=30)
    np.testing.assert_allclose(many.train.x[1], one.train.x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(many.train.weight[1], one.train.weight)


@pytest.mark.parametrize("train_size", [19, 25, 45])
def test_a_covering_train_set_holds_a_pair_of_every_answer(train_size):
    for seed in range(5):
        data = make(run_keys(seed), train_size=train_size, cover=True)
        train = np.asarray(data.train.weight) == 1
        assert train.sum() == train_size
        assert len(set(np.asarray(data.extras["answer"])[train])) == 19


def test_a_covering_train_set_grows_by_more_pairs():
    few, many = (make(train_size=n, cover=True).train.weight for n in (25, 35))
    assert (np.asarray(few) <= np.asarray(many)).all()
