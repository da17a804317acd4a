"""Stacked LSTMs against their equations, one step and one text at a time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import look_up, ntk, tree
from grok_jax.models.lstm import lstm

SMALL = dict(vocabulary=11, embedding=3, hidden=4)
X = np.random.default_rng(0).integers(0, 12, (5, 7))


def any_params(model):
    """Normal numbers (float64) in the place of the initial parameters."""
    draws = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(X))
    return jax.tree.map(lambda leaf: draws.standard_normal(leaf.shape), shapes)


def sigmoid(v):
    return 1 / (1 + jnp.exp(-v))


def gates_by_hand(cell, v, h):
    """Gates i, f, g, o before their activations, each [H], for one input v."""
    from_input = v @ cell["w_input"] + cell["b_input"]
    return jnp.reshape(from_input + h @ cell["w_hidden"] + cell["b_hidden"], (4, -1))


def by_hand(params, x, layers):
    """torch.nn.LSTM and a linear read-out by their equations: no table, no scan."""
    logits = []
    for text in x:
        h = [np.zeros(4)] * layers
        c = [np.zeros(4)] * layers
        for token in text:
            v = params["embedding"][token]
            for k in range(layers):
                i, f, g, o = gates_by_hand(params[f"layer_{k}"], v, h[k])
                c[k] = sigmoid(f) * c[k] + sigmoid(i) * jnp.tanh(g)
                v = h[k] = sigmoid(o) * jnp.tanh(c[k])
        readout = params["readout"]
        logits.append(v @ readout["w"][:, 0] + readout["b"][0])
    return jnp.stack(logits)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("device", ["a CPU", "another"])
def test_values_and_gradients_are_those_of_the_equations(layers, device, monkeypatch):
    """In the form that a CPU runs, and in that of every other device."""
    if device == "another":
        monkeypatch.setattr(
            jax.lax,
            "platform_dependent",
            lambda *operands, default, cpu: default(*operands),
        )
        monkeypatch.setattr(look_up, "_look_up", look_up._rule)
    model, x = lstm(layers=layers, **SMALL), X[:2, :3]
    params = any_params(model)

    def value_and_gradient(f):
        def weighted(p):
            logits = f(p)
            return logits[0] - 2 * logits[1], logits

        (_, logits), grads = jax.jit(jax.value_and_grad(weighted, has_aux=True))(params)
        along = jax.jit(lambda p: jax.jvp(f, (p,), (any_params(model),))[1])(params)
        return {"logits": logits, "forward": along, **grads}

    with jax.enable_x64(True):
        actual = value_and_gradient(lambda p: model.apply(p, x))
        expected = value_and_gradient(lambda p: by_hand(p, x, layers))
    assert actual["logits"].shape == (2,)
    actual, expected = tree.flat_names(actual), tree.flat_names(expected)
    for name, value in expected.items():
        assert np.abs(value).max() > 1e-3, name  # something to compare
        np.testing.assert_allclose(
            actual[name], value, rtol=1e-12, atol=1e-12, err_msg=name
        )


@pytest.fixture(scope="module")
def small():
    model = lstm(**SMALL)
    return jax.jit(model.apply), any_params(model)


def test_texts_are_independent_and_the_order_of_words_matters(small):
    apply, params = small
    together = apply(params, X)
    apart = jnp.concatenate([apply(params, row[None]) for row in X])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
    assert (abs(together - apply(params, X[:, ::-1])) > 1e-3).all()


def test_padding_is_read_and_trained_as_a_word(small):
    apply, params = small
    padded = np.concatenate([np.zeros((5, 7), int), X], axis=1)
    assert (abs(apply(params, padded) - apply(params, X)) > 1e-6).all()
    grads = jax.grad(lambda p: jnp.sum(apply(p, padded)))(params)
    assert grads["embedding"][0].any()


def test_a_token_beyond_the_vocabulary_makes_the_logit_nan(small):
    apply, params = small
    logits = apply(params, np.where(X == 11, 12, X))
    np.testing.assert_array_equal(np.isnan(logits), (X == 11).any(axis=1))


def test_the_ntk_is_that_of_the_gradients(small):
    apply, params = small
    x = X[:3, :4]
    rows = jax.tree.leaves(jax.jit(jax.jacrev(apply))(params, x))
    j = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in rows], axis=1)
    kernel = ntk.empirical_ntk(apply, params, x)
    np.testing.assert_allclose(kernel, j @ j.T, rtol=1e-4)


def test_the_parameters_have_the_sizes_of_the_paper():
    x = jnp.zeros((1, 500), int)
    params = jax.eval_shape(lstm(vocabulary=1000).init, jax.random.key(0), x)
    first, second = (
        4 * 128 * (inputs + 128 + 2)  # both products and both biases
        for inputs in (64, 128)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 1001 * 64 + first + second + 129


def test_the_initial_parameters_have_the_laws_of_pytorch():
    """Embedding N(0, 1); all else uniform in +-1 / sqrt(H), each leaf by itself."""
    settings = dict(vocabulary=150, embedding=40, hidden=25)
    params = jax.jit(lstm(**settings).init)(jax.random.key(4), jnp.asarray(X))
    table = np.ravel(np.float64(params.pop("embedding")))
    assert abs(table.mean()) < 5 / np.sqrt(table.size)
    assert abs(np.mean(table**2) - 1) < 5 * np.sqrt(2 / table.size)
    assert abs(np.mean(table**4) - 3) < 5 * np.sqrt(96 / table.size)
    leaves = [np.ravel(np.float64(leaf)) * 5 for leaf in jax.tree.leaves(params)]
    for u in leaves:
        assert abs(u).max() <= 1
    for u in (u for u in leaves if u.size >= 100):
        assert 1 - abs(u).max() < 20 / u.size
        assert abs(u.mean()) < 5 * np.sqrt(1 / 3 / u.size)
        assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size)
    for a, b in itertools.combinations([u[:100] for u in leaves if u.size >= 100], 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.5
