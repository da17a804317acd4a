"""Kernels against brute-force Jacobians in float64, and dynamics against descent."""

import functools

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from grok_jax import ntk
from grok_jax.ntk import empirical
from grok_jax.ntk.blocks import choose_blocks
from grok_jax.ntk.inputs import per_sample
from grok_jax.ntk.jaxprs import flatten
from grok_jax.ntk.layers import find_layers

KINDS = ("full", "diagonal", "trace", "pseudo")


pytestmark = pytest.mark.usefixtures("as_written")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def jacobians(apply_fn, params, x):
    """Brute force [n, C, P]: one reverse pass per output and sample, no batching."""
    flat, restore = jax.flatten_util.ravel_pytree(params)

    def outputs(flat, row):
        return apply_fn(restore(flat), row[None]).reshape(-1)

    jacobian = jax.jit(jax.jacrev(outputs))
    return np.stack([jacobian(flat, row) for row in x])


def brute_force(apply_fn, params, x):
    """The kernel of every kind."""
    j = jacobians(apply_fn, params, x)
    full = np.einsum("ncp,mdp->nmcd", j, j)
    diagonal = np.einsum("nmcc->nmc", full)
    return {
        "full": full,
        "diagonal": diagonal,
        "trace": diagonal.mean(-1),
        "pseudo": j.sum(1) @ j.sum(1).T / j.shape[1],
    }


def assert_same(actual, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-11 * scale)


# --- the functions: name -> (apply_fn, params, x, leaves that need no Jacobian) ------


def dense(params, x):
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]


def dense_case():
    params = {"w1": normal(0, 3, 5), "b1": normal(1, 5), "w2": normal(2, 5, 2)}
    return dense, params, normal(3, 9, 3), {"w1", "b1", "w2"}


def scalar_case():
    def apply(params, x):
        return jnp.mean(nn.relu(x @ params["w"].T), axis=-1)

    return apply, {"w": normal(0, 6, 3)}, normal(1, 9, 3), {"w"}


def einsum_case():
    """Contractions over two axes, a leading leaf, a bias with two axes."""

    def apply(params, x):
        h = jnp.sin(jnp.einsum("nd,hed->nhe", x, params["w1"]) + params["b1"])
        return jnp.einsum("che,nhe->nc", params["w2"], h)

    params = {
        "w1": normal(0, 2, 4, 3),
        "b1": normal(1, 2, 4),
        "w2": normal(2, 3, 2, 4),
    }
    return apply, params, normal(3, 9, 3), {"w1", "b1", "w2"}


def scaled_case():
    """NTK parametrisation: the weight is scaled before the product."""

    def apply(params, x):
        h = jnp.tanh(x @ (-params["w1"] * params["gain"] / np.sqrt(3)))
        return h @ (0.5 * params["w2"].reshape(4, 2)) * 2.0

    params = {"w1": normal(0, 3, 4), "w2": normal(1, 8), "gain": jnp.asarray(1.7)}
    return apply, params, normal(2, 9, 3), {"w1", "w2"}


def positions_case():
    """A sequence: weights and biases act at every position."""

    def apply(params, x):
        h = jnp.tanh(x @ params["w1"] + params["b1"])
        h = jnp.einsum("nqd,pq->npd", h, params["mix"])
        return (h @ params["w2"] + params["b2"].reshape(1, 1, -1))[:, -1]

    params = {
        "w1": normal(0, 3, 6),
        "b1": normal(1, 6),
        "mix": normal(2, 4, 4),
        "w2": normal(3, 6, 5),
        "b2": normal(4, 5),
    }
    return apply, params, normal(5, 9, 4, 3), {"w1", "b1", "mix", "w2", "b2"}


def shared_case():
    """The same layer twice (positions), and one that is used transposed too."""

    def apply(params, x):
        h = jnp.tanh(x @ params["w"] + params["b"])
        h = jnp.tanh(h @ params["w"] + params["b"])
        return (h @ params["v"]) @ params["v"].T

    params = {"w": normal(0, 4, 4), "b": normal(1, 4), "v": normal(2, 4, 2)}
    return apply, params, normal(3, 9, 4), {"w", "b", "v"}


def odd_bias_case():
    """Biases without a probe: of a product read twice or widened, scaled, reshaped."""

    def apply(params, x):
        product = x @ params["w1"]
        h = jnp.tanh(product + params["b1"]) + product
        h = h @ params["w2"] + 0.5 * params["b2"]
        h = (h.reshape(-1, 2, 2) + params["b3"]).reshape(-1, 4)
        h = h @ params["w3"] + jnp.tanh(params["b3"])[None, :1] * x[:, :1]
        return h * (x @ params["w4"] + params["b4"])

    params = {
        "w1": normal(0, 3, 4),
        "b1": normal(1, 4),
        "w2": normal(2, 4, 4),
        "b2": normal(3, 4),
        "b3": normal(4, 2),
        "w3": normal(5, 4, 2),
        "w4": normal(6, 3, 1),
        "b4": normal(7, 2),
    }
    return apply, params, normal(8, 9, 3), {"w1", "w2", "w3", "w4"}


def opaque_case():
    """Uses that no factors describe: elementwise, norms, products of two leaves."""

    def apply(params, x):
        h = jnp.tanh(x * params["scale"]) @ (params["u"] @ params["v"])
        h = h @ (params["w"] / jnp.linalg.norm(params["w"]))
        return jax.lax.stop_gradient(params["frozen"]) * h + params["w"][:1]

    params = {
        "scale": normal(0, 3),
        "u": normal(1, 3, 2),
        "v": normal(2, 2, 4),
        "w": normal(3, 4, 2),
        "frozen": normal(4),
        "unused": normal(5, 7),
    }
    return apply, params, normal(6, 9, 3), {"unused"}


