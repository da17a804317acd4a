"""Fully connected networks without biases on an embedding (Xu et al. 2025).

The weak networks of GrokTransfer and, wider, its targets.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.look_up import look_up
from grok_jax.rng import linear_layer, named_key
from grok_jax.settings import Count, Natural, SettingError
from grok_jax.types import Model


def fnn(
    *,
    embedding: Natural = 128,
    vocabulary: Natural = 0,
    width: Count = 512,
    layers: Count = 3,
    outputs: Natural = 0,
) -> Model:
    """x -> f [n, C] through `layers` matrices, with relu between them.

    Tokens x [n, k] below `vocabulary` (in an experiment 0 is the data's) enter as the
    rows embed[x_1], ..., embed[x_k], one beside the other; with `vocabulary` 0, numbers
    x [n, D] as x embed. Params
    {"embed": [V or D, d], "layer_0": [in, width], ..., "layer_{layers - 1}":
    [width, C]}. As PyTorch draws them: the embedding of tokens from N(0, 1), all else
    from U(-k, k), k = 1 / sqrt(fan in).

    Args:
      embedding: d; 0 for none: tokens enter one-hot, numbers as they are.
      outputs: C; 0 for one output, f [n] (in an experiment: the data's).
    """
    names = [f"layer_{i}" for i in range(layers)]

    def init(key: Array, x: Array) -> dict[str, Array]:
        check(x)

        def uniform(name: str, inputs: int, size: int) -> Array:
            return linear_layer(named_key(key, name), inputs, size)["w"]

        params, rows = {}, vocabulary or x.shape[1]
        if embedding:
            params["embed"] = (
                jax.random.normal(named_key(key, "embed"), (rows, embedding))
                if vocabulary
                else uniform("embed", rows, embedding)
            )
        inputs = (embedding or rows) * (x.shape[1] if vocabulary else 1)
        sizes = (inputs, *(width,) * (layers - 1), outputs or 1)
        drawn = [uniform(name, *sizes[i : i + 2]) for i, name in enumerate(names)]
        return {**params, **dict(zip(names, drawn, strict=True))}

    def apply(params: dict[str, Array], x: Array) -> Array:
        check(x)
        if vocabulary:
            h = _from_tokens(params.get("embed"), params["layer_0"], x)
        else:
            h = x @ params["embed"] if embedding else x
            h = h @ params["layer_0"]
        for name in names[1:]:
            h = jax.nn.relu(h) @ params[name]
        return h if outputs else h[:, 0]

    def check(x: Array) -> None:
        integers = jnp.issubdtype(x.dtype, jnp.integer)
        if integers != bool(vocabulary) or x.ndim != 2:
            what = "integer tokens" if vocabulary else "real inputs"
            raise SettingError(
                f"An fnn with vocabulary {vocabulary} takes {what} of shape (n, D), "
                f"not {x.dtype} inputs of shape {x.shape}."
            )

    return Model(init, apply)


def _from_tokens(embed: Array | None, layer: Array, x: Array) -> Array:
    """What the first layer [k d, H] makes of tokens x [n, k], [n, H].

    Where there are more samples than tokens, what each token sends through each
    position's part of the layer is computed once and looked up.
    """
    parts = layer.reshape(x.shape[1], -1, layer.shape[1])
    if embed is None:
        tables = list(parts)
    elif len(x) > len(embed):
        tables = [embed @ part for part in parts]
    else:
        return look_up(embed, x).reshape(len(x), -1) @ layer
    pairs = zip(tables, x.T, strict=True)
    return reduce(jnp.add, [look_up(rows, token) for rows, token in pairs])
