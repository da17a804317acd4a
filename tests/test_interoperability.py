"""Weights and results that others wrote or read: safetensors, msgpack, PyTorch,
transformer_lens, pandas, DuckDB."""

import re

import duckdb
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import grok_jax
from grok_jax import snapshots
from grok_jax.models.mlp import from_torch, mlp
from grok_jax.models.transformer import from_transformer_lens, transformer
from grok_jax.tree import Factors

RNG = np.random.default_rng(0)
TREE = {
    "layer_0": {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)},
    "table": Factors(jnp.ones((4, 1)), jnp.full((1, 2), 3.0)),
    "rest": (jnp.arange(3), jnp.float32(2.0)),
}


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# --- weights in files -----------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "msgpack"])
def test_weights_come_back_from_a_file_as_they_were(ending, tmp_path):
    path = tmp_path / f"weights.{ending}"
    snapshots.save(path, TREE)
    found = snapshots.load(path, jax.eval_shape(lambda: TREE))
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
        assert a.dtype == jnp.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def test_others_read_what_was_saved_and_their_files_are_read(tmp_path):
    model = nn.Dense(3)
    params = model.init(jax.random.key(0), jnp.ones((1, 2)))
    own, others = tmp_path / "own.msgpack", tmp_path / "others.msgpack"
    snapshots.save(own, params)
    read = flax.serialization.from_bytes(params, own.read_bytes())
    np.testing.assert_array_equal(read["params"]["kernel"], params["params"]["kernel"])
    others.write_bytes(flax.serialization.to_bytes(params))
    found = snapshots.load(others, params)
    np.testing.assert_array_equal(found["params"]["bias"], params["params"]["bias"])
    snapshots.save(tmp_path / "own.safetensors", params)
    plain = safetensors.numpy.load_file(tmp_path / "own.safetensors")
    np.testing.assert_array_equal(
        plain["params.kernel"], np.asarray(params["params"]["kernel"])
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.safetensors", b"no such thing", "is no safetensors file: "),
        ("a.msgpack", b"\xc1", "is no msgpack of flax: "),
        ("a.msgpack", flax.serialization.to_bytes({"w": np.ones(2)}), "missing: b;"),
    ],
)
def test_a_file_that_holds_no_such_weights_is_a_sentence(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        snapshots.load(tmp_path / name, {"b": jnp.ones(2)})


def test_a_file_has_an_ending_that_says_what_it_is(tmp_path):
    with pytest.raises(ValueError, match=r"w\.npz must end in \.safetensors or"):
        snapshots.save(tmp_path / "w.npz", TREE)


def test_the_weights_of_a_run_are_exported(tmp_path):
    settings = dict(
        task=dict(name="polynomial", input_dim=3, train_size=8, test_size=4),
        model=dict(name="mlp", width=4, layers=1),
        train=dict(steps=2, records=2),
        sweep=dict(seed=(0, 1)),
    )
    grok_jax.run(settings, tmp_path / "run", say=lambda _: None)
    weights = grok_jax.params(tmp_path / "run", seed=1)
    snapshots.save(tmp_path / "weights.safetensors", weights)
    plain = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    assert plain["layer_0.w"].shape == (3, 4)
    np.testing.assert_array_equal(plain["layer_1.b"], weights["layer_1"]["b"])


# --- PyTorch --------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_of_pytorch_has_the_same_outputs(bias):
    """nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 7), ...)."""
    sizes = [(5, 7), (7, 7), (7, 3)]
    state = {}
    for number, (inputs, outputs) in enumerate(sizes):
        state[f"{2 * number}.weight"] = draw(outputs, inputs)
        if bias:
            state[f"{2 * number}.bias"] = draw(outputs)
    x = h = draw(6, 5)
    for number in range(3):
        h = h @ state[f"{2 * number}.weight"].T
        h = h + state.get(f"{2 * number}.bias", 0)
        h = np.maximum(h, 0) if number < 2 else h
    model = mlp(width=7, layers=2, outputs=3)
    np.testing.assert_allclose(model.apply(from_torch(state), x), h, rtol=1e-5)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "there is no weight"),
        (
            {"0.weight": draw(4, 2), "1.running_mean": draw(4)},
            "running_mean is unknown",
        ),
        (
            {"a.weight": draw(4, 2), "b.weight": draw(1, 5)},
            "(1, 5) instead of [out, 4]",
        ),
        ({"0.weight": draw(4, 2), "0.bias": draw(3)}, "0.bias has shape (3,)"),
        ({"0.weight": draw(4, 2, 3, 3)}, "0.weight has shape (4, 2, 3, 3)"),
    ],
)
def test_what_is_no_such_network_is_a_sentence(state, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        from_torch(state)


# --- transformer_lens -----------------------------------------------------------------

V, T, D, H, K, M = 7, 3, 8, 2, 4, 16


def lens(layers=1, norm=False, biases=()):
    """The state dict of a HookedTransformer with these biases, all others zero."""
    state = {
        "embed.W_E": draw(V, D),
        "pos_embed.W_pos": draw(T, D),
        "unembed.W_U": draw(D, V),
        "unembed.b_U": np.zeros(V, np.float32),
    }
    shapes = {"b_Q": (H, K), "b_K": (H, K), "b_V": (H, K), "b_O": (D,)}
    for number in range(layers):
        at = f"blocks.{number}"
        state |= {f"{at}.attn.W_{name}": draw(H, D, K) for name in "QKV"}
        state[f"{at}.attn.W_O"] = draw(H, K, D)
        for name, shape in shapes.items():
            value = draw(*shape) if name in biases else np.zeros(shape, np.float32)
            state[f"{at}.attn.{name}"] = value
        state[f"{at}.attn.mask"] = np.tril(np.ones((T, T), bool))
        state[f"{at}.attn.IGNORE"] = np.float32(-np.inf)
        state |= {f"{at}.mlp.W_in": draw(D, M), f"{at}.mlp.b_in": draw(M)}
        state |= {f"{at}.mlp.W_out": draw(M, D), f"{at}.mlp.b_out": draw(D)}
        if norm:
            state |= {f"{at}.{ln}.{p}": draw(D) for ln in ("ln1", "ln2") for p in "wb"}
    if norm:
        state |= {"ln_final.w": draw(D), "ln_final.b": draw(D)}
    return state


def logits(state, x, layers=1):
    """What a HookedTransformer computes at the last position, in plain numpy."""

    def normed(name, h):
        if f"{name}.w" not in state:
            return h
        h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-5)
        return h * state[f"{name}.w"] + state[f"{name}.b"]

    h = state["embed.W_E"][x] + state["pos_embed.W_pos"]
    for number in range(layers):
        at = f"blocks.{number}"
        read = normed(f"{at}.ln1", h)
        q, k, v = (
            np.einsum("ntd,hdk->nhtk", read, state[f"{at}.attn.W_{name}"])
            + state[f"{at}.attn.b_{name}"][:, None]
            for name in "QKV"
        )
        scores = np.einsum("nhik,nhjk->nhij", q, k) / np.sqrt(K)
        scores = np.where(state[f"{at}.attn.mask"], scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("nhij,nhjk->nhik", weights, v)
        out = np.einsum("nhik,hkd->nid", mixed, state[f"{at}.attn.W_O"])
        h = h + out + state[f"{at}.attn.b_O"]
        inner = normed(f"{at}.ln2", h) @ state[f"{at}.mlp.W_in"]
        inner = np.maximum(inner + state[f"{at}.mlp.b_in"], 0)
        h = h + inner @ state[f"{at}.mlp.W_out"] + state[f"{at}.mlp.b_out"]
    h = normed("ln_final", h)
    return (h @ state["unembed.W_U"] + state["unembed.b_U"])[:, -1]


@pytest.mark.parametrize("samples", [5, 20])  # fewer and more than tokens
@pytest.mark.parametrize(
    ("layers", "norm", "biases"),
    [
        (1, False, ()),
        (1, False, ("b_K", "b_V", "b_O")),
        (2, False, ("b_K", "b_V", "b_O")),
        (1, True, ("b_K",)),
        (2, True, ()),
    ],
)
def test_a_model_of_transformer_lens_has_the_same_logits(layers, norm, biases, samples):
    state, x = lens(layers, norm, biases), RNG.integers(0, V, (samples, T))
    model = transformer(
        vocabulary=V,
        width=D,
        heads=H,
        head_width=K,
        mlp_width=M,
        layers=layers,
        layer_norm=norm,
    )
    params = from_transformer_lens(state)
    own = model.init(jax.random.key(0), jnp.asarray(x))
    assert jax.tree.structure(params) == jax.tree.structure(own)
    found = model.apply(params, jnp.asarray(x))
    np.testing.assert_allclose(found, logits(state, x, layers), rtol=2e-4, atol=2e-4)


def test_biases_that_were_not_saved_are_none():
    state = lens()
    bare = {n: a for n, a in state.items() if not n.endswith(("_Q", "_O", "_U"))}
    bare |= {n: a for n, a in state.items() if "W_" in n}
    full, found = from_transformer_lens(state), from_transformer_lens(bare)
    jax.tree.map(np.testing.assert_array_equal, full, found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("embed.W_E"), "embed.W_E is missing"),
        (lambda s: s.update({"blocks.0.attn.b_Q": draw(H, K)}), "b_Q is not zero"),
        (lambda s: s.update({"unembed.b_U": draw(V)}), "unembed.b_U is not zero"),
        (lambda s: s.update({"hook": draw(1)}), "hook is unknown"),
        (lambda s: s.update({"ln_final.w": draw(D)}), "blocks.0.ln1.w is missing"),
        (
            lambda s: s.update({"blocks.0.mlp.W_in": draw(M, D)}),
            "blocks.0.mlp.W_in has shape (16, 8) instead of [d 8, m",
        ),
    ],
)
def test_another_model_is_named_for_what_it_is(change, said):
    state = lens()
    change(state)
    with pytest.raises(ValueError, match=re.escape(said)):
        from_transformer_lens(state)


# --- results --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results():
    settings = dict(
        task=dict(name="polynomial", input_dim=3, train_size=8, test_size=4),
        model=dict(name="committee", width=4),
        train=dict(steps=4, records=2),
        sweep=dict(epsilon=(0.25, 1.0), seed=(0, 1)),
    )
    return grok_jax.run(settings, say=lambda _: None)


def test_results_are_a_table_of_pandas(results):
    table = results.to_dataframe().reset_index()
    assert len(table) == results.train_loss.size
    means = table.groupby(["epsilon", "step"]).test_loss.mean()
    expected = results.test_loss.mean("seed").sel(epsilon=1.0, step=4)
    np.testing.assert_allclose(means.loc[1.0, 4], expected, rtol=1e-6)


def test_results_are_asked_with_sql(results):
    table = results.to_dataframe().reset_index()
    asked = "SELECT epsilon, avg(test_loss) FROM table_ WHERE step = 4 GROUP BY epsilon"
    with duckdb.connect() as connection:
        connection.register("table_", table)
        found = dict(connection.sql(asked).fetchall())
    expected = results.test_loss.mean("seed").sel(step=4)
    for epsilon, value in found.items():
        np.testing.assert_allclose(value, expected.sel(epsilon=epsilon), rtol=1e-6)
