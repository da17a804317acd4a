"""The transformer of modular addition (Nanda et al. 2023; Omnigrok, Figs. 7, 9, 10a).

No biases in the attention, no LayerNorm unless it is asked for, and only the last
position is read out. `apply` computes no more than that needs, in forms whose gradients
a CPU is fast at.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.look_up import look_up
from grok_jax.rng import named_key
from grok_jax.settings import Count, Natural, SettingError, lookup
from grok_jax.types import Model, Params

Layer = dict[str, Any]
Activation = Callable[[Array], Array]


def transformer(
    *,
    vocabulary: Natural = 0,
    context: Natural = 0,
    width: Count = 128,
    heads: Count = 4,
    head_width: Count = 32,
    mlp_width: Count = 512,
    layers: Count = 1,
    activation: Literal["relu", "gelu"] = "relu",
    layer_norm: bool = False,
) -> Model:
    """Tokens x [n, context] -> logits [n, vocabulary] at the last position.

    Weights ~ N(0, 1 / width), the unembedding ~ N(0, 1 / vocabulary), biases zero.
    The params: embed [V, d], positions [context, d], unembed [d, V] and, for each of
    layer_0, layer_1, ..., query, key, value [d, H, k], output [H, k, d], mlp_in [d, m],
    mlp_in_bias [m], mlp_out [m, d], mlp_out_bias [d].

    Args:
      vocabulary: V; in an experiment 0 is the data's.
      context: the length of a sentence; 0 for that of the first it sees.
      layer_norm: normalises what every attention and every MLP reads, and what is read
        out, as in GPT-2 (Lee et al. 2024). Each layer then has norm_attention and
        norm_mlp, and the params norm_out: {"gain": ones [d], "shift": zeros [d]}.
    """
    names = [f"layer_{i}" for i in range(layers)]
    gelu = functools.partial(jax.nn.gelu, approximate=False)
    act = lookup({"relu": jax.nn.relu, "gelu": gelu}, activation, "activation")
    shapes = {
        "query": (width, heads, head_width),
        "key": (width, heads, head_width),
        "value": (width, heads, head_width),
        "output": (heads, head_width, width),
        "mlp_in": (width, mlp_width),
        "mlp_out": (mlp_width, width),
    }

    def fresh_norm() -> dict[str, Array]:
        return {"gain": jnp.ones(width), "shift": jnp.zeros(width)}

    def init(key: Array, x: Array) -> Params:
        check(x)

        def draw(name: str, shape: tuple[int, ...], variance: float) -> Array:
            return math.sqrt(variance) * jax.random.normal(named_key(key, name), shape)

        def layer(name: str) -> Layer:
            weights = {k: draw(f"{name}.{k}", s, 1 / width) for k, s in shapes.items()}
            biases = {"mlp_in_bias": mlp_width, "mlp_out_bias": width}
            norms = {
                k: fresh_norm() for k in ("norm_attention", "norm_mlp") if layer_norm
            }
            return weights | {k: jnp.zeros(n) for k, n in biases.items()} | norms

        return {
            "embed": draw("embed", (vocabulary, width), 1 / width),
            "positions": draw("positions", (context or x.shape[1], width), 1 / width),
            "unembed": draw("unembed", (width, vocabulary), 1 / vocabulary),
            **{name: layer(name) for name in names},
            **({"norm_out": fresh_norm()} if layer_norm else {}),
        }

    def apply(params: Params, x: Array) -> Array:
        check(x)
        length = len(params["positions"])
        if x.shape[1] != length:
            raise SettingError(
                f"This transformer's sentences have {length} tokens, not {x.shape[1]}."
            )
        streams = _embedded(params["embed"], params["positions"], x)
        for name in names[:-1]:
            mixed = _attention(params[name], streams, range(length))
            both = zip(streams, mixed, strict=True)
            streams = [_Stream(_block(params[name], s, m, act)) for s, m in both]
        layer, last = params[names[-1]], streams[-1]
        (mixed,) = _attention(layer, streams, [length - 1])
        if last.token is not None and not layer_norm:
            return _read_out(layer, params["unembed"], last, mixed, act)
        out = _normed(params, "norm_out", _block(layer, last, mixed, act))
        return out @ params["unembed"]

    def check(x: Array) -> None:
        integers = jnp.issubdtype(x.dtype, jnp.integer)
        if not integers or x.ndim != 2 or x.shape[1] != (context or x.shape[1]):
            raise SettingError(
                f"A transformer takes integer tokens of shape (n, {context or 'T'}), "
                f"not {x.dtype} inputs of shape {x.shape}."
            )

    return Model(init, apply)


def _normed(params: Params, name: str, rows: Array) -> Array:
    """The rows [n, d] normalised by the LayerNorm `name`, if there is one."""
    if name not in params:
        return rows
    centred = rows - rows.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
    return centred * scale * params[name]["gain"][None] + params[name]["shift"][None]


class _Stream(NamedTuple):
    """The residual stream at one position: a row for each sample or, with `token` [n],
    a table with a row for each token, from which sample i takes row token[i]."""

    rows: Array
    token: Array | None = None

    def take(self, rows: Array) -> Array:
        """What a row-wise map made of `rows`, for each sample."""
        return rows if self.token is None else look_up(rows, self.token)


def _embedded(embed: Array, positions: Array, x: Array) -> list[_Stream]:
    """The stream at every position: tables where that is fewer rows."""
    pairs = list(zip(x.T, positions[:, None], strict=True))
    if len(x) > len(embed):
        return [_Stream(embed + position, token) for token, position in pairs]
    return [_Stream(look_up(embed, token) + position) for token, position in pairs]


def _attention(
    layer: Layer, streams: Sequence[_Stream], queries: Sequence[int]
) -> list[Array]:
    """What each of the positions `queries` gathers from those up to it, [n, H k].

    Written out over the positions: they are few, and arrays with a short minor axis
    are slow.
    """

    streams = [
        s._replace(rows=_normed(layer, "norm_attention", s.rows)) for s in streams
    ]

    def project(name: str, stream: _Stream) -> Array:
        w = layer[name]
        rows = stream.take(stream.rows @ w.reshape(len(w), -1))
        return rows.reshape(len(rows), *w.shape[1:])  # [n, H, k]

    keys = [project("key", stream) for stream in streams]
    values = [project("value", stream) for stream in streams]

    def gather(position: int) -> Array:
        query = project("query", streams[position])
        scale = 1 / math.sqrt(query.shape[-1])
        scores = [jnp.sum(query * key, axis=-1) for key in keys[: position + 1]]
        weights = jax.nn.softmax(scale * jnp.stack(scores), axis=0)[..., None]
        mixed = [w * value for w, value in zip(weights, values, strict=False)]
        return functools.reduce(jnp.add, mixed).reshape(len(query), -1)

    return [gather(position) for position in queries]


def _output(layer: Layer) -> Array:
    """The output matrix [H k, d] of all heads."""
    return layer["output"].reshape(-1, layer["output"].shape[-1])


def _block(layer: Layer, stream: _Stream, mixed: Array, act: Activation) -> Array:
    """The stream [n, d] after a layer, from what its attention gathered."""
    r = stream.take(stream.rows) + mixed @ _output(layer)
    read = _normed(layer, "norm_mlp", r)
    hidden = act(read @ layer["mlp_in"] + layer["mlp_in_bias"][None])
    return r + hidden @ layer["mlp_out"] + layer["mlp_out_bias"][None]


def _read_out(
    layer: Layer, unembed: Array, last: _Stream, mixed: Array, act: Activation
) -> Array:
    """The logits of a one-layer model from the table of its last position.

    Behind the attention only the activation is not linear, so the matrices on either
    side of it are multiplied with one another first: a seventh less work, where there
    are many samples.
    """
    output, mlp_in, mlp_out = _output(layer), layer["mlp_in"], layer["mlp_out"]
    table = last.rows @ mlp_in + layer["mlp_in_bias"][None]
    hidden = act(last.take(table) + mixed @ (output @ mlp_in))
    table = (last.rows + layer["mlp_out_bias"][None]) @ unembed
    # [V, ...], transposed: a gradient summed over the samples is formed a quarter
    # faster on a CPU when its short axis leads.
    of_mixed, of_hidden = unembed.T @ output.T, unembed.T @ mlp_out.T
    return last.take(table) + mixed @ of_mixed.T + hidden @ of_hidden.T


_NANDA = {  # biases first: they settle the sizes that the others are compared with
    "blocks.0.mlp.b_in": "m",
    "blocks.0.mlp.b_out": "d",
    "blocks.0.mlp.W_in": "m d",
    "blocks.0.mlp.W_out": "d m",
    "blocks.0.attn.W_Q": "H k d",
    "blocks.0.attn.W_K": "H k d",
    "blocks.0.attn.W_V": "H k d",
    "blocks.0.attn.W_O": "d H*k",
    "embed.W_E": "d V",
    "pos_embed.W_pos": "context d",
    "unembed.W_U": "d V",
}
_MASK = "blocks.0.attn.mask"  # a constant that was saved with the parameters


def from_nanda(state: Mapping[str, np.ndarray]) -> Params:
    """The params of a one-layer `transformer` from the published arrays.

    They are embed.W_E [d, V], pos_embed.W_pos [context, d], unembed.W_U [d, V] and,
    after "blocks.0.", attn.W_Q, attn.W_K and attn.W_V [H, k, d], attn.W_O [d, H k],
    mlp.W_in [m, d], mlp.b_in [m], mlp.W_out [d, m], mlp.b_out [d]; attn.mask may be
    there too and is not used.

    Raises:
      ValueError: lists the arrays that are missing, unknown or of another shape.
    """
    arrays = {name: np.asarray(array) for name, array in state.items()}
    faults = _nanda_faults({name: array.shape for name, array in arrays.items()})
    if faults:
        raise ValueError(
            f"This is no published one-layer transformer: {'; '.join(faults)}."
        )

    def block(name: str) -> Array:
        return jnp.asarray(arrays[f"blocks.0.{name}"])

    def projection(name: str) -> Array:
        return jnp.transpose(block(f"attn.{name}"), (2, 0, 1))

    heads, head_width, _ = arrays["blocks.0.attn.W_Q"].shape
    return {
        "embed": jnp.asarray(arrays["embed.W_E"]).T,
        "positions": jnp.asarray(arrays["pos_embed.W_pos"]),
        "unembed": jnp.asarray(arrays["unembed.W_U"]),
        "layer_0": {
            "query": projection("W_Q"),
            "key": projection("W_K"),
            "value": projection("W_V"),
            "output": block("attn.W_O").T.reshape(heads, head_width, -1),
            "mlp_in": block("mlp.W_in").T,
            "mlp_in_bias": block("mlp.b_in"),
            "mlp_out": block("mlp.W_out").T,
            "mlp_out_bias": block("mlp.b_out"),
        },
    }


def _nanda_faults(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with these shapes; each size is what the first array makes it."""
    faults = [f"{name} is missing" for name in _NANDA if name not in shapes]
    faults += [f"{name} is unknown" for name in shapes if name not in (*_NANDA, _MASK)]
    sizes: dict[str, int] = {}
    for name, layout in _NANDA.items():
        if name not in shapes:
            continue
        axes, shape = layout.split(), shapes[name]
        if len(axes) == len(shape):
            sizes = {**dict(zip(axes, shape, strict=True)), **sizes}
            if "H" in sizes:
                sizes["H*k"] = sizes["H"] * sizes["k"]
        if shape != tuple(sizes.get(axis) for axis in axes):
            wanted = ", ".join(f"{axis} {sizes.get(axis, '')}".strip() for axis in axes)
            faults.append(f"{name} has shape {shape} instead of [{wanted}]")
    return faults