def wrapped_case():
    """Through jit, remat, relu's custom derivative, and vmap inside apply_fn."""

    @jax.custom_vjp
    def halved(x):
        return x

    halved.defvjp(lambda x: (x, None), lambda _, g: (g / 2,))

    def apply(params, x):
        layer = jax.checkpoint(jax.jit(lambda w, b, x: nn.relu(x @ w + b)))
        h = halved(layer(params["w1"], params["b1"], x))
        h = jax.jit(lambda h, low, n: jnp.maximum(h, low) ** n)(h, 0.1, 2)
        return jax.vmap(lambda h: params["w2"] @ h)(h)

    params = {"w1": normal(0, 3, 5), "b1": normal(1, 5), "w2": normal(2, 2, 5)}
    return apply, params, normal(3, 9, 3), {"w1", "b1", "w2"}


def custom_leaf_case():
    """A custom derivative that a parameter passes through is respected."""

    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(
        lambda x, w: (x @ w, (x, w)), lambda r, g: (g @ r[1].T, 3 * r[0].T @ g)
    )
    params = {"w": normal(0, 3, 2)}
    return lambda p, x: product(x, p["w"]), params, normal(1, 9, 3), set()


def embedding_case():
    """Look-ups, one of them scaled by the network; tokens may repeat."""

    def apply(params, x):
        h = params["embed"][x] + params["position"][: x.shape[1]]
        return jnp.tanh(h * 1.5).sum(1) @ params["out"]

    params = {
        "embed": normal(0, 11, 4),
        "position": normal(1, 5, 4),
        "out": normal(2, 4, 3),
    }
    tokens = jnp.asarray(np.random.default_rng(3).integers(-11, 11, (9, 3)))
    return apply, params, tokens, {"embed", "out"}


def rnn_case():
    def apply(params, x):
        def step(h, x):
            return jnp.tanh(h @ params["w"] + x @ params["u"]), None

        start = jnp.zeros((len(x), 4))
        last, _ = jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))
        return last @ params["v"]

    params = {"w": normal(0, 4, 4), "u": normal(1, 3, 4), "v": normal(2, 4, 2)}
    return apply, params, normal(3, 9, 5, 3), {"w", "u", "v"}


def control_flow_case():
    def apply(params, x):
        h = jax.lax.cond(x.sum() > 0, lambda: x @ params["a"], lambda: x @ params["b"])
        h = jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ params["w"]), h)
        top, _ = jax.lax.top_k(h @ params["v"], 2)
        return top

    params = {
        "a": normal(0, 3, 4),
        "b": normal(1, 3, 4),
        "w": normal(2, 4, 4),
        "v": normal(3, 4, 3),
    }
    return apply, params, normal(4, 9, 3), {"w", "v"}


def stacked_case():
    """Layers under a scan: slices of their weights, and a scan in the scan."""

    def apply(params, x):
        def block(h, layer):
            def turn(h, _):
                return jnp.tanh(h @ params["w"] + params["c"] + h * layer["g"]), h[:, 0]

            h = jnp.tanh(h @ layer["w"] + layer["b"])
            h, trace = jax.lax.scan(turn, h, None, length=2, reverse=True)
            return h, h @ layer["out"] + trace.sum()

        _, each = jax.lax.scan(block, x, params["layers"])
        return each.sum(0)

    layers = {
        "w": normal(0, 3, 4, 4),
        "b": normal(1, 3, 4),
        "out": normal(2, 3, 4, 2),
        "g": normal(3, 3, 4),
    }
    params = {"layers": layers, "w": normal(4, 4, 4), "c": normal(5, 4)}
    return apply, params, normal(6, 9, 4), None


def heads_case():
    """Weights with an axis that is no sum: a product for each head or expert."""

    def apply(params, x):
        h = jnp.einsum("nqhd,hde->nqhe", x, params["w"]) + params["b"][
            :, None
        ].swapaxes(0, 1)
        h = jnp.einsum("hek,nqhe->hnqk", params["v"], jnp.tanh(h))
        return h.sum((0, 2))

    params = {"w": normal(0, 2, 3, 4), "b": normal(1, 2, 4), "v": normal(2, 2, 4, 3)}
    return apply, params, normal(3, 9, 5, 2, 3), {"w", "v"}


def joined_case():
    """Weights side by side, as the gates of an LSTM; one of them scaled."""

    def apply(params, x):
        gates = jnp.concatenate([params["i"], 2.0 * params["f"].T, params["o"]], axis=1)
        gates = jnp.tanh(x @ gates + params["bias"])
        i, f, o = jnp.split(gates, [4, 7], axis=-1)
        tall = jnp.concatenate([params["u"], params["v"]])
        h = jnp.concatenate([i, f], axis=-1) @ tall
        odd = jnp.tanh(jnp.concatenate([params["a"], params["b"]]))
        return h + o @ odd + o @ jnp.concatenate([params["c"], odd[1:]])

    shapes = dict(i=(3, 4), f=(3, 3), o=(3, 2), u=(4, 2), v=(3, 2))
    shapes |= dict(a=(1, 2), b=(1, 2), c=(1, 2), bias=(9,))
    params = {n: normal(k, *shape) for k, (n, shape) in enumerate(shapes.items())}
    return apply, params, normal(9, 9, 3), {"i", "f", "o", "u", "v"}


