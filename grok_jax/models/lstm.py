"""A text classifier of stacked LSTM layers (Liu et al. 2023, Omnigrok, Fig. 4)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.look_up import look_up
from grok_jax.rng import named_key
from grok_jax.settings import Count, Natural
from grok_jax.types import Model, Params


def lstm(
    *,
    vocabulary: Natural = 0,
    embedding: Count = 64,
    hidden: Count = 128,
    layers: Count = 2,
) -> Model:
    """Tokens x [n, T] -> logits [n], read from the last layer after the last token.

    Tokens run from 1 to `vocabulary` (in an experiment 0 is the data's); 0 is padding,
    with an embedding that is drawn, trained and read like any other (the authors'
    code), so that padding belongs in front of the text. A token beyond the vocabulary
    makes the logit NaN. No dropout, and every text starts from a state of zero (the
    authors' code hands the last state of a training batch on to the next).

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
        last = jax.lax.platform_dependent(
            params["embedding"], cells, x, cpu=_by_words, default=_by_layers
        )
        readout = params["readout"]
        return (jnp.matmul(last, readout["w"]) + readout["b"][None])[:, 0]

    return Model(init, apply)


def _by_words(embedding: Array, cells: list[Params], x: Array) -> Array:
    """The last state [n, H] of the last layer, all layers of a word in turn: a CPU has
    what a step needs in its cache."""
    hidden, bias = len(cells[0]["w_hidden"]), [_bias(cell) for cell in cells]
    # What a token sends into the first layer is computed once for each word.
    table = jnp.matmul(embedding, cells[0]["w_input"]) + bias[0]

    def step(states, gates):
        moved = []
        for i, (h, c) in enumerate(states):
            if i > 0:
                gates = jnp.matmul(moved[-1][0], cells[i]["w_input"]) + bias[i]
            gates = gates + jnp.matmul(h, cells[i]["w_hidden"])
            moved.append(_cell(gates, c))
        return tuple(moved), None

    zero = jnp.zeros((len(x), hidden), table.dtype)
    states = ((zero, zero),) * len(cells)
    states, _ = jax.lax.scan(step, states, look_up(table, x.T))
    return states[-1][0]


@jax.checkpoint  # cheaper to compute its activations again backwards than to keep them
def _cell(gates: Array, c: Array) -> tuple[Array, Array]:
    """The next (h, c), each [n, H], from gates [n, 4H] before their activations."""
    i, f, g, o = _activate(gates)
    c = f * c + i * g
    return o * jnp.tanh(c), c


def _by_layers(embedding: Array, cells: list[Params], x: Array) -> Array:
    """The same, all words of a layer in turn: what a layer's inputs send is one product
    over all of them, and so is the gradient of each of its matrices. The words enter by
    the columns of the embedding, of which the gradient's one-hot product has fewest."""
    inputs = look_up(embedding, x.T)
    for cell in cells:
        sent = jnp.matmul(inputs, cell["w_input"]) + _bias(cell)[None]
        inputs = _recur(sent, cell["w_hidden"])
    return inputs[-1]


def _bias(cell: Params) -> Array:
    return (cell["b_input"] + cell["b_hidden"])[None]


@jax.custom_jvp
def _recur(sent: Array, w: Array) -> Array:
    """The states h [T, n, H] of a layer with w [H, 4H], from what its inputs send to
    the gates, [T, n, 4H], beginning at zero.

    The derivative is written out so that one product is left in the recurrence, of a
    state or, backwards, of its gradient: the gradient of w is then one product over all
    words, not a sum that the loop carries.
    """
    return _run(sent, w)[0]


def _run(sent: Array, w: Array) -> tuple[Array, Array, Array]:
    """h and c after each word, [T, n, H], and what came to the gates, [T, n, 4H]."""

    def step(state: tuple[Array, Array], sent: Array):
        h, c = state
        gates = sent + jnp.matmul(h, w)
        i, f, g, o = _activate(gates)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, gates)

    zero = jnp.zeros((sent.shape[1], len(w)), sent.dtype)
    return jax.lax.scan(step, (zero, zero), sent)[1]


def _activate(gates: Array) -> list[Array]:
    """The input, forget, cell and output gates, each [n, H], from [n, 4H]."""
    # One sigmoid for all: XLA would compute separate ones for c and again for h.
    i, f, _, o = jnp.split(jax.nn.sigmoid(gates), 4, axis=1)
    return [i, f, jnp.tanh(jnp.split(gates, 4, axis=1)[2]), o]


@_recur.defjvp
def _recur_derivative(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    w = primals[1]
    h, c, gates = _run(*primals)
    sent = tangents[0] + jnp.matmul(_before(h), tangents[1])

    # Activations are computed again backwards: cheaper than to keep what they lead to.
    @partial(jax.checkpoint, prevent_cse=False)
    def step(tangent: tuple[Array, Array], at: tuple[Array, ...]):
        (h, c), (sent, gates, c_before, c_now) = tangent, at
        i, f, g, o = _activate(gates)
        level = jnp.tanh(c_now)
        to_i, to_f, to_g, to_o = jnp.split(sent + jnp.matmul(h, w), 4, axis=1)
        c = f * c + (g * i * (1 - i)) * to_i
        c = c + (c_before * f * (1 - f)) * to_f + (i * (1 - g * g)) * to_g
        h = (o * (1 - level * level)) * c + (level * o * (1 - o)) * to_o
        return (h, c), h

    zero = jnp.zeros_like(h[0])
    along = (sent, gates, _before(c), c)
    return h, jax.lax.scan(step, (zero, zero), along)[1]


def _before(states: Array) -> Array:
    """The states [T, n, H] before each word; zero before the first."""
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
