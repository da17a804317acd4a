"""The transformer against the plain formula, sample by sample and in its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import ntk, tree
from grok_jax.models.transformer import from_nanda, transformer

P = 5
SIZES = dict(vocabulary=P + 1, context=3, width=8, heads=2, head_width=3, mlp_width=10)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.integers(0, P + 1, (9, 3)), jnp.int32)  # any token at any place
ACTIVATIONS = {"relu": lambda h: jnp.maximum(h, 0), "gelu": lambda h: gelu(h)}


def gelu(h):
    return h * jax.scipy.stats.norm.cdf(h)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(seed=0, **changes):
    """A model and parameters of order one, biases and all."""
    model = transformer(**{**SIZES, **changes})
    shapes = jax.eval_shape(model.init, jax.random.key(0), X)
    numbers = np.random.default_rng(seed)
    return model, jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * numbers.standard_normal(leaf.shape)), shapes
    )


def normed(params, name, r):
    if name not in params:
        return r
    scale = jnp.sqrt(jnp.var(r, axis=-1, keepdims=True) + 1e-5)
    gain, shift = (params[name][k][None, None] for k in ("gain", "shift"))
    return (r - r.mean(-1, keepdims=True)) / scale * gain + shift


def plain(params, x, activation="relu"):
    """Everything at every position, the mask as a matrix: logits at the last one."""
    context = x.shape[1]
    r = params["embed"][x] + params["positions"][None]
    layers = sorted(name for name in params if name.startswith("layer_"))
    for layer in (params[name] for name in layers):
        read = normed(layer, "norm_attention", r)
        query, key, value = (
            jnp.einsum("npd,dhk->nhpk", read, layer[name])
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("nhpk,nhqk->nhpq", query, key) / query.shape[-1] ** 0.5
        past = jnp.tril(jnp.ones((context, context), bool))[None, None]
        weights = jnp.exp(jnp.where(past, scores, -jnp.inf))
        weights = weights / weights.sum(-1, keepdims=True)
        mixed = jnp.einsum("nhpq,nhqk->nhpk", weights, value)
        r = r + jnp.einsum("nhpk,hkd->npd", mixed, layer["output"])
        read = normed(layer, "norm_mlp", r)
        hidden = jnp.einsum("npd,dm->npm", read, layer["mlp_in"])
        hidden = ACTIVATIONS[activation](hidden + layer["mlp_in_bias"][None, None])
        r = r + jnp.einsum("npm,md->npd", hidden, layer["mlp_out"])
        r = r + layer["mlp_out_bias"][None, None]
    return normed(params, "norm_out", r)[:, -1] @ params["unembed"]


def assert_trees_close(actual, expected, rtol):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for name, leaf in tree.flat_names(expected).items():
        np.testing.assert_allclose(
            tree.flat_names(actual)[name], leaf, rtol=rtol, atol=rtol, err_msg=name
        )


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("layers", "samples"), [(1, 4), (1, 9), (2, 9), (3, 9)])
def test_logits_and_gradients_are_those_of_the_plain_formula(
    layers, samples, layer_norm
):
    """With fewer samples than tokens, and with more, which are read from tables."""
    model, params = draw(layers=layers, layer_norm=layer_norm)
    x = X[:samples]
    signal = jnp.asarray(RNG.standard_normal((samples, P + 1)))

    @jax.jit
    def logits_and_gradient(params):
        def loss(apply, params):
            logits = apply(params, x)
            return jnp.sum(jnp.tanh(signal * logits)), logits

        grad = partial(jax.grad, argnums=1, has_aux=True)
        return grad(loss)(model.apply, params), grad(loss)(plain, params)

    (own, logits), (expected, expected_logits) = logits_and_gradient(params)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-10)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(expected))
    assert_trees_close(own, expected, rtol=1e-9)


def test_a_layer_norm_begins_at_gain_one():
    params = transformer(**SIZES, layer_norm=True).init(jax.random.key(0), X)
    for norm in (params["norm_out"], params["layer_0"]["norm_mlp"]):
        np.testing.assert_array_equal(norm["gain"], np.ones(8))
        np.testing.assert_array_equal(norm["shift"], np.zeros(8))


def test_gelu_is_the_exact_one():
    model, params = draw(activation="gelu")
    np.testing.assert_allclose(
        jax.jit(model.apply)(params, X),
        jax.jit(plain, static_argnums=2)(params, X, "gelu"),
        rtol=1e-11,
    )


def test_it_maps_over_parameters_and_differentiates_forward():
    model, params = draw()
    other = jax.tree.map(lambda leaf: -2 * leaf, params)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    outputs = jax.jit(jax.vmap(model.apply, (0, None)))(stacked, X)
    expected = jax.jit(jax.vmap(plain, (0, None)))(stacked, X)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)
    twins = (ntk.linearize(f, params) for f in (model.apply, plain))
    own, expected = (jax.jit(twin)(other, X) for twin in twins)
    np.testing.assert_allclose(own, expected, rtol=1e-10)


def test_initial_weights_have_the_published_variances():
    with jax.enable_x64(False):
        params = transformer(vocabulary=114, layers=2).init(jax.random.key(0), X)
    for name, leaf in tree.flat_names(params).items():
        assert leaf.dtype == jnp.float32
        if name.endswith("bias"):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
            continue
        variance = 1 / 114 if name == "unembed" else 1 / 128
        error = 5 * np.sqrt(2 / leaf.size)
        np.testing.assert_allclose(np.mean(leaf**2) / variance, 1, atol=error)
    assert tree.flat_names(params)["layer_1.output"].shape == (4, 32, 128)
    same = [
        np.array_equal(params["layer_0"][k], params["layer_1"][k])
        for k in params["layer_0"]
        if not k.endswith("bias")
    ]
    assert not any(same)


def test_work_per_sample_is_that_of_the_read_out():
    """One layer: H k (m + V) + m V products a sample beside the attention itself, and
    nothing for the positions that nobody reads."""
    sizes = dict(SIZES, width=64, heads=2, head_width=32, mlp_width=256)
    model = transformer(**sizes)
    params = jax.eval_shape(model.init, jax.random.key(0), X)

    def flops(samples):
        x = jax.ShapeDtypeStruct((samples, 3), jnp.int32)
        return jax.jit(model.apply).lower(params, x).cost_analysis()["flops"]

    products = 64 * (256 + P + 1) + 256 * (P + 1)
    assert (flops(2000) - flops(1000)) / 1000 < 1.1 * 2 * products


def test_the_kernel_is_the_jacobian_times_itself():
    model, params = draw()
    jacobians = jax.tree.leaves(jax.jit(jax.jacrev(model.apply))(params, X))
    j = jnp.concatenate([leaf.reshape(9, P + 1, -1) for leaf in jacobians], axis=2)
    expected = jnp.einsum("icp,jcp->ij", j, j) / (P + 1)
    kernel = ntk.empirical_ntk(model.apply, params, X, kind="trace")
    np.testing.assert_allclose(kernel, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "x", [X[:, :2], X[0], X.astype(float)], ids=["context", "one_row", "floats"]
)
def test_inputs_that_are_no_tokens_are_refused(x):
    model, params = draw()
    for use in (model.apply, lambda _, x: model.init(jax.random.key(0), x)):
        with pytest.raises(ValueError, match=r"integer tokens of shape \(n, 3\), not"):
            use(params, x)


# --- published arrays ----------------------------------------------------------------


def published(heads=2, head_width=3, width=8, hidden=10, vocabulary=6, context=3):
    shapes = {
        "embed.W_E": (width, vocabulary),
        "pos_embed.W_pos": (context, width),
        "blocks.0.attn.W_K": (heads, head_width, width),
        "blocks.0.attn.W_Q": (heads, head_width, width),
        "blocks.0.attn.W_V": (heads, head_width, width),
        "blocks.0.attn.W_O": (width, heads * head_width),
        "blocks.0.mlp.W_in": (hidden, width),
        "blocks.0.mlp.b_in": (hidden,),
        "blocks.0.mlp.W_out": (width, hidden),
        "blocks.0.mlp.b_out": (width,),
        "unembed.W_U": (width, vocabulary),
    }
    draw = np.random.default_rng(1)
    return {name: draw.standard_normal(shape) for name, shape in shapes.items()}


def published_logits(state, tokens):
    """One sentence at a time, one head at a time, in numpy."""
    block = {
        name.removeprefix("blocks.0."): array
        for name, array in state.items()
        if name.startswith("blocks.0.")
    }
    r = state["embed.W_E"][:, tokens] + state["pos_embed.W_pos"].T  # [d, positions]
    gathered = []
    for k, q, v in zip(*(block[f"attn.W_{name}"] for name in "KQV"), strict=True):
        scores = np.einsum("hd,dp->hp", q, r)[:, -1] @ np.einsum("hd,dp->hp", k, r)
        weights = np.exp(scores / np.sqrt(len(k)))
        gathered.append(np.einsum("hd,dp->hp", v, r) @ weights / weights.sum())
    last = r[:, -1] + block["attn.W_O"] @ np.concatenate(gathered)
    hidden = np.maximum(block["mlp.W_in"] @ last + block["mlp.b_in"], 0)
    return (last + block["mlp.W_out"] @ hidden + block["mlp.b_out"]) @ state[
        "unembed.W_U"
    ]


@pytest.mark.parametrize("mask", [False, True], ids=["plain", "with_mask"])
def test_published_arrays_give_the_published_network(mask):
    state = published()
    extra = {"blocks.0.attn.mask": np.tril(np.ones((3, 3)))} if mask else {}
    params = from_nanda({**state, **extra})
    expected = [published_logits(state, np.asarray(row)) for row in X]
    model = transformer(**SIZES)
    logits = jax.jit(model.apply)(params, X)
    np.testing.assert_allclose(logits, expected, rtol=1e-11)
    fresh = jax.eval_shape(model.init, jax.random.key(0), X)
    assert jax.tree.structure(params) == jax.tree.structure(fresh)
    for own, other in zip(jax.tree.leaves(params), jax.tree.leaves(fresh), strict=True):
        assert own.shape == other.shape


def test_every_wrong_array_is_listed_in_one_sentence():
    state = published()
    del state["blocks.0.attn.W_V"], state["unembed.W_U"]
    state["blocks.0.mlp.W_in"] = state["blocks.0.mlp.W_in"].T
    state["blocks.0.ln1.w"] = np.ones(8)
    with pytest.raises(ValueError) as error:
        from_nanda(state)
    assert str(error.value) == (
        "This is no published one-layer transformer: blocks.0.attn.W_V is missing; "
        "unembed.W_U is missing; blocks.0.ln1.w is unknown; "
        "blocks.0.mlp.W_in has shape (8, 10) instead of [m 10, d 8]."
    )


@pytest.mark.parametrize("name", sorted(published()))
def test_each_array_is_checked(name):
    state = published()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        from_nanda({k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match="has shape"):
        from_nanda({**state, name: state[name][..., None]})
    with pytest.raises(ValueError, match="has shape"):
        from_nanda({**state, name: np.concatenate([state[name]] * 2, axis=-1)})