def convolutions_case():
    """Strides, dilation, groups, kinds of padding, both layouts, and transposed."""

    def apply(params, x):
        convolve = jax.lax.conv_general_dilated
        nhwc = ("NHWC", "HWIO", "NHWC")
        h = convolve(x, 0.5 * params["plain"], (1, 1), "SAME", dimension_numbers=nhwc)
        h = jnp.tanh(h + params["bias"])
        h = convolve(
            h,
            params["strided"],
            (2, 1),
            [(1, 0), (2, -1)],
            rhs_dilation=(1, 2),
            dimension_numbers=nhwc,
        )
        h = jnp.tanh(h).transpose(0, 3, 1, 2)
        h = convolve(h, params["groups"], (1, 1), "SAME", feature_group_count=2)
        h = jnp.tanh(convolve(h, params["same"], (1, 1), "SAME"))
        h = jnp.tanh(convolve(h, params["same"], (1, 1), "SAME"))
        h = convolve(
            h,
            params["up"],
            (1, 1),
            [(0, 0), (1, 0)],
            lhs_dilation=(2, 2),
            feature_group_count=4,
        )
        return h.mean((2, 3))

    params = {
        "plain": normal(0, 3, 3, 2, 4),
        "bias": normal(1, 4),
        "strided": normal(2, 2, 2, 4, 4),
        "groups": normal(3, 4, 2, 2, 3),
        "same": normal(4, 4, 4, 1, 2),
        "up": normal(5, 8, 1, 2, 2),
    }
    return apply, params, normal(6, 9, 6, 5, 2), set(params)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (6, 5):
            x = nn.relu(nn.Dense(width, param_dtype=jnp.float64)(x))
        return nn.Dense(3, param_dtype=jnp.float64)(x)


class Transformer(nn.Module):
    """One block with everything: embedding, attention, LayerNorm, MLP, residuals."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(7, 8, param_dtype=jnp.float64)(tokens)
        x = x + self.param("position", nn.initializers.normal(), (3, 8), jnp.float64)
        attend = nn.MultiHeadDotProductAttention(num_heads=2, param_dtype=jnp.float64)
        x = x + attend(nn.LayerNorm(param_dtype=jnp.float64)(x))
        h = nn.Dense(10, param_dtype=jnp.float64)(x)
        x = x + nn.Dense(8, param_dtype=jnp.float64)(nn.gelu(h))
        return nn.Dense(4, param_dtype=jnp.float64)(x[:, -1])


class Conv(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(2, (3, 3), param_dtype=jnp.float64)(x))
        return nn.Dense(2, param_dtype=jnp.float64)(x.reshape(len(x), -1))


def linen_case(module, x):
    params = module.init(jax.random.key(0), x[:1])["params"]
    params = jax.tree.map(lambda p: p + 0.1 * normal(1, *p.shape), params)
    return lambda p, x: module.apply({"params": p}, x), params, x, None


def mlp_case():
    return linen_case(Mlp(), normal(0, 9, 4))


def transformer_case():
    tokens = np.random.default_rng(0).integers(0, 7, (9, 3))
    return linen_case(Transformer(), jnp.asarray(tokens))


def conv_case():
    return linen_case(Conv(), normal(0, 9, 4, 4, 1))


class Recurrent(nn.Module):
    """Cells and blocks under flax's own scans."""

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.GRUCell(3, param_dtype=jnp.float64))(x)
        x = nn.RNN(nn.OptimizedLSTMCell(4, param_dtype=jnp.float64), reverse=True)(x)
        stack = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = stack()(x, None)
        return nn.Dense(2, param_dtype=jnp.float64)(x[:, -1])


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.tanh(nn.Dense(4, param_dtype=jnp.float64)(x)), None


def recurrent_case():
    return linen_case(Recurrent(), normal(0, 9, 3, 2))


def nnx_case():
    model = nnx.Sequential(
        nnx.Linear(4, 5, rngs=nnx.Rngs(0), param_dtype=jnp.float64),
        nnx.relu,
        nnx.Linear(5, 2, rngs=nnx.Rngs(1), param_dtype=jnp.float64),
    )
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return lambda p, x: nnx.merge(graph, p, rest)(x), params, normal(0, 9, 4), None


CASES = {
    name.removesuffix("_case"): case
    for name, case in list(globals().items())
    if name.endswith("_case") and name != "linen_case"
}


LIBRARY_CASES = {
    "mlp",
    "transformer",
    "conv",
    "recurrent",
    "stacked",
    "nnx",
}  # without names to expect
IN_EVERY_KIND = {"dense", "scalar", "shared", "positions", "opaque"}


@pytest.mark.parametrize("rule", ["gram", "gradient"])
@pytest.mark.parametrize("name", CASES)
def test_kernel_is_brute_force(name, rule, monkeypatch):
    """By either rule for all layers, even where the other would be cheaper."""
    monkeypatch.setattr(empirical, "_gram_is_cheaper", lambda *_: rule == "gram")
    apply_fn, params, x, _ = CASES[name]()
    expected = brute_force(apply_fn, params, x)
    for kind in KINDS if name in IN_EVERY_KIND else ["full"]:
        actual = ntk.empirical_ntk(apply_fn, params, x, kind=kind)
        assert_same(actual, expected[kind])


@pytest.mark.parametrize("name", ["dense", "opaque", "shared", "positions"])
def test_two_sets_of_inputs_are_brute_force(name):
    """With factors or Jacobians, whichever is cheaper."""
    apply_fn, params, x, _ = CASES[name]()
    mixed = ntk.empirical_ntk(apply_fn, params, x[:4], x[3:])
    assert_same(mixed, brute_force(apply_fn, params, x)["trace"][:4, 3:])


