"""A text classifier of stacked LSTM layers (Liu et al. 2023, Omnigrok, Fig. 4)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.look_up import look_up
from grok_jax.rng import named_key
from grok_jax.settings import Count
from grok_jax.types import Model, Params


def lstm(
    *,
    vocabulary: Count = 1000,
    embedding: Count = 64,
    hidden: Count = 128,
    layers: Count = 2,
) -> Model:
    """Tokens x [n, T] -> logits [n], read from the last layer after the last token.

    Tokens run from 1 to `vocabulary`; 0 is padding, with an embedding that is drawn,
    trained and read like any other (the authors' code), so that padding belongs in
    front of the text. A token beyond the vocabulary makes the logit NaN. No dropout,
    and every text starts from a state of zero (the authors' code hands the last state
    of a training batch on to the next).

    params {"embedding": [V + 1, E], "layer_0": {"w_input": [E, 4H], "b_input": [4H],
    "w_hidden": [H, 4H], "b_hidden": [4H]}, ..., "readout": {"w": [H, 1], "b": [1]}},
    gates in the order input, forget, cell, output. As PyTorch draws them: the embedding
    from N(0, 1), all else from U(-k, k), k = 1 / sqrt(H).
    """

    def init(key: Array, x: Array) -> Params:
        del x
        bound = hidden**-0.5

        def uniform(name: str, *shape: int) -> Array:
            own = named_key(key, name)
            return jax.random.uniform(own, shape, minval=-bound, maxval=bound)

        def cell(name: str, inputs: int) -> Params:
            return {
                "w_input": uniform(f"{name}/w_input", inputs, 4 * hidden),
                "b_input": uniform(f"{name}/b_input", 4 * hidden),
                "w_hidden": uniform(f"{name}/w_hidden", hidden, 4 * hidden),
                "b_hidden": uniform(f"{name}/b_hidden", 4 * hidden),
            }

        words = (vocabulary + 1, embedding)
        params: Params = {
            "embedding": jax.random.normal(named_key(key, "embedding"), words),
            "readout": {
                "w": uniform("readout/w", hidden, 1),
                "b": uniform("readout/b", 1),
            },
        }
        for i in range(layers):
            params[f"layer_{i}"] = cell(f"layer_{i}", hidden if i else embedding)
        return params

    def apply(params: Params, x: Array) -> Array:
        cells = [params[f"layer_{i}"] for i in range(layers)]
        bias = [(cell["b_input"] + cell["b_hidden"])[None] for cell in cells]
        # What a token sends into the first layer is computed once for each word.
        table = jnp.matmul(params["embedding"], cells[0]["w_input"]) + bias[0]

        def step(states, gates):
            moved = []
            for i, (h, c) in enumerate(states):
                if i > 0:
                    gates = jnp.matmul(moved[-1][0], cells[i]["w_input"]) + bias[i]
                gates = gates + jnp.matmul(h, cells[i]["w_hidden"])
                moved.append(_cell(gates, c))
            return tuple(moved), None

        zero = jnp.zeros((len(x), hidden), table.dtype)
        states = ((zero, zero),) * layers
        states, _ = jax.lax.scan(step, states, look_up(table, x.T))
        last, _ = states[-1]
        readout = params["readout"]
        return (jnp.matmul(last, readout["w"]) + readout["b"][None])[:, 0]

    return Model(init, apply)


@jax.checkpoint  # cheaper to compute its activations again backwards than to keep them
def _cell(gates: Array, c: Array) -> tuple[Array, Array]:
    """The next (h, c), each [n, H], from gates [n, 4H] before their activations."""
    # One sigmoid for all: XLA would compute separate ones for c and again for h.
    i, f, _, o = jnp.split(jax.nn.sigmoid(gates), 4, axis=1)
    _, _, g, _ = jnp.split(gates, 4, axis=1)
    c = f * c + i * jnp.tanh(g)
    return o * jnp.tanh(c), c
