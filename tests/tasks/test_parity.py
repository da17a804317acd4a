"""Sparse parity: the rule, the draws, and what does not depend on a set's size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import rng
from grok_jax.settings import SettingError
from grok_jax.tasks.parity import sparse_parity

make = partial(jax.jit, static_argnames=("bits", "support", "train_size", "test_size"))(
    sparse_parity
)
DATA = make(rng.run_keys(0), bits=6, support=3, train_size=400, test_size=50)


def test_the_label_is_the_product_of_the_first_signs():
    for split, size in zip(DATA[:2], (400, 50), strict=True):
        x = np.asarray(split.x)
        assert x.shape == (size, 6) and x.dtype == split.y.dtype == jnp.zeros(1).dtype
        assert set(np.unique(x)) == {-1, 1} and set(np.unique(split.y)) == {0, 1}
        np.testing.assert_array_equal(split.y, x[:, 0] * x[:, 1] * x[:, 2] == 1)
        np.testing.assert_array_equal(split.weight, np.ones(size))


def test_the_other_bits_say_nothing_and_neither_do_two_of_the_first():
    """Every product of signs without all three of the support is a coin of its own."""
    x, sign = np.asarray(DATA.train.x), 2 * np.asarray(DATA.train.y) - 1
    for column in (*x.T, x[:, 0] * x[:, 1], x[:, 3] * x[:, 4] * x[:, 5]):
        assert abs(np.mean(column * sign)) < 4 / np.sqrt(400)


def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed():
    small = make(rng.run_keys(0), bits=6, support=3, train_size=9, test_size=5)
    for few, many in zip(small[:2], DATA[:2], strict=True):
        np.testing.assert_array_equal(few.x, many.x[: len(few.x)])
        np.testing.assert_array_equal(few.y, many.y[: len(few.y)])
    assert not np.array_equal(small.train.x[:5], small.test.x)


def test_the_draw_follows_the_data_key_alone():
    def draw(**seeds):
        keys = rng.run_keys(0, **seeds)
        return make(keys, bits=6, support=3, train_size=9, test_size=5).train.x

    np.testing.assert_array_equal(draw(), draw(init=5, split=7))
    assert not np.array_equal(draw(), draw(data=5))


def test_a_support_of_all_bits_is_the_plain_parity_and_more_is_refused():
    data = make(rng.run_keys(1), bits=4, support=4, train_size=20, test_size=1)
    np.testing.assert_array_equal(data.train.y, np.prod(data.train.x, axis=1) == 1)
    with pytest.raises(SettingError) as caught:
        sparse_parity(rng.run_keys(0), bits=3, support=4)
    assert str(caught.value) == "task.support is 4; it must be at most task.bits 3."