@pytest.mark.parametrize("name", sorted(CASES.keys() - LIBRARY_CASES))
def test_layers_that_can_be_factored_are(name):
    """By name: the leaves that `find_layers` does not leave to a Jacobian."""
    apply_fn, params, x, factored = CASES[name]()
    names = sorted(params)  # the order of jax.tree.leaves
    outputs, leaves, _ = per_sample(apply_fn, params)
    flat = flatten(jax.make_jaxpr(outputs)(leaves, x[0]))
    layers, explicit = find_layers(flat, len(leaves))
    assert {n for i, n in enumerate(names) if i not in explicit} == factored
    used = {i for layer in layers for i in (layer.weight, layer.bias)} - {None}
    assert used.isdisjoint(explicit)


def test_no_per_sample_jacobian_of_a_dense_network_is_formed():
    """The factors of one sample are far smaller than its Jacobian."""
    apply_fn, params, x, _ = mlp_case()
    problem = empirical.make_problem(apply_fn, params, x, None, "trace")
    assert problem.factorization.jacobians == ()
    biases = {layer.bias for layer in problem.factorization.layers}
    assert len(biases) == 3 and None not in biases
    sizes = [(4, 6), (6, 5), (5, 3)]
    per_sample = sum(a + 3 * b for a, b in sizes) * 8
    assert problem.factor_bytes == per_sample


def test_many_positions_make_a_jacobian_cheaper():
    def apply(params, x):
        return (x @ params["w"]).sum((1, 2))

    params, long = {"w": normal(0, 2, 2)}, normal(1, 5, 50, 2)
    problem = empirical.make_problem(apply, params, long, None, "trace")
    assert [layer.rule for layer in problem.factorization.layers] == ["gradient"]
    assert_same(
        ntk.empirical_ntk(apply, params, long),
        brute_force(apply, params, long)["trace"],
    )


def test_kernel_of_a_linear_model_is_its_gram_matrix():
    x = normal(0, 11, 4)
    for kind, expected in (("trace", x @ x.T), ("pseudo", x @ x.T)):
        assert_same(ntk.empirical_ntk(lambda w, x: x @ w, normal(1, 4), x), expected)
        actual = ntk.empirical_ntk(lambda w, x: x @ w, normal(1, 4, 3), x, kind=kind)
        assert_same(actual, expected)


def test_kernel_after_training_is_brute_force():
    apply_fn, params, x, _ = mlp_case()
    y = normal(5, 9, 3)
    tx = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        grad = jax.grad(lambda p: jnp.mean((apply_fn(p, x) - y) ** 2))(params)
        updates, state = tx.update(grad, state)
        return optax.apply_updates(params, updates), state

    before, state = params, tx.init(params)
    for _ in range(30):
        params, state = step(params, state)
    expected = brute_force(apply_fn, params, x)["trace"]
    assert_same(ntk.empirical_ntk(apply_fn, params, x), expected)
    moved = ntk.empirical_ntk(apply_fn, before, x) - expected
    assert np.abs(moved).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["trace", "full"])
@pytest.mark.parametrize("budget", [0, ntk.MEMORY_BUDGET], ids=["again", "kept"])
def test_block_size_does_not_matter(kind, budget):
    apply_fn, params, x, _ = dense_case()
    expected = brute_force(apply_fn, params, x)[kind]
    run = functools.partial(
        ntk.empirical_ntk, apply_fn, params, kind=kind, memory_budget=budget
    )
    for block_size in (1, 7, 9, 100):
        assert_same(run(x, block_size=block_size), expected)
    assert_same(run(x, x[:5], block_size=2), expected[:, :5])
    assert_same(run(x[:5], x, block_size=7), expected[:5])


@pytest.mark.optimised
@pytest.mark.parametrize("block_size", [None, 100])
@pytest.mark.parametrize("kind", ["trace", "full"])
def test_kernel_of_one_set_is_exactly_symmetric(kind, block_size):
    apply_fn, params, _, _ = dense_case()
    x = normal(7, 403, 3)  # halved, with an odd remainder
    with jax.enable_x64(False):
        params, x = jax.tree.map(lambda a: np.asarray(a, np.float32), (params, x))
        k = ntk.empirical_ntk(apply_fn, params, x, kind=kind, block_size=block_size)
        other = ntk.empirical_ntk(apply_fn, params, x, x, kind=kind)
    axes = (1, 0, *range(2, k.ndim)[::-1])
    np.testing.assert_array_equal(k, np.transpose(k, axes))
    np.testing.assert_allclose(k, other, rtol=2e-4, atol=2e-5)


def test_kinds_are_reductions_of_the_full_kernel():
    apply_fn, params, x, _ = dense_case()
    k = {kind: ntk.empirical_ntk(apply_fn, params, x, kind=kind) for kind in KINDS}
    diagonal = jnp.einsum("nmcc->nmc", k["full"])
    assert_same(k["diagonal"], diagonal)
    assert_same(k["trace"], diagonal.mean(-1))
    assert_same(k["pseudo"], k["full"].sum((2, 3)) / 2)
    flat = ntk.flatten_kernel(k["full"])
    assert_same(flat[2:4, 4:6], k["full"][1, 2])
    assert np.linalg.eigvalsh(flat).min() > -1e-10


@pytest.mark.parametrize("name", ["dense", "opaque"])
def test_layer_kernels_sum_to_the_total(name):
    apply_fn, params, x, _ = CASES[name]()
    for kind in ("trace", "full"):
        layers = ntk.layer_ntks(apply_fn, params, x, kind=kind, block_size=4)
        assert layers.keys() == params.keys()
        assert_same(
            sum(layers.values()), ntk.empirical_ntk(apply_fn, params, x, kind=kind)
        )


