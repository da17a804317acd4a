"""A stacked LSTM text classifier (Liu et al. 2023, Omnigrok, Fig. 4)."""

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

    Tokens are 1 to `vocabulary` (0 in an experiment: taken from the data). Token 0 is
    padding, with an embedding that is drawn, trained and read like any other (as in the
    authors' code), so padding belongs before the text. A token above `vocabulary`
    makes the logit NaN. There is no dropout, and every text starts from a zero state
    (the authors' code passes the last state of a training batch to the next batch).

    params {"embedding": [V + 1, E], "layer_0": {"w_input": [E, 4H], "b_input": [4H],
    "w_hidden": [H, 4H], "b_hidden": [4H]}, ..., "readout": {"w": [H, 1], "b": [1]}},
    with gates in the order input, forget, cell, output. Initialised as in PyTorch: the
    embedding from N(0, 1), everything else from U(-k, k), k = 1 / sqrt(H).
    """

    def init(key: Array, x: Array) -> Params:
        del x
        bound = hidden**-0.5

        def uniform(name: str, *shape: int) -> Array:
            leaf_key = named_key(key, name)
            return jax.random.uniform(leaf_key, shape, minval=-bound, maxval=bound)

        def cell(name: str, inputs: int) -> Params:
            return {
                "w_input": uniform(f"{name}/w_input", inputs, 4 * hidden),
                "b_input": uniform(f"{name}/b_input", 4 * hidden),
                "w_hidden": uniform(f"{name}/w_hidden", hidden, 4 * hidden),
                "b_hidden": uniform(f"{name}/b_hidden", 4 * hidden),
            }

        size = (vocabulary + 1, embedding)
        params: Params = {
            "embedding": jax.random.normal(named_key(key, "embedding"), size),
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
            params["embedding"], cells, x, cpu=_by_tokens, default=_by_layers
        )
        readout = params["readout"]
        return (jnp.matmul(last, readout["w"]) + readout["b"][None])[:, 0]

    return Model(init, apply)


def _by_tokens(embedding: Array, cells: list[Params], x: Array) -> Array:
    """The last state [n, H] of the last layer, computed token by token through all
    layers, so that the working set of a step fits in a CPU's cache."""
    hidden, bias = len(cells[0]["w_hidden"]), [_bias(cell) for cell in cells]
    # The input to the first layer's gates is computed once per vocabulary entry.
    table = jnp.matmul(embedding, cells[0]["w_input"]) + bias[0]

    def step(states, gates):
        new_states = []
        for i, (h, c) in enumerate(states):
            if i > 0:
                gates = jnp.matmul(new_states[-1][0], cells[i]["w_input"]) + bias[i]
            gates = gates + jnp.matmul(h, cells[i]["w_hidden"])
            new_states.append(_cell(gates, c))
        return tuple(new_states), None

    zero = jnp.zeros((len(x), hidden), table.dtype)
    states = ((zero, zero),) * len(cells)
    states, _ = jax.lax.scan(step, states, look_up(table, x.T))
    return states[-1][0]


@jax.checkpoint  # recomputing the activations backwards is cheaper than storing them
def _cell(gates: Array, c: Array) -> tuple[Array, Array]:
    """The next (h, c), each [n, H], from gate pre-activations [n, 4H]."""
    i, f, g, o = _activate(gates)
    c = f * c + i * g
    return o * jnp.tanh(c), c


def _by_layers(embedding: Array, cells: list[Params], x: Array) -> Array:
    """As `_by_tokens`, layer by layer: the inputs to a layer's gates are one product
    over all tokens, and so is the gradient of each matrix. Tokens are looked up in the
    embedding, where the one-hot product of the gradient has the fewest columns."""
    inputs = look_up(embedding, x.T)
    for cell in cells:
        projected = jnp.matmul(inputs, cell["w_input"]) + _bias(cell)[None]
        inputs = _recur(projected, cell["w_hidden"])
    return inputs[-1]


def _bias(cell: Params) -> Array:
    return (cell["b_input"] + cell["b_hidden"])[None]


@jax.custom_jvp
def _recur(inputs: Array, w: Array) -> Array:
    """The states h [T, n, H] of a layer with w [H, 4H], from the projected inputs to
    its gates, [T, n, 4H], starting from zero.

    The derivative is custom so that the loop has a single product, of a state or,
    backwards, of its gradient: the gradient of w is then one product over all tokens
    instead of a sum that the loop carries.
    """
    return _run(inputs, w)[0]


def _run(inputs: Array, w: Array) -> tuple[Array, Array, Array]:
    """h and c after each token, [T, n, H], and the gate pre-activations, [T, n, 4H]."""

    def step(state: tuple[Array, Array], inputs: Array):
        h, c = state
        gates = inputs + jnp.matmul(h, w)
        i, f, g, o = _activate(gates)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, gates)

    zero = jnp.zeros((inputs.shape[1], len(w)), inputs.dtype)
    return jax.lax.scan(step, (zero, zero), inputs)[1]


def _activate(gates: Array) -> list[Array]:
    """The input, forget, cell and output gates, each [n, H], from [n, 4H]."""
    # One sigmoid for all gates: XLA would compute separate ones for c and for h.
    i, f, _, o = jnp.split(jax.nn.sigmoid(gates), 4, axis=1)
    return [i, f, jnp.tanh(jnp.split(gates, 4, axis=1)[2]), o]


@_recur.defjvp
def _recur_derivative(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    w = primals[1]
    h, c, gates = _run(*primals)
    d_inputs = tangents[0] + jnp.matmul(_before(h), tangents[1])

    # The backward pass recomputes the activations, which is cheaper than storing them.
    @partial(jax.checkpoint, prevent_cse=False)
    def step(d_state: tuple[Array, Array], at: tuple[Array, ...]):
        (dh, dc), (d_inputs, gates, c_before, c) = d_state, at
        i, f, g, o = _activate(gates)
        tanh_c = jnp.tanh(c)
        di, df, dg, do = jnp.split(d_inputs + jnp.matmul(dh, w), 4, axis=1)
        dc = f * dc + (g * i * (1 - i)) * di
        dc = dc + (c_before * f * (1 - f)) * df + (i * (1 - g * g)) * dg
        dh = (o * (1 - tanh_c * tanh_c)) * dc + (tanh_c * o * (1 - o)) * do
        return (dh, dc), dh

    zero = jnp.zeros_like(h[0])
    along = (d_inputs, gates, _before(c), c)
    return h, jax.lax.scan(step, (zero, zero), along)[1]


def _before(states: Array) -> Array:
    """The states [T, n, H] before each token; zero before the first."""
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
