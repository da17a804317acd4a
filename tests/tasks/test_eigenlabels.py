"""Labels that are eigenvectors of the initial kernel."""

import jax.numpy as jnp
import numpy as np

from grok_jax import rng
from grok_jax.tasks.eigenlabels import eigenlabels
from grok_jax.theory import committee

SIZES = dict(input_dim=5, train_size=18, test_size=12, kernel_epsilon=0.4)


def whole(data):
    return tuple(
        jnp.concatenate([getattr(split, name) for split in (data.train, data.test)])
        for name in ("x", "y")
    )


def test_labels_are_the_eigenvector_of_the_initial_kernel():
    for j in (1, 4, 30):
        data = eigenlabels(rng.run_keys(0), eigenvector=j, **SIZES)
        x, y = whole(data)
        kernel = committee.ntk(jnp.zeros(5), jnp.eye(5), x, epsilon=0.4)
        eigenvalue = data.extras["eigenvalues"][j - 1]
        np.testing.assert_allclose(kernel @ y, eigenvalue * y, atol=2e-4)
        np.testing.assert_allclose(jnp.mean(y**2), 1, rtol=1e-5)


def test_eigenvalues_fall():
    values = eigenlabels(rng.run_keys(0), **SIZES).extras["eigenvalues"]
    assert (jnp.diff(values) <= 1e-6).all()


def test_labels_of_two_eigenvectors_are_orthogonal():
    _, first = whole(eigenlabels(rng.run_keys(0), eigenvector=1, **SIZES))
    _, third = whole(eigenlabels(rng.run_keys(0), eigenvector=3, **SIZES))
    assert abs(jnp.mean(first * third)) < 1e-5


def test_an_eigenvector_beyond_the_data_is_the_last():
    _, last = whole(eigenlabels(rng.run_keys(0), eigenvector=30, **SIZES))
    _, beyond = whole(eigenlabels(rng.run_keys(0), eigenvector=99, **SIZES))
    np.testing.assert_array_equal(last, beyond)