def test_each_layer_kernel_is_that_of_the_leaf_alone():
    apply_fn, params, x, _ = dense_case()
    layers = ntk.layer_ntks(apply_fn, params, x)
    for name, leaf in params.items():

        def alone(leaf, x, name=name):
            return apply_fn(params | {name: leaf}, x)

        assert_same(layers[name], brute_force(alone, leaf, x)["trace"])


def test_leaves_that_are_not_floating_are_constants():
    def apply(params, x):
        return params["power"] * (x @ params["w"])

    params = {"w": normal(0, 3, 2), "power": 2, "key": jax.random.key(0)}
    layers = ntk.layer_ntks(apply, params, normal(1, 4, 3))
    assert_same(layers["w"], 4 * normal(1, 4, 3) @ normal(1, 4, 3).T)
    assert not layers["power"].any()


def test_function_that_ignores_its_parameters_has_no_kernel():
    x = normal(0, 5, 3)
    for kind, shape in (("trace", (5, 5)), ("full", (5, 5, 3, 3))):
        k = ntk.empirical_ntk(lambda p, x: x, normal(1, 2), x, kind=kind, block_size=2)
        assert k.shape == shape and not k.any()


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("mode", ["clip", "fill", "wrap"])
def test_look_ups_beyond_the_table(mode, dtype):
    """Tokens past the end are clipped or dropped, in the gradient as in the value."""

    def apply(table, x):
        rows = jnp.take(table, x, axis=0, mode=mode, fill_value=0.5)
        return jnp.sin(rows).sum(1)

    table, tokens = normal(0, 3, 2), np.array([[0, 4], [2, 2], [3, 1]], dtype)
    expected = brute_force(apply, table, jnp.asarray(tokens))["trace"]
    assert_same(ntk.empirical_ntk(apply, table, tokens), expected)


def test_samples_are_independent_even_where_the_function_mixes_them():
    def batch_norm(params, x):
        return ((x - x.mean(0)) ** 2 + x) @ params

    x = normal(0, 5, 3)
    k = ntk.empirical_ntk(batch_norm, normal(1, 3, 2), x)
    assert_same(k, x @ x.T)


def test_under_jit_and_vmap_over_seeds():
    apply_fn, params, x, _ = mlp_case()
    seeds = [jax.tree.map(lambda p, s=s: p + s * jnp.cos(p), params) for s in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
    run = functools.partial(ntk.empirical_ntk, apply_fn, block_size=4)
    batched = jax.jit(jax.vmap(run, in_axes=(0, None)))(stacked, x)
    for seed in range(3):
        assert_same(batched[seed], run(seeds[seed], x))


def test_function_may_close_over_traced_values():
    """An output scale that a sweep traces: K grows with its square."""
    apply_fn, params, x, _ = dense_case()

    def at_scale(scale):
        return ntk.empirical_ntk(lambda p, x: scale * apply_fn(p, x), params, x)

    scales = jnp.asarray([0.5, 2.0])
    expected = scales[:, None, None] ** 2 * ntk.empirical_ntk(apply_fn, params, x)
    assert_same(jax.vmap(at_scale)(scales), expected)
    assert_same(jax.jit(jax.vmap(at_scale))(scales), expected)


def test_gradient_of_the_kernel():
    """A kernel regulariser has a gradient, and blocks pass it on."""
    x, w = normal(0, 9, 3), normal(1, 6, 3)

    def apply_fn(w, x):
        return jnp.mean(jnp.tanh(x @ w.T), axis=-1)

    @jax.jit
    @jax.grad
    def gradient(w):
        return jnp.sum(jnp.sin(ntk.empirical_ntk(apply_fn, w, x, block_size=4)))

    def explicit(w):
        rows = jax.vmap(jax.grad(lambda w, x: apply_fn(w, x[None])[0]), (None, 0))
        j = rows(w, x).reshape(len(x), -1)
        return jnp.sum(jnp.sin(j @ j.T))

    assert_same(gradient(w), jax.jit(jax.grad(explicit))(w))


def test_inside_shard_map_without_communication():
    apply_fn, params, x, _ = scalar_case()
    mesh = Mesh(np.array(jax.devices()[:1]), ("run",))
    runs, all_of_it = PartitionSpec("run"), PartitionSpec()

    def over_rows(params, x, block_size=4):
        return ntk.empirical_ntk(apply_fn, params, x, block_size=block_size)

    sharded = jax.jit(
        jax.shard_map(over_rows, mesh=mesh, in_specs=(all_of_it, runs), out_specs=runs)
    )
    text = str(jax.make_jaxpr(sharded)(params, x))
    assert "psum" not in text and "all_gather" not in text
    assert_same(sharded(params, x), over_rows(params, x))

    def over_seeds(params, x):
        return jax.vmap(lambda p: over_rows(p, x, None))(params)

    stacked = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    sharded = jax.jit(
        jax.shard_map(over_seeds, mesh=mesh, in_specs=(runs, all_of_it), out_specs=runs)
    )
    assert_same(sharded(stacked, x), jax.jit(over_seeds)(stacked, x))


def test_compiles_once_for_each_shape():
    calls = []

    def apply(params, x):
        calls.append(x.shape)
        return x @ params

    x = normal(0, 6, 3)
    ntk.empirical_ntk(apply, normal(1, 3, 2), x)
    traces = len(calls)
    ntk.empirical_ntk(apply, normal(2, 3, 2), x + 1)
    assert len(calls) == traces
    ntk.empirical_ntk(apply, normal(2, 3, 2), x[:5])
    assert len(calls) == 2 * traces


def test_function_that_has_no_hash():
    class Scale:
        __hash__ = None

        def __call__(self, params, x):
            return 2 * x @ params

    x = normal(0, 6, 3)
    assert_same(ntk.empirical_ntk(Scale(), normal(1, 3), x), 4 * x @ x.T)


def test_no_rank_promotion_and_no_implicit_transfer():
    """What careful users forbid in their programs."""
    apply_fn, params, x, _ = mlp_case()
    y, rate, steps = jax.device_put((np.ones((9, 3)), 0.1, np.array([1, 2])))
    with jax.numpy_rank_promotion("raise"), jax.transfer_guard("disallow"):
        for kind in ("trace", "full"):
            k = ntk.empirical_ntk(apply_fn, params, x, kind=kind, block_size=4)
            jax.jit(ntk.lazy_dynamics)(k, y, k, rate, steps)
            ntk.lazy_dynamics(k, y, k, 0.1, [1, 2], y, y)
            ntk.kernel_regression(k, y, k)
            ntk.spectrum(k)
        ntk.layer_ntks(apply_fn, params, x)
        ntk.top_eigenpairs(apply_fn, params, x, 2)
        jax.jit(ntk.linearize(apply_fn, params))(params, x)


def test_numpy_and_low_precision_inputs():
    with jax.enable_x64(False):
        x = np.random.default_rng(0).standard_normal((6, 3))
        w = np.ones((3, 2), np.float32)
        k = ntk.empirical_ntk(lambda w, x: x @ w, w, x)
        assert k.dtype == jnp.float32
        np.testing.assert_allclose(k, x @ x.T, rtol=1e-5, atol=1e-6)

        def half(w, x):
            return x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)

        k = ntk.empirical_ntk(half, w, x)
        assert k.dtype == jnp.float32
        np.testing.assert_allclose(k, x @ x.T, rtol=3e-2, atol=3e-2)


