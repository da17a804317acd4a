"""The committee machine against its formula, neuron by neuron."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.models.committee import committee
from grok_jax.theory import committee as theory
from grok_jax.types import Dataset, Split

X = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
KEY = jax.random.key(1)


def test_the_output_is_the_mean_over_neurons_of_the_activation():
    model = committee(width=6, epsilon=0.5)
    params = model.init(KEY, X)
    expected = np.zeros(8)
    for w in np.asarray(params["w"], float):
        h = X @ w
        expected += (h + 0.25 * h**2) / 6
    np.testing.assert_allclose(model.apply(params, X), expected, rtol=1e-4, atol=1e-5)


def test_without_epsilon_the_network_is_linear_in_its_input():
    model = committee(width=6, epsilon=0.0)
    params = model.init(KEY, X)
    np.testing.assert_allclose(
        model.apply(params, -2 * X), -2 * model.apply(params, X), rtol=1e-4, atol=1e-6
    )


def test_the_initial_weights_are_standard_normal():
    w = committee(width=4000).init(KEY, X)["w"]
    assert w.shape == (4000, 5)
    covariance = w.T @ w / 4000
    np.testing.assert_allclose(covariance, np.eye(5), atol=4 * np.sqrt(2 / 4000))


def test_a_traced_epsilon_equals_a_plain_one():
    params = committee(width=6).init(KEY, X)
    traced = jax.jit(lambda e: committee(width=6, epsilon=e).apply(params, X))(0.7)
    plain = committee(width=6, epsilon=0.7).apply(params, X)
    np.testing.assert_allclose(traced, plain, rtol=1e-5, atol=1e-6)


def test_the_width_is_the_n_of_the_learning_rate_rule():
    assert committee(width=17).width == 17


# --- variants ------------------------------------------------------------------------


def test_degree_two_is_the_plain_square_less_its_mean():
    params = committee(width=6).init(KEY, X)
    square = committee(width=6, epsilon=0.5).apply(params, X)
    hermite = committee(width=6, epsilon=0.5, degree=2).apply(params, X)
    np.testing.assert_allclose(hermite, square - 0.25, rtol=1e-4, atol=1e-5)


def test_degree_three_is_the_third_hermite_polynomial():
    params = {"w": jnp.array([[2.0], [-1.0]])}
    model = committee(width=2, epsilon=1.0, degree=3)
    h = np.array([2.0, -1.0]) * 1.5
    expected = np.mean(h + 0.5 * (h**3 - 3 * h))
    np.testing.assert_allclose(model.apply(params, jnp.array([[1.5]])), [expected])


def test_trained_readouts_weigh_the_neurons_and_leave_the_hidden_draws_alone():
    fixed, trained = committee(width=6), committee(width=6, readout="trained")
    params = trained.init(KEY, X)
    np.testing.assert_array_equal(params["w"], fixed.init(KEY, X)["w"])
    ones = {**params, "v": jnp.ones(6)}
    np.testing.assert_allclose(
        trained.apply(ones, X), fixed.apply(params, X), rtol=1e-4, atol=1e-6
    )
    wbar, m = theory.statistics_of(params)
    np.testing.assert_allclose(
        trained.apply(params, X),
        theory.predict(wbar, m, X, 1.0, 0.25),
        rtol=1e-4,
        atol=1e-5,
    )


def data_of(beta):
    split = Split(jnp.asarray(X), jnp.zeros(8), jnp.ones(8))
    return Dataset(split, split, {"beta": beta})


@pytest.mark.parametrize("width", [6, 12])
def test_the_aligned_share_adds_an_exact_solution(width):
    beta = jnp.array([1.0, -2.0, 0.5, 0.0, 3.0])
    model = committee(width=width, epsilon=0.3, aligned_share=1.0)
    moved = model.prepare({"w": jnp.zeros((width, 5))}, data_of(beta))
    wbar, m = theory.statistics_of(moved)
    risk = theory.population_risk(wbar, m, beta, 1.0, 0.3)
    np.testing.assert_allclose(risk.total, 0, atol=1e-9)


def test_no_aligned_share_changes_no_bit():
    model = committee(width=6)
    params = model.init(KEY, X)
    kept = model.prepare(params, data_of(jnp.arange(5.0)))
    np.testing.assert_array_equal(kept["w"], params["w"])
