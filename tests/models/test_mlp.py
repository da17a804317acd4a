"""Fully connected networks: the forward pass by hand, and the laws of the draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import ntk
from grok_jax.models.mlp import mlp
from grok_jax.ntk.jaxprs import flatten
from grok_jax.ntk.layers import find_layers

X = np.random.default_rng(0).standard_normal((6, 5))

BY_HAND = {
    "relu": lambda h: np.where(h > 0, h, 0),
    "tanh": np.tanh,
    "leaky_relu": lambda h: np.where(h > 0, h, 0.2 * h),
}


def draw(input_dim, **settings):
    """The initial parameters for inputs of so many dimensions."""
    x = jnp.zeros((1, input_dim))
    return jax.jit(mlp(**settings).init)(jax.random.key(3), x)


def any_params(model, x):
    """Normal numbers in the place of the initial parameters."""
    draws = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: draws.standard_normal(leaf.shape), shapes)


@pytest.mark.parametrize(
    ("activation", "layers"), [("relu", 1), ("tanh", 3), ("leaky_relu", 2)]
)
def test_it_is_its_formula(activation, layers):
    model = mlp(width=7, layers=layers, outputs=3, activation=activation)
    params = any_params(model, X)
    with jax.enable_x64(True):
        f = jax.jit(model.apply)(params, X)
    h = X
    for i in range(layers + 1):
        layer = params[f"layer_{i}"]
        h = h @ layer["w"] + layer["b"]
        h = BY_HAND[activation](h) if i < layers else h
    assert f.shape == (6, 3)
    np.testing.assert_allclose(f, h, rtol=1e-12)


def test_the_layers_have_the_sizes_of_the_paper():
    init = mlp(outputs=10).init
    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 784)))
    shapes = [params[f"layer_{i}"]["w"].shape for i in range(3)]
    assert shapes == [(784, 200), (200, 200), (200, 10)]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 199_210


def assert_uniform(values, bound):
    """Uniform in +-bound: all inside, the edges reached, the first moments right."""
    u = np.asarray(values, float).ravel() / bound
    assert abs(u).max() <= 1 and 1 - abs(u).max() < 20 / u.size
    assert abs(u.mean()) < 5 * np.sqrt(1 / 3 / u.size)
    assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size)


def test_pytorch_draws_weights_and_biases_within_one_over_root_fan_in():
    params = draw(40, width=300, layers=1, outputs=200)
    for name, inputs in (("layer_0", 40), ("layer_1", 300)):
        for leaf in params[name].values():
            assert_uniform(leaf, inputs**-0.5)


def test_kaiming_draws_normal_weights_of_variance_two_over_fan_in_and_no_biases():
    params = draw(40, width=300, layers=1, outputs=200, init="kaiming_normal")
    for name, inputs in (("layer_0", 40), ("layer_1", 300)):
        w = np.asarray(params[name]["w"], float).ravel() * np.sqrt(inputs / 2)
        assert abs(w.mean()) < 5 / np.sqrt(w.size)
        assert abs(np.mean(w**2) - 1) < 5 * np.sqrt(2 / w.size)
        assert abs(np.mean(w**4) - 3) < 5 * np.sqrt(96 / w.size)
        assert not params[name]["b"].any()


@pytest.mark.parametrize("init", ["pytorch", "kaiming_normal"])
def test_layers_are_drawn_apart(init):
    params = draw(12, width=12, layers=3, outputs=12, init=init)
    leaves = [np.asarray(layer["w"]).ravel() for layer in params.values()]
    if init == "pytorch":
        biases = [np.asarray(layer["b"]) for layer in params.values()]
        leaves += [np.repeat(b, 12) for b in biases] + [np.tile(b, 12) for b in biases]
    pairs = itertools.combinations(leaves, 2)
    assert max(abs(np.corrcoef(a, b)[0, 1]) for a, b in pairs) < 0.9


@pytest.mark.parametrize("activation", sorted(BY_HAND))
def test_the_ntk_is_the_brute_force_one_and_takes_no_jacobian(activation):
    model = mlp(width=4, layers=2, outputs=3, activation=activation)
    params = any_params(model, X)
    with jax.enable_x64(True):
        rows = jax.tree.leaves(jax.jit(jax.jacrev(model.apply))(params, X))
        kernel = ntk.empirical_ntk(model.apply, params, X, kind="full")
    j = np.concatenate([np.reshape(leaf, (6, 3, -1)) for leaf in rows], axis=2)
    np.testing.assert_allclose(kernel, np.einsum("ncp,mdp->nmcd", j, j), rtol=1e-10)
    leaves, treedef = jax.tree.flatten(params)

    def outputs(leaves, row):
        return model.apply(jax.tree.unflatten(treedef, leaves), row[None])[0]

    flat = flatten(jax.make_jaxpr(outputs)(leaves, X[0]))
    layers, explicit = find_layers(flat, len(leaves))
    assert explicit == [] and len(layers) == 3
    assert None not in {layer.bias for layer in layers}
