"""Fully connected networks, initialised as in PyTorch (Liu et al. 2023, Omnigrok)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.rng import affine, linear_layer, named_key
from grok_jax.settings import Count, Natural, lookup
from grok_jax.types import Model

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.2),
}

Layer = dict[str, Array]


def _kaiming_layer(key: Array, inputs: int, outputs: int) -> Layer:
    w = jax.random.normal(named_key(key, "w"), (inputs, outputs))
    return {"w": w * (2 / inputs) ** 0.5, "b": jnp.zeros(outputs)}


LAYERS = {"pytorch": linear_layer, "kaiming_normal": _kaiming_layer}


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
    Raises: SettingError if there is no such activation or initialisation.
    """
    act = lookup(ACTIVATIONS, activation, "activation")
    draw_layer = lookup(LAYERS, init, "initialisation")

    def draw(key: Array, x: Array) -> dict[str, Layer]:
        sizes = (x.shape[-1], *(width,) * layers, outputs or 1)
        return {
            f"layer_{i}": draw_layer(named_key(key, f"layer_{i}"), *sizes[i : i + 2])
            for i in range(layers + 1)
        }

    def apply(params: dict[str, Layer], x: Array) -> Array:
        for i in range(layers):
            x = act(affine(params[f"layer_{i}"], x))
        f = affine(params[f"layer_{layers}"], x)
        return f if outputs else f[:, 0]

    return Model(draw, apply)


def from_torch(state: Mapping[str, Any]) -> dict[str, Layer]:
    """The params of an `mlp` from the state dict of a PyTorch one, such as a Sequential
    of nn.Linear layers and activations: weights [out, in] in the order of the layers,
    each with a bias [out] of the same name, or with none (zeros).

    Raises:
      ValueError: an array is no weight or bias, or the sizes do not follow one another.

    >>> state = {"0.weight": jnp.ones((4, 2)), "0.bias": jnp.ones(4)}
    >>> params = from_torch(state | {"2.weight": jnp.ones((1, 4))})
    >>> {name: layer["w"].shape for name, layer in params.items()}
    {'layer_0': (2, 4), 'layer_1': (4, 1)}
    """
    arrays = {name: np.asarray(array) for name, array in state.items()}
    weights = [name for name in arrays if name.rpartition(".")[2] == "weight"]
    biases = {name: f"{name.removesuffix('weight')}bias" for name in weights}
    unknown = [name for name in arrays if name not in {*weights, *biases.values()}]
    faults = [f"{name} is unknown" for name in unknown]
    layers, inputs = {}, None
    for number, name in enumerate(weights):
        w = arrays[name]
        b = arrays.get(biases[name], np.zeros(w.shape[:1], w.dtype))
        if w.ndim != 2 or (inputs or w.shape[1]) != w.shape[1]:
            faults.append(f"{name} has shape {w.shape} instead of [out, {inputs}]")
        elif b.shape != w.shape[:1]:
            faults.append(f"{biases[name]} has shape {b.shape}, {name} {w.shape}")
        inputs = w.shape[0] if w.ndim else None
        layers[f"layer_{number}"] = {"w": jnp.asarray(w).T, "b": jnp.asarray(b)}
    if faults or not layers:
        said = "; ".join(faults) or "there is no weight"
        raise ValueError(f"This is no fully connected network: {said}.")
    return layers
