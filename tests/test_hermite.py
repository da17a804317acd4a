"""Hermite polynomials against numpy's, and their orthogonality."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.hermite import hermite


@pytest.mark.parametrize("degree", range(7))
def test_it_is_the_probabilists_polynomial(degree):
    z = np.linspace(-2, 2, 9)
    expected = np.polynomial.hermite_e.hermeval(z, [0] * degree + [1])
    np.testing.assert_allclose(hermite(degree, jnp.asarray(z)), expected, atol=2e-4)


def test_they_are_orthogonal_under_the_normal_law():
    z, weight = np.polynomial.hermite_e.hermegauss(20)
    weight = weight / weight.sum()
    for j in range(5):
        for k in range(5):
            product = np.sum(weight * np.asarray(hermite(j, z) * hermite(k, z)))
            expected = math.factorial(j) if j == k else 0
            np.testing.assert_allclose(product, expected, atol=2e-3)
