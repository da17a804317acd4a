"""Per-example losses and accuracies; the caller weights them.

Each maps (f, y) with f [n] or [n, C] to [n].
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from grok_jax.settings import Positive


def squared_error(f: Array, y: Array) -> Array:
    """|f - y|^2, summed over outputs: the plain squared error, no factor 1/2."""
    square = jnp.square(f - y)
    return square if square.ndim == 1 else jnp.sum(square, axis=-1)


def within(f: Array, y: Array, *, tolerance: float | Array) -> Array:
    """1.0 where the squared error lies below `tolerance`: accuracy of a regression."""
    return (squared_error(f, y) < tolerance).astype(f.dtype)


def weighted_mean(values: Array, weight: Array) -> Array:
    """Mean of values [n] under weights [n]."""
    return jnp.sum(values * weight) / jnp.sum(weight)


class Loss(NamedTuple):
    """What is minimised and what counts as right, both per example."""

    value: Callable[[Array, Array], Array]
    accuracy: Callable[[Array, Array], Array]


def regression(*, tolerance: Positive = 0.1) -> Loss:
    """Squared error; an example is right when its squared error is below `tolerance`.

    The threshold belongs to the accuracy alone: the loss curves do not depend on it.
    """
    return Loss(squared_error, partial(within, tolerance=tolerance))


def one_hot_error(f: Array, y: Array) -> Array:
    """|f - y|^2 / C for f, y [n, C]: the mean over outputs."""
    return jnp.mean(jnp.square(f - y), axis=-1)


def same_class(f: Array, y: Array) -> Array:
    """1.0 where the largest output is the class of the one-hot y."""
    return (jnp.argmax(f, axis=-1) == jnp.argmax(y, axis=-1)).astype(f.dtype)


def one_hot_regression() -> Loss:
    """Mean squared error on one-hot targets; right where the largest output is."""
    return Loss(one_hot_error, same_class)
