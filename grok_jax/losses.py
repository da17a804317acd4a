"""Per-example losses and accuracies; the caller weights them.

Each maps (f, y) with f [n] or [n, C] to [n].
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax.settings import Positive, lookup


def squared_error(f: Array, y: Array) -> Array:
    """|f - y|^2, summed over outputs, without a factor 1/2."""
    square = jnp.square(f - y)
    return square if square.ndim == 1 else jnp.sum(square, axis=-1)


def weighted_mean(values: Array, weight: Array) -> Array:
    """Mean of values [n] under weights [n]."""
    return jnp.sum(values * weight) / jnp.sum(weight)


class Loss(NamedTuple):
    """The loss to minimise and the accuracy, both per example."""

    value: Callable[[Array, Array], Array]
    accuracy: Callable[[Array, Array], Array]


def mean_squared_error(f: Array, y: Array) -> Array:
    """|f - y|^2 / C for f, y [n, C]: the mean over outputs."""
    square = jnp.square(f - y)
    return square if square.ndim == 1 else jnp.mean(square, axis=-1)


def regression(
    *, tolerance: Positive = 0.1, outputs: Literal["sum", "mean"] = "sum"
) -> Loss:
    """Squared error, summed or averaged over outputs; an example is correct if its
    error is below `tolerance`.

    The tolerance affects only the accuracy, not the loss curves.
    """
    values = {"sum": squared_error, "mean": mean_squared_error}
    error = lookup(values, outputs, "way to put outputs together")

    def within(f: Array, y: Array) -> Array:
        return (error(f, y) < tolerance).astype(f.dtype)

    return Loss(error, within)


def same_class(f: Array, y: Array) -> Array:
    """1.0 where the largest of f [n, C] is class y, a label [n] or one-hot [n, C]."""
    label = y if y.ndim == 1 else jnp.argmax(y, axis=-1)
    return (jnp.argmax(f, axis=-1) == label).astype(f.dtype)


def naive_cross_entropy(f: Array, y: Array) -> Array:
    """-log softmax(f)_y for logits f [n, C] and y, [n] labels or [n, C] one-hot,
    computed as logsumexp(f) - f_y, as in most libraries.

    In float32 it and its derivative in f_y are exactly 0 once the correct logit leads
    by about 17: softmax collapse (Prieto et al. 2025, arXiv 2501.04697).
    """
    if y.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(f, y)
    return optax.softmax_cross_entropy(f, y)


def cross_entropy(f: Array, y: Array) -> Array:
    """-log softmax(f)_y for logits f [n, C] and y, [n] labels or [n, C] probabilities
    (-sum_c y_c log softmax(f)_c), without softmax collapse.

    It is softplus(logsumexp(f_c over c other than y) - f_y), computed such that nothing
    cancels as p_y -> 1, nor in the derivatives p_c and -(1 - p_y): in float32 both keep
    their relative precision until they underflow, when f_y leads by about 87, and the
    derivatives are finite for all finite f. Labels out of range give NaN.

    Probabilities that are not one-hot add sum_c y_c (f_h - f_c), h their argmax.
    """
    classes = f.shape[-1]
    label = y if y.ndim < f.ndim else jnp.argmax(y, axis=-1)
    # comparisons, not indexing, whose gradient is a scatter: slow on a TPU and summed
    # in any order on a GPU
    column = jax.lax.broadcasted_iota(jnp.int32, f.shape, f.ndim - 1)
    at = label[..., None] == column
    right = jnp.sum(jnp.where(at, f, 0), axis=-1)
    # the shift cancels, so its derivative can be left out
    top = jnp.max(jax.lax.stop_gradient(f), axis=-1)
    correct = jnp.exp(right - top)
    rest = jnp.sum(jnp.where(at, 0, jnp.exp(f - top[..., None])), axis=-1)
    near = rest < correct
    ratio = rest / jnp.where(near, correct, 1)
    loss = jnp.where(near, jnp.log1p(ratio), (top - right) + jnp.log(correct + rest))
    if y.ndim < f.ndim:
        return jnp.where((label >= 0) & (label < classes), loss, jnp.nan)
    # halves do not overflow; h is left out, so that one-hot y add only zeros
    lead = jnp.where(at, 0, y) * (right[..., None] / 2 - f / 2)
    return jnp.sum(y, axis=-1) * loss + 2 * jnp.sum(lead, axis=-1)


def stablemax_cross_entropy(f: Array, y: Array) -> Array:
    """-log(s(f_y) / sum_c s(f_c)), where s(x) = x + 1 for x >= 0 and 1 / (1 - x) below
    replaces exp, for logits f [n, C] and y, [n] labels or [n, C] one-hot (Prieto et al.
    2025, arXiv 2501.04697, StableMax).

    s grows linearly: in float32 the probability of the correct class rounds to 1 only
    at logits of about 1e7, that of softmax at a lead of 17. StableMax was proposed
    against the collapse of `naive_cross_entropy` and changes the loss, which
    `cross_entropy` does not.
    """
    up = f >= 0
    above, below = jnp.where(up, f, 0), jnp.where(up, 0, -f)
    return cross_entropy(jnp.log1p(above) - jnp.log1p(below), y)


def classification(
    *,
    error: Literal[
        "cross_entropy", "naive_cross_entropy", "squared_error", "stablemax"
    ] = "cross_entropy",
) -> Loss:
    """Softmax cross-entropy, its naive form that collapses in low precision, mean
    squared error on one-hot targets, or StableMax cross-entropy; an example is correct
    if its class has the largest output."""
    values = {
        "cross_entropy": cross_entropy,
        "naive_cross_entropy": naive_cross_entropy,
        "stablemax": stablemax_cross_entropy,
        "squared_error": mean_squared_error,
    }
    return Loss(lookup(values, error, "error"), same_class)


def binary_cross_entropy() -> Loss:
    """Cross-entropy of sigmoid(f) for logits f [n] and y [n] in {0, 1}; correct if f
    has the sign of y - 1/2."""

    def same_side(f: Array, y: Array) -> Array:
        return ((f > 0) == (y > 0.5)).astype(f.dtype)

    return Loss(optax.sigmoid_binary_cross_entropy, same_side)


def exponential() -> Loss:
    """exp(-y f) for f [n] and y [n] in {-1, 1}; correct if f has the sign of y, which
    f = 0 does not."""

    def same_sign(f: Array, y: Array) -> Array:
        return (y * f > 0).astype(f.dtype)

    return Loss(lambda f, y: jnp.exp(-y * f), same_sign)
