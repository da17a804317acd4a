"""The regression task: what its numbers are, and what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.rng import run_keys
from grok_jax.tasks.polynomial import polynomial


def make(seed=0, **settings):
    settings = {"input_dim": 5, "train_size": 12, "test_size": 8} | settings
    return polynomial(run_keys(seed), **settings)


def leaves(data):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(data)]


def test_the_targets_are_half_the_square_along_the_hidden_direction():
    data = make()
    for split in (data.train, data.test):
        z = np.asarray(split.x, float) @ np.asarray(data.extras["beta"], float)
        np.testing.assert_allclose(split.y, 0.5 * z**2, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(split.weight, np.ones(len(split.y)))


def test_inputs_are_gaussian_of_variance_one_over_dimension():
    x = make(train_size=6000).train.x
    covariance = x.T @ x / len(x)
    np.testing.assert_allclose(covariance * 5, np.eye(5), atol=4 * np.sqrt(2 / 6000))
    kurtosis = np.mean((np.sqrt(5) * x) ** 4)
    assert abs(kurtosis - 3) < 4 * np.sqrt(96 / x.size)


def test_the_direction_is_standard_normal_and_unlike_the_inputs():
    data = make(input_dim=4000, train_size=1, test_size=1)
    beta, x = data.extras["beta"], data.train.x[0] * np.sqrt(4000)
    assert abs(jnp.mean(beta**2) - 1) < 4 * np.sqrt(2 / 4000)
    assert abs(jnp.mean(beta * x)) < 4 / np.sqrt(4000)


def test_train_and_test_share_no_example():
    data = make(train_size=8)
    assert not np.isin(data.train.x, data.test.x).any()


def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed():
    small, large = make(), make(train_size=40, test_size=30)
    for name in ("train", "test"):
        few, many = getattr(small, name), getattr(large, name)
        np.testing.assert_array_equal(many.x[: len(few.x)], few.x)
        np.testing.assert_allclose(many.y[: len(few.y)], few.y, rtol=1e-6)
    np.testing.assert_array_equal(small.extras["beta"], large.extras["beta"])


def test_the_data_follow_the_data_key_alone():
    keys = run_keys(0)
    others = run_keys(9)._replace(data=keys.data)
    sizes = {"input_dim": 5, "train_size": 12, "test_size": 8}
    for a, b in zip(
        leaves(polynomial(keys, **sizes)),
        leaves(polynomial(others, **sizes)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(make(0).train.x, make(1).train.x)


def test_jit_gives_the_same_draws():
    for a, b in zip(leaves(make()), leaves(jax.jit(make)(0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("directions", [1, 3])
def test_a_multi_index_target_is_the_sum_over_its_directions(directions):
    data = make(directions=directions)
    z = np.asarray(data.train.x, float) @ np.asarray(data.extras["betas"], float).T
    np.testing.assert_allclose(data.train.y, 0.5 * (z**2).sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(data.extras["betas"][0], make().extras["beta"])


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_hermite_targets_are_orthogonal_to_lower_degrees(degree):
    data = make(train_size=20_000, degree=degree)
    beta = np.asarray(data.extras["betas"][0], float)
    np.testing.assert_allclose(np.sum(beta**2), 5, rtol=1e-5)
    z, y = np.asarray(data.train.x, float) @ beta, np.asarray(data.train.y, float)
    for lower in range(degree):
        product = y * z**lower
        assert abs(product.mean()) < 5 * product.std() / np.sqrt(len(z)), lower
    top = y * z**degree
    expected = 0.5 * np.prod(np.arange(1.0, degree + 1))
    assert abs(top.mean() - expected) < 5 * top.std() / np.sqrt(len(z))