# --- memory ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "block_size"), [("trace", None), ("full", 60)])
@pytest.mark.parametrize("name", ["dense", "opaque", "embedding", "convolutions"])
def test_predicted_bytes_are_what_xla_allocates(name, block_size, kind):
    apply_fn, params, x, _ = CASES[name]()
    x = jnp.tile(x, (20,) + (1,) * (x.ndim - 1))
    run = functools.partial(
        ntk.empirical_ntk, apply_fn, kind=kind, block_size=block_size
    )
    allocated = jax.jit(run).lower(params, x).compile().memory_analysis()
    actual = allocated.temp_size_in_bytes + allocated.output_size_in_bytes
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x))
    predicted = ntk.predicted_bytes(apply_fn, *shapes, kind=kind, block_size=block_size)
    assert 0.8 * actual < predicted < 5 * actual  # as its docstring says


def test_automatic_blocks_stay_within_the_budget():
    def apply(params, x):
        return jnp.tanh(x * params["scale"]) @ params["w"]  # scale: a Jacobian

    params = {"scale": normal(0, 300), "w": normal(1, 300, 5)}
    x = normal(2, 64, 300)
    free = ntk.predicted_bytes(apply, params, x)
    kernel = 3 * 64 * 64 * 8
    for budget in (free // 3, free // 9):
        used = ntk.predicted_bytes(apply, params, x, memory_budget=budget)
        assert used <= budget + kernel
        assert_same(
            ntk.empirical_ntk(apply, params, x, memory_budget=budget),
            ntk.empirical_ntk(apply, params, x),
        )
    assert ntk.predicted_bytes(apply, params, x, block_size=8) < free


# --- errors ---------------------------------------------------------------------------


def line(w, x):
    return x @ w


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda w, x: ntk.empirical_ntk(line, w, x, kind="trase"), "nearest: trace"),
        (lambda w, x: ntk.empirical_ntk(line, w, x, kind=3), "known: diagonal, full"),
        (lambda w, x: ntk.empirical_ntk(line, w, x, block_size=0), "1 or more; got 0"),
        (lambda w, x: ntk.empirical_ntk(line, w, x[:0]), "x1 must have at least one"),
        (lambda w, x: ntk.empirical_ntk(line, w, x, x[:0]), "x2 must have at least"),
        (lambda w, x: ntk.empirical_ntk(line, w, x, x[:, :2]), "must have one shape"),
        (lambda w, x: ntk.empirical_ntk(line, {"n": 3}, x), "no floating leaf"),
        (lambda w, x: ntk.empirical_ntk(line, w + 1j, x), "Complex parameters"),
        (lambda w, x: ntk.empirical_ntk(lambda w, x: x.sum(), w, x), r"returned \(\)"),
        (lambda w, x: ntk.empirical_ntk(lambda w, x: (x, x), w, x), "returned tuple"),
        (lambda w, x: ntk.empirical_ntk(lambda w, x: x[..., None], w, x), "1, 3, 1"),
        (lambda w, x: ntk.predicted_bytes(line, w, x, kind="a"), "Unknown kind"),
        (lambda w, x: ntk.flatten_kernel(x), "full kernel"),
        (lambda w, x: ntk.ntk_vector_product(line, w, x, x), r"shape \(5,\)"),
        (lambda w, x: ntk.top_eigenpairs(line, w, x, 5), r"1 \.\. 4; got 5"),
        (lambda w, x: ntk.top_eigenpairs(line, w, x, 1, kind="diagonal"), "takes kind"),
        (lambda w, x: ntk.spectrum(x), "square kernel"),
        (lambda w, x: ntk.spectrum(np.full((2, 2), np.nan)), "not finite"),
        (lambda w, x: jax.jit(ntk.spectrum)(x @ x.T), "outside jit"),
        (lambda w, x: ntk.kernel_regression(x @ x.T, x[:3], x @ x.T), "Kernels"),
        (lambda w, x: ntk.kernel_regression(x @ x.T, x, x), "Kernels"),
        (lambda w, x: ntk.lazy_dynamics(x @ x.T, x, x @ x.T, 1, [-1]), "integers >= 0"),
        (lambda w, x: ntk.lazy_dynamics(x @ x.T, x, x @ x.T, 1, [0.5]), "integers"),
        (
            lambda w, x: ntk.lazy_dynamics(x @ x.T, x, x @ x.T, 1, [1], f0_eval=w),
            "f0_eval must have shape",
        ),
    ],
)
def test_errors_are_one_clear_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(normal(0, 3), normal(1, 5, 3))


