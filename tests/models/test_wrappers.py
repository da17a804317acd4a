"""Wrappers: what they do to any network, and how they compose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.tree import norm

from grok_jax import ntk
from grok_jax.models import wrappers
from grok_jax.models.committee import committee
from grok_jax.types import Model

X = jnp.asarray(np.random.default_rng(0).standard_normal((7, 4)))


def dense(params, x):
    return jnp.tanh(jnp.matmul(x, params["w"]) + params["b"][None])


def draw(key, x):
    keys = jax.random.split(key)
    return {
        "w": jax.random.normal(keys[0], (x.shape[-1], 3)),
        "b": jax.random.normal(keys[1], (3,)),
    }


START = draw(jax.random.key(0), X)
MOVED = draw(jax.random.key(1), X)


def test_scale_output_multiplies_the_network_and_its_kernel_by_the_square():
    scaled = wrappers.scale_output(dense, 3.0)
    np.testing.assert_allclose(scaled(START, X), 3 * dense(START, X), rtol=1e-6)
    np.testing.assert_allclose(
        ntk.empirical_ntk(scaled, START, X),
        9 * ntk.empirical_ntk(dense, START, X),
        rtol=1e-4,
    )


@pytest.mark.parametrize("output_scale", [1.0, 1e6])
def test_the_centred_network_is_exactly_zero_where_it_started(output_scale):
    centred = wrappers.scale_output(wrappers.center(dense, START), output_scale)
    np.testing.assert_array_equal(centred(START, X), jnp.zeros((7, 3)))


def test_centring_changes_no_gradient():
    centred = wrappers.center(dense, START)

    def summed(f):
        return jax.grad(lambda p: jnp.sum(f(p, X) * jnp.arange(21.0).reshape(7, 3)))

    for own, expected in zip(
        jax.tree.leaves(summed(centred)(MOVED)),
        jax.tree.leaves(summed(dense)(MOVED)),
        strict=True,
    ):
        np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-7)


def test_centring_and_linearising_commute():
    one = wrappers.center(ntk.linearize(dense, START), START)
    other = ntk.linearize(wrappers.center(dense, START), START)
    np.testing.assert_allclose(one(MOVED, X), other(MOVED, X), rtol=1e-5, atol=1e-6)


def test_center_takes_any_tree_of_outputs():
    def statistics(params, _):
        return {"norm": norm(params), "pair": (params["b"], 2 * params["w"])}

    moved = wrappers.center(statistics, START)(MOVED, None)
    np.testing.assert_allclose(moved["norm"], norm(MOVED) - norm(START))
    np.testing.assert_allclose(moved["pair"][1], 2 * (MOVED["w"] - START["w"]))


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_scale_init_scales_every_parameter_biases_included(scale):
    model = Model(draw, dense)
    scaled = wrappers.scale_init(model, scale)
    key = jax.random.key(5)
    for own, expected in zip(
        jax.tree.leaves(scaled.init(key, X)),
        jax.tree.leaves(model.init(key, X)),
        strict=True,
    ):
        np.testing.assert_allclose(own, scale * expected, rtol=1e-6)
    assert scaled.apply is model.apply


def test_a_scale_of_one_changes_no_bit():
    model = committee(width=5)
    key = jax.random.key(2)
    one = wrappers.scale_init(model, 1.0)
    np.testing.assert_array_equal(one.init(key, X)["w"], model.init(key, X)["w"])


# --- the lazy limit ------------------------------------------------------------------


def centred_and_linearised(output_scale, steps=60):
    """Predictions of the centred committee and of its linearised twin after descent
    at the same rule eta0 N / alpha^2."""
    with jax.enable_x64(True):
        model = committee(width=12, epsilon=0.5)
        x = jnp.asarray(np.random.default_rng(1).standard_normal((10, 4)))
        y = jnp.asarray(np.random.default_rng(2).standard_normal(10))
        start = model.init(jax.random.key(0), x)
        rate = 0.05 * 12 / output_scale**2

        def train(apply):
            net = wrappers.scale_output(wrappers.center(apply, start), output_scale)

            def step(_, p):
                grads = jax.grad(lambda q: jnp.mean((net(q, x) - y) ** 2))(p)
                return jax.tree.map(lambda v, g: v - rate * g, p, grads)

            return net(jax.lax.fori_loop(0, steps, step, start), x)

        both = (model.apply, ntk.linearize(model.apply, start))
        return [np.asarray(jax.jit(lambda a=apply: train(a))()) for apply in both]


def test_at_large_output_scale_the_centred_network_is_its_linearised_twin():
    """The gap falls as 1 / alpha (Chizat et al. 2019)."""
    gaps = {}
    for output_scale in (1e2, 1e4):
        network, twin = centred_and_linearised(output_scale)
        gaps[output_scale] = np.max(abs(network - twin)) / np.max(abs(twin))
    assert gaps[1e4] < 1e-4
    assert gaps[1e2] / gaps[1e4] == pytest.approx(100, rel=0.1)
