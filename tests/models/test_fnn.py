"""The embedded network against the plain formula, its sizes and its draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import ntk
from grok_jax.models.fnn import fnn

V = 5
NUMBERS = np.random.default_rng(0)
TOKENS = jnp.asarray(NUMBERS.integers(0, V, (9, 2)), jnp.int32)
REAL = jnp.asarray(NUMBERS.standard_normal((9, 6)), jnp.float32)
SIZES = dict(embedding=3, width=7, layers=3, outputs=4)


def plain(params, x, vocabulary):
    """Sample by sample: the rows of its tokens, or its numbers times the table."""
    h = jax.nn.one_hot(x, vocabulary, dtype=float) if vocabulary else x
    if "embed" in params:
        h = jnp.matmul(h, params["embed"])
    h = h.reshape(len(x), -1)
    layers = sorted(name for name in params if name != "embed")
    for i, name in enumerate(layers):
        h = (jnp.maximum(h, 0) if i else h) @ params[name]
    return h


def any_params(model, x):
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    draws = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draws.standard_normal(leaf.shape)), shapes
    )


@pytest.mark.parametrize(
    ("vocabulary", "samples", "changes"),
    [
        (V, 9, {}),  # more samples than tokens: read from tables
        (V, 4, {}),
        (V, 9, {"embedding": 0}),
        (V, 4, {"embedding": 0, "layers": 1}),
        (V, 9, {"layers": 1}),
        (0, 9, {}),
        (0, 9, {"embedding": 0}),
    ],
)
def test_outputs_and_gradients_are_those_of_the_plain_formula(
    vocabulary, samples, changes
):
    model = fnn(**{**SIZES, "vocabulary": vocabulary, **changes})
    x = (TOKENS if vocabulary else REAL)[:samples]
    with jax.enable_x64(True):
        params = any_params(model, x)

        def both(params):
            def loss(apply, params):
                f = apply(params, x)
                return jnp.sum(jnp.sin(f + jnp.arange(4.0)[None])), f

            grad = partial(jax.grad, argnums=1, has_aux=True)
            direct = partial(plain, vocabulary=vocabulary)
            return grad(loss)(model.apply, params), grad(loss)(direct, params)

        (own, f), (expected, expected_f) = jax.jit(both)(params)
    assert f.shape == (samples, 4)
    np.testing.assert_allclose(f, expected_f, rtol=1e-10)
    assert own.keys() == expected.keys() and ("embed" in own) == (
        "embedding" not in changes
    )
    for name, leaf in expected.items():
        assert np.asarray(leaf).any()
        np.testing.assert_allclose(own[name], leaf, rtol=1e-9, atol=1e-12, err_msg=name)


def test_no_outputs_is_one_output_without_an_axis():
    one, column = (fnn(**{**SIZES, "outputs": n}) for n in (0, 1))
    params = any_params(column, REAL)
    f = one.apply(params, REAL)
    assert f.shape == (9,)
    np.testing.assert_array_equal(f[:, None], column.apply(params, REAL))
    shapes = jax.eval_shape(one.init, jax.random.key(0), REAL)
    assert shapes["layer_2"].shape == (7, 1)


def test_the_layers_have_the_sizes_of_the_paper():
    def shapes(x, **settings):
        params = jax.eval_shape(fnn(**settings).init, jax.random.key(0), x)
        return {name: leaf.shape for name, leaf in params.items()}

    pairs = jnp.zeros((1, 2), jnp.int32)
    tokens = dict(vocabulary=113, outputs=113)
    assert shapes(pairs, **tokens, embedding=4, width=16, layers=2) == {
        "embed": (113, 4),
        "layer_0": (8, 16),
        "layer_1": (16, 113),
    }
    assert shapes(pairs, **tokens) == {
        "embed": (113, 128),
        "layer_0": (256, 512),
        "layer_1": (512, 512),
        "layer_2": (512, 113),
    }
    assert shapes(jnp.zeros((1, 40)), outputs=0) == {
        "embed": (40, 128),
        "layer_0": (128, 512),
        "layer_1": (512, 512),
        "layer_2": (512, 1),
    }


def assert_uniform(values, bound):
    u = np.asarray(values, float).ravel() / bound
    assert abs(u).max() <= 1 and 1 - abs(u).max() < 20 / u.size
    assert abs(u.mean()) < 5 * np.sqrt(1 / 3 / u.size)
    assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size)


@pytest.mark.parametrize("vocabulary", [0, 30])
def test_it_is_drawn_as_pytorch_does(vocabulary):
    x = jnp.zeros((1, 2), jnp.int32) if vocabulary else jnp.zeros((1, 30))
    model = fnn(vocabulary=vocabulary, embedding=20, width=40, layers=3, outputs=40)
    params = jax.jit(model.init)(jax.random.key(3), x)
    inputs = {"layer_0": 40 if vocabulary else 20, "layer_1": 40, "layer_2": 40}
    if not vocabulary:
        inputs["embed"] = 30
    for name, fan_in in inputs.items():
        assert_uniform(params[name], fan_in**-0.5)
    if vocabulary:
        z = np.asarray(params["embed"], float).ravel()
        assert abs(z.mean()) < 5 / np.sqrt(z.size)
        assert abs(np.mean(z**2) - 1) < 5 * np.sqrt(2 / z.size)
        assert abs(np.mean(z**4) - 3) < 5 * np.sqrt(96 / z.size)
    twins = np.corrcoef(params["layer_1"].ravel(), params["layer_2"].ravel())
    assert abs(twins[0, 1]) < 0.5


def test_it_maps_over_parameters_and_differentiates_forward():
    model = fnn(**SIZES, vocabulary=V)
    params = any_params(model, TOKENS)
    other = jax.tree.map(lambda leaf: -2 * leaf, params)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    both = jax.jit(jax.vmap(model.apply, (0, None)))(stacked, TOKENS)
    for f, each in zip(both, (params, other), strict=True):
        np.testing.assert_allclose(f, model.apply(each, TOKENS), rtol=1e-5, atol=1e-5)
    twin = ntk.linearize(model.apply, params)
    np.testing.assert_allclose(
        twin(params, TOKENS), model.apply(params, TOKENS), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("vocabulary", "x", "says"),
    [
        (V, REAL, "An fnn with vocabulary 5 takes integer tokens of shape (n, D), "),
        (0, TOKENS, "An fnn with vocabulary 0 takes real inputs of shape (n, D), not "),
        (V, TOKENS[0], "not int32 inputs of shape (2,)."),
        (0, REAL[None], "not float32 inputs of shape (1, 9, 6)."),
    ],
)
def test_inputs_of_another_kind_are_named(vocabulary, x, says):
    model = fnn(vocabulary=vocabulary)
    for call in (
        lambda: model.init(jax.random.key(0), x),
        lambda: model.apply({}, x),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert says in str(caught.value)
