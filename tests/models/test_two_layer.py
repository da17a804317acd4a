"""The quadratic two-layer network."""

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax.models.two_layer import quadratic


def test_it_is_its_formula():
    model = quadratic(width=5, outputs=3)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    params = model.init(jax.random.key(1), x)
    expected = np.asarray(params["v"]) @ (np.asarray(params["w"]) @ x.T) ** 2 / 5
    np.testing.assert_allclose(model.apply(params, x), expected.T, rtol=1e-5)


def test_without_a_number_of_outputs_it_has_one_which_is_no_axis():
    x = jax.random.normal(jax.random.key(0), (4, 6))
    one, none = (quadratic(width=5, outputs=outputs) for outputs in (1, 0))
    params = none.init(jax.random.key(1), x)
    assert none.apply(params, x).shape == (4,)
    np.testing.assert_array_equal(none.apply(params, x), one.apply(params, x)[:, 0])


def test_it_is_homogeneous_of_degree_three():
    model = quadratic(width=5, outputs=3)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    params = model.init(jax.random.key(1), x)
    twice = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_allclose(
        model.apply(twice, x), 8 * model.apply(params, x), rtol=1e-5
    )


def test_both_layers_are_drawn_apart():
    x = jnp.zeros((1, 6))
    params = quadratic(width=6, outputs=6).init(jax.random.key(1), x)
    assert abs(np.corrcoef(params["w"].ravel(), params["v"].ravel())[0, 1]) < 0.5
