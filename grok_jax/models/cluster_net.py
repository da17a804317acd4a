"""The two-layer ReLU network of the XOR clusters (Xu et al. 2025, Sec. 3)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import named_key
from grok_jax.settings import (
    Count,
    Natural,
    NonNegative,
    Positive,
    SettingError,
    lookup,
)
from grok_jax.types import Model, Params, Scalar

BLOCK = 4096
"""Columns of the int8 signs that are converted to floats at a time."""
FEW = 4
"""The most neurons that are multiplied one at a time."""


def cluster_net(
    *,
    width: Count = 2048,
    noise: NonNegative = 0.05,
    init: Literal["pytorch", "gaussian"] = "pytorch",
    hidden_scale: Positive = 0.1,
    readout_scale: Positive = 0.01,
    dimension: Natural = 0,
) -> Model:
    """f(x) [n] = sum_j a_j relu(w_j . x') with x' = (x_1, x_2, noise x_3, ..., noise
    x_p) for signs x [n, p] int8, as in the data of `xor_clusters`.

    params {"signal": [2, m], "noise": [p - 2, m], "readout": [m]}, w_j in two parts.
    The forward and backward passes convert the signs to floats in blocks of columns, so
    that a float copy of x never exists.

    Args:
      noise: eps, the size of the noise relative to the signal.
      init: `pytorch` draws w from U(-k, k), k = 1 / sqrt(p), and a from U(-k, k) with
        k = 1 / sqrt(m); `gaussian` from N(0, hidden_scale^2) and N(0, readout_scale^2)
        (Fig. 4b).
      dimension: p of compact examples x [n, 2 + r]. "noise" [r, m] are then the weights
        in their basis, drawn normal with the same variance, and "rest" [m] the norm of
        each neuron's other p - 2 - r weights, which no example sees: it only decays.
    """
    pytorch = lookup({"pytorch": True, "gaussian": False}, init, "initialisation")

    def draw_params(key: Array, x: Array) -> dict[str, Array]:
        _check(x, compact=dimension > 0)
        if dimension:
            return draw_compact(key, x.shape[1])
        p = x.shape[1]

        def draw(name: str, shape: tuple[int, ...], fan_in: int, scale: Scalar):
            leaf_key, bound = named_key(key, name), fan_in**-0.5
            if pytorch:
                return _uniform(leaf_key, shape, bound)
            return scale * jax.random.normal(leaf_key, shape)

        return {
            "signal": draw("signal", (2, width), p, hidden_scale),
            "noise": draw("noise", (p - 2, width), p, hidden_scale),
            "readout": draw("readout", (width,), width, readout_scale),
        }

    def draw_compact(key: Array, columns: int) -> dict[str, Array]:
        if dimension < columns:
            raise SettingError(
                f"model.dimension is {dimension}; it is the task.dimension of compact "
                f"examples, at least {columns}."
            )
        scale = (3 * dimension) ** -0.5 if pytorch else hidden_scale
        others = dimension - columns

        def normal(name: str, *shape: int) -> Array:
            return jax.random.normal(named_key(key, name), shape)

        signal, bound = scale * normal("signal", 2, width), dimension**-0.5
        readout = readout_scale * normal("readout", width)
        if pytorch:
            signal = _uniform(named_key(key, "signal"), (2, width), bound)
            readout = _uniform(named_key(key, "readout"), (width,), width**-0.5)
        squares = jnp.zeros(width)
        if others:
            squares = jax.random.chisquare(
                named_key(key, "rest"), float(others), (width,)
            )
        return {
            "signal": signal,
            "noise": scale * normal("noise", columns - 2, width),
            "rest": scale * jnp.sqrt(squares),
            "readout": readout,
        }

    def apply(params: Params, x: Array) -> Array:
        return jax.nn.relu(project(params, x, noise)) @ params["readout"]

    return Model(draw_params, apply)


def project(params: Params, x: Array, noise: Scalar, block: int = BLOCK) -> Array:
    """The pre-activations w_j . x' of all neurons, [n, m], for signs x [n, p] int8 or
    compact examples."""
    _check(x)
    if x.dtype != jnp.int8:
        return x[:, :2] @ params["signal"] + noise * (x[:, 2:] @ params["noise"])
    signal = x[:, :2].astype(params["signal"].dtype) @ params["signal"]
    return signal + noise * _product(x, params["noise"], block)


def _product(x: Array, w: Array, block: int) -> Array:
    """The last p - 2 columns of x times w [p - 2, m], `block` columns at a time."""
    first, block = x.shape[1] - len(w), min(block, len(w))
    blocks = len(w) // block
    cut = blocks * block

    @jax.checkpoint  # otherwise the float blocks of x are stored for the backward pass
    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        i, rows = part
        columns = jax.lax.dynamic_slice_in_dim(x, first + i * block, block, axis=1)
        return total + _times(columns, rows), None

    rest = _times(x[:, first + cut :], w[cut:])
    parts = jnp.arange(blocks), w[:cut].reshape(blocks, block, w.shape[1])
    return jax.lax.scan(add, rest, parts)[0]


def _times(x: Array, w: Array) -> Array:
    """x [n, k] int8 times w [k, m]. A few neurons are multiplied one at a time: XLA
    then sums over the int8 signs directly, five times as fast on a CPU at m = 3."""
    if w.shape[1] > FEW:
        return x.astype(w.dtype) @ w
    return jnp.stack([x.astype(w.dtype) @ column for column in w.T], axis=1)


def _uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _check(x: Array, compact: bool = True) -> None:
    numbers = compact and jnp.issubdtype(x.dtype, jnp.floating)
    if not (numbers or x.dtype == jnp.int8) or x.ndim != 2 or x.shape[1] < 3:
        raise SettingError(
            "A cluster net takes int8 signs of shape (n, p) with p >= 3, or with its "
            f"dimension compact examples, not {x.dtype} inputs of shape {x.shape}."
        )
