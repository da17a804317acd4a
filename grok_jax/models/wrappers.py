"""Variants of a network as wrappers: each maps a network to a network.

The linearised network (its first-order Taylor expansion) is `ntk.linearize`.
"""

from collections.abc import Callable
from typing import Any

import optax
from jax import Array

from grok_jax import tree
from grok_jax.types import Apply, Model, Params, Scalar


def scale_output(apply: Apply, output_scale: Scalar) -> Apply:
    """alpha f; alpha sets the laziness (Kumar et al. 2024; Chizat et al. 2019)."""
    return lambda params, x: output_scale * apply(params, x)


def center(
    function: Callable[[Params, Any], Any], anchor: Params
) -> Callable[[Params, Any], Any]:
    """f(params) - f(anchor): the centred predictor of Chizat et al. 2019, which is
    zero at initialisation at any output scale."""
    return lambda params, x: optax.tree.sub(function(params, x), function(anchor, x))


def scale_init(model: Model, init_scale: Scalar) -> Model:
    """The model with every initial parameter, biases included, times `init_scale`
    (alpha = w / w0 of Omnigrok, sigma of Kumar et al. 2024, Fig. 7)."""

    def init(key: Array, x: Array) -> Params:
        return tree.scale(model.init(key, x), init_scale)

    return model._replace(init=init)


def factored(apply: Apply) -> Apply:
    """The network where any parameter may be given as the product of two factors A, B
    (`tree.Factors`; E_T = A B of Xu et al. 2025)."""
    return lambda params, x: apply(tree.over_factors(tree.product, params), x)