_LENS = {
    "embed.W_E": "V d",
    "pos_embed.W_pos": "context d",
    "unembed.W_U": "d V",
    "unembed.b_U": "V",
    "ln_final.w": "d",
    "ln_final.b": "d",
}
_LENS_BLOCK = {
    **{f"attn.W_{name}": "H d k" for name in "QKV"},
    **{f"attn.b_{name}": "H k" for name in "QKV"},
    "attn.W_O": "H k d",
    "attn.b_O": "d",
    "mlp.W_in": "d m",
    "mlp.b_in": "m",
    "mlp.W_out": "m d",
    "mlp.b_out": "d",
    **{f"{name}.{part}": "d" for name in ("ln1", "ln2") for part in "wb"},
}
_CONSTANTS = ("attn.mask", "attn.IGNORE")  # saved with the parameters


def from_transformer_lens(state: Mapping[str, Any]) -> Params:
    """The params of a `transformer` from the state dict of a `HookedTransformer` of
    transformer_lens, with any number of layers, and LayerNorm in all places or none.

    The `transformer` has no biases in the attention. Those of the keys change nothing;
    without LayerNorm, those of values and outputs are moved into the MLP, to the same
    logits. Biases of queries and of the unembedding must be zero (or absent), and with
    LayerNorm those of values and outputs, too.

    Raises:
      ValueError: lists the arrays that are missing, unknown, of another shape, or not
        zero where they must be.
    """
    arrays = {name: np.asarray(array) for name, array in state.items()}
    numbers = [name.split(".")[1] for name in arrays if name.startswith("blocks.")]
    layers = 1 + max((int(n) for n in numbers if n.isdigit()), default=0)
    norm = "ln_final.w" in arrays
    faults = _lens_faults(arrays, layers, norm)
    if faults:
        raise ValueError(
            f"This transformer_lens model is no `transformer`: {'; '.join(faults)}."
        )

    def layer(number: int) -> Layer:
        def get(name: str, shape: Sequence[int] = ()) -> Array:
            return jnp.asarray(arrays.get(f"blocks.{number}.{name}", np.zeros(shape)))

        w_in, output = get("mlp.W_in"), get("attn.W_O")
        heads, head_width, width = output.shape
        values = get("attn.b_V", (heads, head_width))
        moved = jnp.einsum("hk,hkd->d", values, output) + get("attn.b_O", (width,))
        norms = {
            ours: {"gain": get(f"{theirs}.w"), "shift": get(f"{theirs}.b")}
            for ours, theirs in (("norm_attention", "ln1"), ("norm_mlp", "ln2"))
            if norm
        }
        return {
            "query": get("attn.W_Q").transpose(1, 0, 2),
            "key": get("attn.W_K").transpose(1, 0, 2),
            "value": get("attn.W_V").transpose(1, 0, 2),
            "output": output,
            "mlp_in": w_in,
            "mlp_in_bias": get("mlp.b_in") + moved @ w_in,
            "mlp_out": get("mlp.W_out"),
            "mlp_out_bias": get("mlp.b_out") + moved,
            **norms,
        }

    top = {name: jnp.asarray(arrays[name]) for name in _LENS if name in arrays}
    last = {"gain": top.get("ln_final.w"), "shift": top.get("ln_final.b")}
    return {
        "embed": top["embed.W_E"],
        "positions": top["pos_embed.W_pos"],
        "unembed": top["unembed.W_U"],
        **{f"layer_{number}": layer(number) for number in range(layers)},
        **({"norm_out": last} if norm else {}),
    }


