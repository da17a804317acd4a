"""XOR clusters: the rule, the draws, and how little memory they take."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import rng
from grok_jax.settings import SettingError, schema
from grok_jax.tasks.xor import xor_clusters

STATIC = ("dimension", "train_size", "test_size", "fresh_size", "compact")
make = partial(jax.jit, static_argnames=STATIC)(xor_clusters)
DATA = make(rng.run_keys(0), dimension=70, train_size=300, test_size=40)


def test_the_label_is_the_product_of_the_first_two_signs():
    for split, size in zip(DATA[:2], (300, 40), strict=True):
        x = np.asarray(split.x)
        assert x.shape == (size, 70) and x.dtype == np.int8
        assert set(np.unique(x)) == {-1, 1} and split.y.dtype == jnp.zeros(1).dtype
        np.testing.assert_array_equal(split.y, x[:, 0] * x[:, 1])
        np.testing.assert_array_equal(split.weight, np.ones(size))


def test_the_clusters_are_even_and_the_noise_is_independent():
    x = np.asarray(DATA.train.x, float)
    assert abs(x.mean(axis=0)).max() < 5 / np.sqrt(300)
    correlation = np.corrcoef(np.column_stack([DATA.train.y, x]).T) - np.eye(71)
    assert abs(correlation).max() < 5 / np.sqrt(300)


def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed():
    small = make(rng.run_keys(0), dimension=70, train_size=9, test_size=5)
    for few, many in zip(small[:2], DATA[:2], strict=True):
        np.testing.assert_array_equal(few.x, many.x[: len(few.x)])
    assert not np.array_equal(small.train.x[:5], small.test.x)


def test_no_wider_copy_of_the_signs_is_ever_held():
    sizes = dict(dimension=50_000, train_size=64, test_size=64)
    compiled = make.lower(rng.run_keys(0), **sizes).compile()
    signs = 2 * 64 * 50_000
    memory = compiled.memory_analysis()
    assert signs <= memory.output_size_in_bytes < 1.01 * signs
    assert (
        memory.temp_size_in_bytes < signs
    )  # one float per sign of a set is twice that


def test_two_signals_and_no_noise_are_too_few_columns():
    leaf = schema(xor_clusters)["dimension"]
    assert leaf.bounds is not None and leaf.bounds.hold(3) and not leaf.bounds.hold(2)


def test_compact_examples_have_the_inner_products_of_the_signs():
    sizes = dict(dimension=5000, train_size=9, test_size=7, fresh_size=4)
    plain, compact = (
        make(rng.run_keys(1), **sizes, compact=compact) for compact in (False, True)
    )
    rows = [
        np.concatenate([d.train.x, d.test.x, d.extras["fresh_x"]]).astype(float)
        for d in (plain, compact)
    ]
    assert rows[1].shape == (20, 22)
    np.testing.assert_array_equal(rows[0][:, :2], rows[1][:, :2])
    products = [noise[:, 2:] @ noise[:, 2:].T for noise in rows]
    np.testing.assert_allclose(products[1], products[0], atol=0.01)
    np.testing.assert_array_equal(plain.extras["fresh_y"], compact.extras["fresh_y"])
    assert not np.array_equal(plain.extras["fresh_x"][:4], plain.train.x[:4])


def test_more_compact_examples_than_columns_of_noise_are_refused():
    with pytest.raises(SettingError) as caught:
        make(rng.run_keys(0), dimension=10, train_size=5, test_size=4, compact=True)
    assert str(caught.value) == (
        "task.compact takes at most 8 examples at task.dimension 10, not 9."
    )