# --- products and spectra -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_vector_product_is_the_kernel_times_the_vector(kind):
    apply_fn, params, x, _ = dense_case()
    x2 = x[:5] + 1
    k = ntk.empirical_ntk(apply_fn, params, x, x2, kind=kind)
    rule = {"full": "nmcd,md->nc", "diagonal": "nmc,mc->nc"}.get(kind, "nm,m->n")
    vector = normal(7, 5, 2) if kind in ("full", "diagonal") else normal(7, 5)
    actual = ntk.ntk_vector_product(apply_fn, params, x, vector, x2, kind=kind)
    assert_same(actual, jnp.einsum(rule, k, vector))


@pytest.mark.parametrize("kind", ["trace", "pseudo", "full"])
def test_top_eigenpairs_are_those_of_the_dense_kernel(kind):
    apply_fn, params, x, _ = dense_case()
    k = ntk.empirical_ntk(apply_fn, params, x, kind=kind)
    values, vectors, errors = ntk.top_eigenpairs(apply_fn, params, x, 3, kind=kind)
    dense = ntk.spectrum(k)
    assert (errors < 1e-8 * dense.eigenvalues[0]).all()
    np.testing.assert_allclose(values, dense.eigenvalues[:3], rtol=1e-8)
    overlap = np.abs(np.sum(vectors * dense.eigenvectors[:, :3], axis=0))
    np.testing.assert_allclose(overlap, 1.0, rtol=1e-8)


def test_the_error_of_an_eigenvalue_bounds_its_distance_from_one_of_the_kernel():
    """Of products in float32, whose errors are far above those of the solver."""
    apply_fn, params, x, _ = dense_case()
    exact = ntk.spectrum(ntk.empirical_ntk(apply_fn, params, x)).eigenvalues
    rough = jax.tree.map(lambda a: a.astype(jnp.float32), (params, x))
    values, _, errors = ntk.top_eigenpairs(apply_fn, *rough, 3)
    distance = np.abs(values[:, None] - exact).min(axis=1)
    rounding = 1e-5 * exact[0]  # of the kernel itself
    assert (distance <= errors + rounding).all() and (errors > 0).all()


def test_spectrum_is_float64_and_descending_whatever_the_kernel():
    k = normal(0, 6, 6)
    k = np.asarray(k @ k.T, np.float32)
    result = ntk.spectrum(jnp.asarray(k))
    assert result.eigenvalues.dtype == result.eigenvectors.dtype == np.float64
    assert (np.diff(result.eigenvalues) <= 0).all()
    rebuilt = result.eigenvectors * result.eigenvalues @ result.eigenvectors.T
    np.testing.assert_allclose(rebuilt, np.asarray(k, np.float64), atol=1e-12)


# --- linearised networks --------------------------------------------------------------


def test_linearisation_is_exact_at_the_expansion_point_and_second_order_beyond():
    apply_fn, params, x, _ = dense_case()
    f_lin = ntk.linearize(apply_fn, params)
    assert_same(f_lin(params, x), apply_fn(params, x))
    errors = []
    for step in (1e-2, 1e-3):
        moved = jax.tree.map(lambda p, step=step: p + step, params)
        errors.append(jnp.abs(f_lin(moved, x) - apply_fn(moved, x)).max())
    assert 50 < errors[0] / errors[1] < 200


def test_kernel_of_the_linearisation_is_constant():
    apply_fn, params, x, _ = dense_case()
    moved = jax.tree.map(lambda p: p + 1.0, params)
    actual = ntk.empirical_ntk(ntk.linearize(apply_fn, params), moved, x)
    assert_same(actual, ntk.empirical_ntk(apply_fn, params, x))


def descend(apply_fn, params, x, y, rate, steps, ridge=0.0):
    """Parameters of plain gradient descent on (1/P) sum_i |f_i - y_i|^2, and on
    (ridge/P) times the squared distance from their start."""
    start = params

    def loss(params):
        moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, start)
        fit = jnp.sum((apply_fn(params, x) - y) ** 2)
        return (fit + ridge * sum(jax.tree.leaves(moved))) / len(x)

    @jax.jit
    def step(params):
        return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))

    result = []
    for t in range(max(steps) + 1):
        if t in steps:
            result.append(params)
        params = step(params)
    return result