def _lens_faults(
    arrays: Mapping[str, np.ndarray], layers: int, norm: bool
) -> list[str]:
    """What is wrong with these arrays; each size is what the first of them makes it."""
    layouts = dict(_LENS)
    for number in range(layers):
        layouts |= {f"blocks.{number}.{k}": text for k, text in _LENS_BLOCK.items()}
    biases = ("b_Q", "b_K", "b_V", "b_O", "b_U")
    faults = []
    for name in layouts:
        is_norm = "ln" in name.split(".")[-2]
        optional = name.endswith(biases) or (is_norm and not norm)
        if name not in arrays and not optional:
            faults.append(f"{name} is missing")
    faults += [
        f"{name} is unknown"
        for name in arrays
        if name not in layouts and not name.endswith(_CONSTANTS)
    ]
    sizes: dict[str, int] = {}
    for name, layout in layouts.items():
        if name not in arrays:
            continue
        axes, shape = layout.split(), arrays[name].shape
        if len(axes) == len(shape):
            sizes = {**dict(zip(axes, shape, strict=True)), **sizes}
        if shape != tuple(sizes.get(axis) for axis in axes):
            wanted = ", ".join(f"{axis} {sizes.get(axis, '')}".strip() for axis in axes)
            faults.append(f"{name} has shape {shape} instead of [{wanted}]")
    nonzero = ("b_Q", "b_U", "b_V", "b_O") if norm else ("b_Q", "b_U")
    faults += [
        f"{name} is not zero"
        for name, array in arrays.items()
        if name.endswith(nonzero) and np.any(array)
    ]
    return faults
