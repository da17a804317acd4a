"""Keys by name: independent of each other, and of everything but the run's seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.rng import Keys, gaussian_rows, named_key, run_keys, sign_rows

PURPOSES = Keys._fields


def same(a, b):
    return bool((jax.random.key_data(a) == jax.random.key_data(b)).all())


def test_every_purpose_has_a_key_of_its_own():
    keys = run_keys(3)
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :]]
    assert not any(same(a, b) for a, b in pairs)


def test_the_draws_of_two_purposes_are_uncorrelated():
    draws = np.stack([jax.random.normal(key, (4000,)) for key in run_keys(0)])
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert abs(correlation).max() < 4 / np.sqrt(4000)


def test_keys_are_a_function_of_the_seed_alone_traced_or_not():
    for seed in (0, 7):
        plain, traced = run_keys(seed), jax.jit(run_keys)(seed)
        batched = jax.vmap(run_keys)(jnp.array([5, seed, 9]))
        for name in PURPOSES:
            assert same(getattr(plain, name), getattr(traced, name))
            assert same(getattr(plain, name), getattr(batched, name)[1])


def test_two_seeds_share_no_key():
    first, second = run_keys(0), run_keys(1)
    assert not any(same(a, b) for a in first for b in second)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_seed_of_its_own_moves_one_key_and_no_other(purpose):
    usual, moved = run_keys(4), run_keys(4, **{purpose: 11})
    for name in PURPOSES:
        assert same(getattr(usual, name), getattr(moved, name)) == (name != purpose)
    assert same(getattr(moved, purpose), getattr(run_keys(11), purpose))


def test_named_key_depends_on_name_and_key():
    key = jax.random.key(0)
    assert same(named_key(key, "x"), named_key(key, "x"))
    assert not same(named_key(key, "x"), named_key(key, "y"))
    assert not same(named_key(key, "x"), named_key(jax.random.key(1), "x"))


def test_more_gaussian_rows_begin_with_the_fewer():
    key = jax.random.key(2)
    many, few = gaussian_rows(key, 2000, 5), gaussian_rows(key, 7, 5)
    np.testing.assert_array_equal(many[:7], few)
    np.testing.assert_allclose(many.T @ many / 2000, np.eye(5), atol=4 / np.sqrt(1000))


@pytest.mark.parametrize("dim", [5, 32, 70])
def test_more_sign_rows_begin_with_the_fewer_and_have_even_odds(dim):
    key = jax.random.key(2)
    many, few = (np.asarray(sign_rows(key, count, dim)) for count in (2000, 7))
    np.testing.assert_array_equal(many[:7], few)
    assert many.dtype == np.int8 and many.shape == (2000, dim)
    assert set(np.unique(many)) == {-1, 1}
    signs = many.astype(float)
    covariance = signs.T @ signs / 2000 - np.eye(dim)
    assert abs(covariance).max() < 5 / np.sqrt(2000)
    assert abs(signs.mean(axis=0)).max() < 5 / np.sqrt(2000)
