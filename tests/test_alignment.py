"""Alignment and spectra of kernels whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import alignment

RNG = np.random.default_rng(0)
BASIS = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
VALUES = np.array([9.0, 4.0, 2.0, 1.0, 0.5, 0.25])
K = BASIS * VALUES @ BASIS.T
Y = RNG.standard_normal((6, 2))


def test_cka_is_the_formula():
    y = Y[:, 0]
    expected = y @ K @ y / (np.linalg.norm(K) * y @ y)
    np.testing.assert_allclose(alignment.cka(K, y), expected, rtol=1e-6)
    np.testing.assert_allclose(alignment.cka(K, y[:, None]), expected, rtol=1e-6)
    target = Y @ Y.T
    expected = np.sum(K * target) / (np.linalg.norm(K) * np.linalg.norm(target))
    np.testing.assert_allclose(alignment.cka(K, Y), expected, rtol=1e-6)


def test_cka_is_one_for_the_target_kernel_and_blind_to_scale():
    np.testing.assert_allclose(alignment.cka(Y @ Y.T, Y), 1.0, rtol=1e-6)
    scaled = alignment.cka(1e12 * K, 1e-15 * Y)
    np.testing.assert_allclose(scaled, alignment.cka(K, Y), rtol=1e-5)


def test_cka_of_an_eigenvector_is_its_share_of_the_norm():
    for i in range(6):
        expected = VALUES[i] / np.linalg.norm(VALUES)
        np.testing.assert_allclose(alignment.cka(K, BASIS[:, i]), expected, rtol=1e-5)


def test_cka_of_targets_that_know_nothing_of_the_kernel():
    draws = jnp.asarray(RNG.standard_normal((4000, 6)))
    mean = jnp.mean(jax.vmap(lambda y: alignment.cka(K, y))(draws))
    expected = np.trace(K) / (6 * np.linalg.norm(K))
    np.testing.assert_allclose(mean, expected, rtol=0.03)


def test_centred_cka_ignores_constants_in_kernel_and_target():
    center = np.eye(6) - np.ones((6, 6)) / 6
    plain = alignment.cka(center @ K @ center, center @ Y)
    centred = alignment.cka(K, Y, centered=True)
    np.testing.assert_allclose(centred, plain, rtol=1e-5)
    shifted = alignment.cka(K + 7.0, Y + 3.0, centered=True)
    np.testing.assert_allclose(shifted, centred, rtol=1e-4)
    assert abs(alignment.cka(K, Y) - centred) > 1e-3


@pytest.mark.parametrize("centered", [False, True])
def test_cka_of_some_examples_is_that_of_their_kernel_and_targets(centered):
    seen = np.array([True, False, True, True, False, True])
    expected = alignment.cka(K[np.ix_(seen, seen)], Y[seen], centered)
    masked = np.where(seen[:, None] & seen, K, np.nan)
    found = jax.jit(lambda s: alignment.cka(masked, Y, centered, seen=s))(seen)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    every = alignment.cka(K, Y, centered, seen=np.ones(6, bool))
    np.testing.assert_allclose(every, alignment.cka(K, Y, centered), rtol=1e-6)


def test_kernel_distance():
    other = RNG.standard_normal((6, 6))
    other = other @ other.T
    cosine = np.sum(K * other) / (np.linalg.norm(K) * np.linalg.norm(other))
    distance = alignment.kernel_distance(K, other)
    np.testing.assert_allclose(distance, 1 - cosine, rtol=1e-5)
    np.testing.assert_allclose(
        alignment.kernel_distance(other, 5 * K), distance, rtol=1e-5
    )
    assert alignment.kernel_distance(K, K) == 0.0
    first, second = (np.outer(v, v) for v in BASIS.T[:2])
    np.testing.assert_allclose(alignment.kernel_distance(first, second), 1, rtol=1e-6)


def test_small_kernel_distances_survive_float32():
    """1 - cosine would round to zero here."""
    step = 1e-4 * np.linalg.norm(K) * np.outer(BASIS[:, 0], BASIS[:, 1])
    moved = K + (step + step.T) / np.sqrt(2)
    np.testing.assert_allclose(alignment.kernel_distance(K, moved), 5e-9, rtol=0.05)


def test_target_power_of_a_combination_of_eigenvectors():
    y = 3 * BASIS[:, 1] + 4 * BASIS[:, 4]
    expected = [0, 0.36, 0.36, 0.36, 1, 1]
    np.testing.assert_allclose(alignment.target_power(K, y), expected, atol=1e-6)
    power = alignment.target_power(K, Y)
    assert (np.diff(power) >= 0).all()
    assert power[-1] == 1


def test_difficulty_of_an_eigenvector_is_one_over_its_eigenvalue():
    for i in range(6):
        np.testing.assert_allclose(
            alignment.difficulty(K, BASIS[:, i]), 1 / VALUES[i], rtol=1e-6
        )
    both = alignment.difficulty(K, BASIS[:, :2], ridge=1.0)
    np.testing.assert_allclose(both, 1 / 10 + 1 / 5, rtol=1e-6)


def test_a_kernel_that_is_singular_to_rounding_has_no_difficulty_without_a_ridge():
    thin = RNG.standard_normal((6, 2)).astype(np.float32)
    for k in (thin @ thin.T, np.ones((6, 6)), -np.eye(6)):
        with pytest.raises(ValueError, match="not positive; give a ridge"):
            alignment.difficulty(k, Y)
    assert np.isnan(jax.jit(alignment.difficulty)(-np.eye(6), Y))
    assert alignment.difficulty(thin @ thin.T, Y, ridge=1e-3) > 0


def test_difficulty_is_the_squared_displacement_of_a_linear_model():
    x, y = RNG.standard_normal((5, 9)), RNG.standard_normal(5)
    nearest = np.linalg.pinv(x) @ y  # the interpolating weights that moved least
    np.testing.assert_allclose(
        alignment.difficulty(x @ x.T, y), nearest @ nearest, rtol=1e-5
    )


def test_effective_rank():
    np.testing.assert_allclose(
        alignment.effective_rank(K), VALUES.sum() ** 2 / np.sum(VALUES**2), rtol=1e-6
    )
    projector = BASIS[:, :4] @ BASIS[:, :4].T
    np.testing.assert_allclose(alignment.effective_rank(projector), 4, rtol=1e-5)


def test_everything_under_jit_and_vmap_agrees_with_the_host():
    kernels = jnp.stack([jnp.asarray(K), jnp.asarray(K @ K)])
    y = jnp.asarray(Y)
    cases = [
        (alignment.cka, kernels, y),
        (alignment.target_power, kernels, y),
        (alignment.difficulty, kernels, y),
    ]
    for function, k, y in cases:
        batched = jax.jit(jax.vmap(function, in_axes=(0, None)))(k, y)
        for i in range(2):
            np.testing.assert_allclose(
                batched[i], function(k[i], y), rtol=2e-3, atol=1e-5
            )


def test_host_functions_are_float64_on_an_ill_conditioned_kernel():
    index = np.arange(7.0)
    hilbert = 1 / (1 + index[:, None] + index[None, :])
    result = alignment.difficulty(hilbert, hilbert @ np.ones(7))
    np.testing.assert_allclose(result, hilbert.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: alignment.cka(K[:3], Y), r"kernel \[n, n\]"),
        (lambda: alignment.cka(K, Y[:3]), "n = 6 rows"),
        (lambda: alignment.cka(K, Y[:, :, None]), r"got shape \(6, 2, 1\)"),
        (lambda: alignment.target_power(K[0], Y), r"kernel \[n, n\]"),
        (lambda: alignment.difficulty(K, Y[:3]), "one per row"),
        (lambda: alignment.effective_rank(K[:2]), r"kernel \[n, n\]"),
        (lambda: alignment.kernel_distance(K, K[:3]), "differ in shape"),
    ],
)
def test_errors_are_one_clear_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
