"""Fourier concentration and principal components, against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import spectra


def waves(p, frequencies, columns=6, seed=0):
    """Sinusoids of these frequencies, mixed at random with constants into columns."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    parts = np.concatenate([np.cos(angle), np.sin(angle), np.ones((p, 1))], axis=1)
    return parts @ rng.standard_normal((parts.shape[1], columns))


def concentration_by_hand(table, top):
    """By the projections on every cosine and sine, each of unit length."""
    p, power = len(table), []
    for k in range(1, p // 2 + 1):
        angle = 2 * np.pi * k * np.arange(p) / p
        parts = [np.cos(angle), np.sin(angle)]
        parts = [v / np.linalg.norm(v) for v in parts if np.linalg.norm(v) > 1e-6]
        power.append(sum(np.sum((v @ table) ** 2) for v in parts))
    return np.sum(np.sort(power)[-top:]) / np.sum((table - table.mean(0)) ** 2)


@pytest.mark.parametrize("p", [11, 10])
def test_the_share_is_that_of_projections_on_cosines_and_sines(p):
    table = np.random.default_rng(p).standard_normal((p, 4))
    for top in (1, 2, 5):
        np.testing.assert_allclose(
            spectra.fourier_concentration(table, top),
            concentration_by_hand(table, top),
            rtol=1e-5,
        )


@pytest.mark.parametrize("p", [11, 12])
def test_so_many_sinusoids_need_so_many_frequencies(p):
    table = waves(p, [1, 4, 5])
    np.testing.assert_allclose(spectra.fourier_concentration(table, 3), 1, rtol=1e-5)
    assert spectra.fourier_concentration(table, 2) < 0.98


def test_all_frequencies_hold_all_and_more_than_there_are_as_well():
    table = np.random.default_rng(0).standard_normal((11, 3))
    for top in (5, 50):
        np.testing.assert_allclose(
            spectra.fourier_concentration(table, top), 1, rtol=1e-5
        )


def test_noise_of_many_columns_is_spread_evenly():
    table = jax.random.normal(jax.random.key(0), (31, 4000))
    np.testing.assert_allclose(
        spectra.fourier_concentration(table, 5), 5 / 15, rtol=0.05
    )


def test_equal_rows_have_no_frequencies():
    assert jnp.isnan(spectra.fourier_concentration(np.full((7, 3), 0.3), 2))


def test_concentrations_under_jit_and_vmap_are_the_same():
    rng = np.random.default_rng(0)
    tables, share = rng.standard_normal((3, 11, 4)), spectra.fourier_concentration
    batched = jax.jit(jax.vmap(lambda table: share(table, 2)))(tables)
    np.testing.assert_allclose(batched, [share(t, 2) for t in tables], rtol=1e-5)


def test_tables_of_another_shape_and_no_frequency_are_refused():
    with pytest.raises(
        ValueError, match=r"table \[p, d\] is needed here; got .*\(7,\)"
    ):
        spectra.fourier_concentration(np.ones(7))
    with pytest.raises(ValueError, match="top must be at least 1 frequency, not 0"):
        spectra.fourier_concentration(np.ones((7, 2)), 0)


# --- principal components ------------------------------------------------------------


def test_projections_and_shares_are_those_of_the_covariance():
    table = np.random.default_rng(0).standard_normal((9, 5)) * [5, 1, 3, 0.5, 1]
    projections, shares = spectra.principal_components(table, 3)
    centred = table - table.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(shares, values[::-1][:3] / values.sum(), rtol=1e-4)
    expected = centred @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(abs(projections), abs(expected), rtol=1e-3, atol=1e-4)


def test_the_sign_is_that_of_the_farthest_row():
    table = np.random.default_rng(1).standard_normal((9, 5))
    projections, _ = spectra.principal_components(table)
    far = jnp.argmax(abs(projections), axis=0)
    assert (projections[far, jnp.arange(2)] > 0).all()
    turned, _ = spectra.principal_components(table[:, ::-1] + 3.0)
    np.testing.assert_allclose(turned, projections, atol=1e-4)


def test_a_circle_in_many_dimensions_is_two_equal_components():
    angle = 2 * np.pi * 3 * np.arange(11) / 11
    plane, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 2)))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ plane.T
    projections, shares = spectra.principal_components(circle, 3)
    np.testing.assert_allclose(shares, [0.5, 0.5, 0.0], atol=1e-5)
    np.testing.assert_allclose(
        jnp.linalg.norm(projections[:, :2], axis=1), 1, rtol=1e-4
    )


def test_more_components_than_the_table_has_are_refused():
    with pytest.raises(ValueError, match=r"6 components need a table .*\(9, 5\)"):
        spectra.principal_components(np.ones((9, 5)), 6)
