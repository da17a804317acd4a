"""Fully connected networks, initialised as in PyTorch (Liu et al. 2023, Omnigrok)."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import linear_layer, named_key
from grok_jax.settings import Count, Natural
from grok_jax.types import Model

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.2),
}

Layer = dict[str, Array]


def mlp(
    *,
    width: Count = 200,
    layers: Count = 2,
    outputs: Natural = 0,
    activation: Literal["relu", "tanh", "leaky_relu"] = "relu",
    init: Literal["pytorch", "kaiming_normal"] = "pytorch",
) -> Model:
    """x [n, D] -> f [n, C] through `layers` hidden layers of `width` units.

    params {"layer_0": {"w": [in, out], "b": [out]}, ...}, with the output layer last.

    Args:
      outputs: C; 0 for one output, f [n] (in an experiment: taken from the data).
      activation: `leaky_relu` has negative slope 0.2 (the authors' toy addition).
      init: `pytorch` draws weights and biases from U(-k, k), k = 1 / sqrt(fan in), as
        nn.Linear does; `kaiming_normal` draws weights from N(0, 2 / fan in), with zero
        biases.
    """
    draw_layer = linear_layer if init == "pytorch" else _kaiming_layer

    def draw(key: Array, x: Array) -> dict[str, Layer]:
        sizes = (x.shape[-1], *(width,) * layers, outputs or 1)
        return {
            f"layer_{i}": draw_layer(named_key(key, f"layer_{i}"), *sizes[i : i + 2])
            for i in range(layers + 1)
        }

    def apply(params: dict[str, Layer], x: Array) -> Array:
        for i in range(layers):
            x = ACTIVATIONS[activation](_affine(params[f"layer_{i}"], x))
        f = _affine(params[f"layer_{layers}"], x)
        return f if outputs else f[:, 0]

    return Model(draw, apply)


def _affine(layer: Layer, x: Array) -> Array:
    return jnp.matmul(x, layer["w"]) + layer["b"][None]


def _kaiming_layer(key: Array, inputs: int, outputs: int) -> Layer:
    w = jax.random.normal(named_key(key, "w"), (inputs, outputs))
    return {"w": w * (2 / inputs) ** 0.5, "b": jnp.zeros(outputs)}