@pytest.mark.parametrize("rate", [0.02, 0.3])  # 0.3: the leading mode oscillates
@pytest.mark.parametrize(("kind", "ridge"), [("trace", 0), ("full", 0), ("full", 0.7)])
def test_lazy_dynamics_is_gradient_descent_on_the_linearisation(kind, ridge, rate):
    apply_fn, params, x, _ = dense_case()
    if kind == "trace":  # exact for one output
        full, apply_fn = apply_fn, lambda p, x: full(p, x)[:, 0]
    train, test = x[:6], x[6:]
    y = jnp.sin(apply_fn(params, 2 * train))
    f_lin = ntk.linearize(apply_fn, params)
    k = ntk.empirical_ntk(apply_fn, params, train, kind=kind)
    k_test = ntk.empirical_ntk(apply_fn, params, test, train, kind=kind)
    steps = [0, 1, 2, 7, 100]
    rate = rate * 6 / ntk.spectrum(k).eigenvalues[0] * 3
    starts = f_lin(params, train), f_lin(params, test)
    f_train, f_test = ntk.lazy_dynamics(k, y, k_test, rate, steps, *starts, ridge=ridge)
    ways = descend(f_lin, params, train, y, rate, steps, ridge)
    for i, trained in enumerate(ways):
        np.testing.assert_allclose(f_train[i], f_lin(trained, train), rtol=1e-9)
        np.testing.assert_allclose(f_test[i], f_lin(trained, test), rtol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_lazy_dynamics_begins_at_f0_and_ends_at_kernel_regression(ridge):
    x = normal(0, 8, 20)
    k, k_eval, y = x @ x.T, normal(1, 3, 20) @ x.T, normal(2, 8, 2)
    rate = 8 / ntk.spectrum(k).eigenvalues[0] / 2
    f0, f0_eval = normal(3, 8, 2), normal(4, 3, 2)
    f_train, f_eval = ntk.lazy_dynamics(
        k, y, k_eval, rate, [0, 10**6], f0, f0_eval, ridge
    )
    assert_same(f_train[0], f0)
    assert_same(f_eval[0], f0_eval)
    assert_same(f_train[1], f0 + ntk.kernel_regression(k, y - f0, k, ridge))
    regression = f0_eval + ntk.kernel_regression(k, y - f0, k_eval, ridge)
    assert_same(f_eval[1], regression)
    assert ridge or np.allclose(f_train[1], y, rtol=1e-10)


def test_lazy_dynamics_of_a_singular_kernel():
    """Null directions stay; those nearly null move as c t, to full accuracy."""
    values = np.array([2.0, 1e-14, 0.0])
    basis = np.linalg.qr(np.asarray(normal(0, 3, 3)))[0]
    k, y = basis * values @ basis.T, basis @ np.ones(3)
    steps = np.array([0, 1, 1000, 10**6])
    f_train, f_eval = ntk.lazy_dynamics(
        np.diag(values), np.ones(3), np.eye(3), 1.5, steps
    )
    assert_same(f_train[:, 2], 0 * steps)
    np.testing.assert_allclose(f_train[:, 1], steps * 1e-14, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(f_eval[:, 1], steps, rtol=1e-6)
    np.testing.assert_allclose(f_eval[:, 2], steps, rtol=1e-12)
    turned, _ = ntk.lazy_dynamics(k, y, k, 1.5, steps)
    np.testing.assert_allclose(turned @ basis, f_train, atol=1e-8)


def test_lazy_dynamics_may_diverge():
    f_train, _ = ntk.lazy_dynamics(np.eye(1), np.ones(1), np.eye(1), 1.5, [1, 2, 3])
    np.testing.assert_allclose(f_train[:, 0], [3.0, -3.0, 9.0])  # factor 1 - 3 = -2
    exact, _ = ntk.lazy_dynamics(np.eye(1), np.ones(1), np.eye(1), 0.5, [0, 1, 5])
    np.testing.assert_allclose(exact[:, 0], [0.0, 1.0, 1.0])  # factor 0


def test_dynamics_and_regression_under_jit_and_vmap():
    x = normal(0, 6, 8)
    k, k_eval, y = x @ x.T, normal(1, 4, 8) @ x.T, normal(2, 6)
    steps = [0, 3, 50]
    rates = jnp.asarray([0.05, 0.1])
    run = jax.jit(jax.vmap(lambda rate: ntk.lazy_dynamics(k, y, k_eval, rate, steps)))
    f_train, f_eval = run(rates)
    assert f_train.shape == (2, 3, 6) and f_eval.shape == (2, 3, 4)
    for i, rate in enumerate(rates):
        one_train, one_eval = ntk.lazy_dynamics(k, y, k_eval, rate, steps)
        assert_same(f_train[i], one_train)
        assert_same(f_eval[i], one_eval)
    regress = jax.jit(ntk.kernel_regression)
    assert_same(regress(k, y, k_eval, 0.1), ntk.kernel_regression(k, y, k_eval, 0.1))


def test_ridge_regression_solves_the_normal_equations():
    k = normal(0, 6, 9)
    k, y, k_test = k @ k.T, normal(1, 6, 2), normal(2, 4, 6)
    expected = k_test @ np.linalg.solve(k + 0.3 * np.eye(6), y)
    assert_same(ntk.kernel_regression(k, y, k_test, 0.3), expected)
    singular = jnp.ones((6, 6))
    assert_same(ntk.kernel_regression(singular, y, singular), singular @ y / 6)


def test_host_functions_are_float64_where_jax_is_not():
    """A Hilbert kernel: condition number 5e8, hopeless in float32."""
    index = np.arange(7.0)
    k = 1 / (1 + index[:, None] + index[None, :])
    with jax.enable_x64(False):
        actual = ntk.kernel_regression(k, k @ np.ones(7), np.eye(7))
    np.testing.assert_allclose(actual, 1.0, rtol=1e-6)


def test_factors_are_kept_where_smaller_blocks_allow_it():
    """To form them again for each pair of large blocks takes longer."""
    apply_fn, params, _, _ = mlp_case()
    x, kept = normal(9, 64, 4), []
    problem = empirical.make_problem(apply_fn, params, x, None, "full")
    for budget in 2 ** np.arange(12, 24, 0.25):
        found = choose_blocks(problem, None, int(budget))
        sizes = (4, 8, 16, 32, 64)
        possible = [choose_blocks(problem, rows, int(budget)) for rows in sizes]
        if any(blocks.keep and blocks.rows < 64 for blocks in possible):
            assert found.keep
        kept.append((found.keep, found.rows < 64))
    assert {(False, True), (True, True), (True, False)} == set(kept)
