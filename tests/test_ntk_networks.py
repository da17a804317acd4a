"""Kernels of flax modules with state and of subsets of leaves; what `explain` says."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import nt_networks
import numpy as np
import pytest
from flax import nnx

from grok_jax import ntk

pytestmark = pytest.mark.usefixtures("as_written")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(3, (2, 2), param_dtype=jnp.float64)(x)
        x = nn.BatchNorm(use_running_average=not train, param_dtype=jnp.float64)(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(2, param_dtype=jnp.float64)(x.reshape(len(x), -1))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        wide = dict(param_dtype=jnp.float64, rngs=rngs)
        self.conv = nnx.Conv(1, 3, (2, 2), **wide)
        self.norm = nnx.BatchNorm(3, **wide)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(48, 2, **wide)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.norm(self.conv(x))))
        return self.dense(x.reshape(len(x), -1))


def bare(params, x, mean, var):
    x = jax.lax.conv_general_dilated(
        x, params["conv"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    x = (x + params["conv"]["bias"] - mean) / jnp.sqrt(var + 1e-5)
    x = nn.relu(x * params["norm"]["scale"] + params["norm"]["bias"])
    x = x.reshape(len(x), -1)
    return x @ params["dense"]["kernel"] + params["dense"]["bias"]


def networks():
    """The same network three times, with weights and averages away from their start."""
    x = normal(0, 7, 4, 4, 1)
    linen = Linen()
    variables = linen.init(jax.random.key(0), x, train=False)
    mean, var = normal(1, 3), normal(2, 3) ** 2 + 0.5
    params = jax.tree.map(lambda p: p + 0.3 * normal(3, *p.shape), variables["params"])
    variables = {
        "params": params,
        "batch_stats": {"BatchNorm_0": {"mean": mean, "var": var}},
    }
    own = {
        "conv": params["Conv_0"],
        "norm": params["BatchNorm_0"],
        "dense": params["Dense_0"],
    }
    model = Nnx(nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    nnx.replace_by_pure_dict(state, own)
    nnx.update(model, state)
    model.norm.mean, model.norm.var = nnx.BatchStat(mean), nnx.BatchStat(var)
    return {
        "linen": ntk.of(linen, variables, train=False),
        "nnx": ntk.of(model),
        "bare": (lambda p, x: bare(p, x, mean, var), own),
    }, x


def test_linen_nnx_and_a_bare_function_have_the_same_kernel():
    found, x = networks()
    kernels = {n: ntk.empirical_ntk(*f, x, kind="full") for n, f in found.items()}
    for kernel in kernels.values():
        np.testing.assert_allclose(kernel, kernels["bare"], rtol=1e-10, atol=1e-12)


def test_a_module_in_training_stays_as_it_was():
    """`of` copies an nnx module; neither its mode nor its weights change."""
    model = Nnx(nnx.Rngs(0))
    model.train()
    apply_fn, params = ntk.of(model)
    apply_fn(jax.tree.map(jnp.zeros_like, params), normal(0, 1, 4, 4, 1))
    assert not model.norm.use_running_average and not model.dropout.deterministic
    assert np.abs(model.conv.kernel[...]).max() > 0


def test_jit_vmap_and_grad_go_through_convolutions_and_scans():
    """Over stacked parameters, and a derivative of the kernel as a regulariser has."""
    x = normal(0, 3, 6, 6, 1)
    params = {
        "first": normal(1, 2, 3, 3, 1, 2),
        "strided": normal(2, 2, 2, 2, 2, 2),
        "blocks": normal(3, 2, 2, 2, 2),
    }

    def apply_fn(params, x):
        order = ("NHWC", "HWIO", "NHWC")

        def conv(x, w, strides):
            return jax.lax.conv_general_dilated(
                x, w, strides, "SAME", dimension_numbers=order
            )

        x = jnp.tanh(conv(x, params["first"], (1, 1)))
        x = jnp.tanh(conv(x, params["strided"], (2, 2)))
        x, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["blocks"])
        return x.sum((1, 2))

    def energy(params):
        return jnp.sum(jnp.sin(ntk.empirical_ntk(apply_fn, params, x, block_size=2)))

    def explicit(params):
        rows = jax.vmap(jax.jacrev(lambda p, x: apply_fn(p, x[None])[0]), (None, 0))
        leaves = jax.tree.leaves(rows(params, x))
        kernel = sum(jnp.einsum("nc...,mc...->nm", j, j) for j in leaves) / 2
        return jnp.sum(jnp.sin(kernel))

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(energy)))(params)
    for seed in range(2):
        one = jax.tree.map(lambda p, seed=seed: p[seed], params)
        value, gradient = jax.jit(jax.value_and_grad(explicit))(one)
        np.testing.assert_allclose(values[seed], value, rtol=1e-10)
        for name in params:
            np.testing.assert_allclose(
                gradients[name][seed], gradient[name], rtol=1e-9, atol=1e-10
            )


def test_the_kernels_of_subsets_add_up():
    (apply_fn, params), x = networks()[0]["linen"], normal(0, 7, 4, 4, 1)
    whole = ntk.empirical_ntk(apply_fn, params, x)
    parts = [
        ntk.only(lambda path, dense=dense: path.startswith("Dense") == dense, *f)
        for f in [(apply_fn, params)]
        for dense in (True, False)
    ]
    assert set(parts[0][1]) == {"Dense_0.kernel", "Dense_0.bias"}
    total = sum(ntk.empirical_ntk(*part, x) for part in parts)
    np.testing.assert_allclose(total, whole, rtol=1e-12)


def test_a_lora_is_a_subset():
    """With B = 0, as LoRA begins, only B has a gradient: K = (x A) (x' A)^T."""
    model = nnx.LoRALinear(3, 2, lora_rank=1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    apply_fn, lora = ntk.only(lambda path: "lora" in path, *ntk.of(model))
    x = normal(0, 5, 3)
    down = x @ lora["lora.lora_a"]
    kernel = ntk.empirical_ntk(apply_fn, lora, x)
    np.testing.assert_allclose(kernel, down @ down.T, rtol=1e-12)


def test_explain_names_the_rule_of_each_leaf():
    def apply(params, x):
        tokens = jnp.round(x[:, :4]).astype(int) % 50
        h = params["table"][tokens].sum(1) + jnp.tanh(x) @ params["w"] + params["b"]
        h = jnp.tanh(h) * params["scale"]
        image = jnp.tanh(h).reshape(-1, 4, 4, 1)
        h = nn.relu(
            jax.lax.conv_general_dilated(
                image, params["conv"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        )  # fmt: skip
        return h.sum((1, 2))

    params = {
        "b": normal(0, 16),
        "conv": normal(1, 2, 2, 1, 3),
        "count": jnp.arange(3),
        "scale": normal(2, 16),
        "table": normal(3, 50, 16),
        "unused": normal(4, 2),
        "w": normal(5, 6, 16),
    }
    x = normal(6, 8, 6)
    found = {leaf.path: leaf for leaf in ntk.explain(apply, params, x)}
    assert list(found) == list(params)
    # Of 8 samples with 3 outputs; a Gram matrix of T positions has 64 T^2 entries.
    assert {name: leaf[2:5] for name, leaf in found.items()} == {
        "b": ("", 0, "explicit"),
        "conv": ("convolution", 16, "gradient"),
        "count": ("", 0, "none"),
        "scale": ("", 0, "explicit"),
        "table": ("look-up", 4, "gram"),
        "unused": ("", 0, "none"),
        "w": ("product", 1, "gram"),
    }
    assert found["w"].operations == 64 * (6 + 3 * 16)
    assert found["conv"].operations == 64 * 3 * 12 + 8 * 3 * 16 * 12
    assert found["w"].bytes == 8 * 8 * (6 + 3 * 16)
    assert found["conv"].bytes == 8 * 8 * 3 * 12
    shapes = jax.eval_shape(lambda: (params, x))
    assert ntk.explain(apply, *shapes) == ntk.explain(apply, params, x)
    table = str(ntk.explain(apply, params, x)).splitlines()
    assert len(table) == 8
    assert table[2].split()[:5] == ["conv", "2x2x1x3", "convolution", "16", "gradient"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ntk.of(lambda p, x: x), "A flax module is needed; got function."),
        (lambda: ntk.of(nn.Dense(2)), "The linen module Dense needs its variables"),
        (lambda: ntk.of(nn.Dense(2), {"kernel": 1}), "'params' among them"),
        (
            lambda: ntk.only(lambda path: False, bare, {"a": 1.0, "b": {"c": 2.0}}),
            "No leaf is left; there are a, b.c.",
        ),
        (
            lambda: ntk.explain(jnp.dot, jnp.ones(2), jnp.ones((3, 2)), kind="t"),
            "Unknown kind 't'",
        ),
    ],
)
def test_errors_are_one_clear_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("name", nt_networks.NETWORKS)
def test_kernels_are_those_of_neural_tangents(name):
    """Stored values of its version 0.6.5; `nt_networks.py` says how they were made."""
    stored = np.load(Path(__file__).with_name("neural_tangents.npz"))[name]
    network, params, x = nt_networks.NETWORKS[name]()
    kernel = ntk.empirical_ntk(network, params, x, kind="full")
    scale = np.abs(stored).max()
    np.testing.assert_allclose(kernel, stored, rtol=1e-9, atol=1e-11 * scale)
