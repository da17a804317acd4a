"""A variant is a wrapper, not a flag: each maps a network to a network.

`linearize` (the network's first-order twin) is `ntk.linearize`.
"""

from collections.abc import Callable
from typing import Any

from jax import Array

from grok_jax import tree
from grok_jax.types import Apply, Model, Params, Scalar


def scale_output(apply: Apply, output_scale: Scalar) -> Apply:
    """alpha f: the laziness of Kumar et al. 2024 and Chizat et al. 2019."""
    return lambda params, x: output_scale * apply(params, x)


def center(
    function: Callable[[Params, Any], Any], anchor: Params
) -> Callable[[Params, Any], Any]:
    """f(params) - f(anchor): the centred predictor of Chizat et al. 2019, which is
    zero at initialisation whatever its output scale."""
    return lambda params, x: tree.subtract(function(params, x), function(anchor, x))


def scale_init(model: Model, init_scale: Scalar) -> Model:
    """The model with every initial parameter times `init_scale` (alpha = w / w0 of
    Omnigrok, sigma of Kumar et al. 2024, Fig. 7), biases included."""

    def init(key: Array, x: Array) -> Params:
        return tree.scale(model.init(key, x), init_scale)

    return model._replace(init=init)


def factored(apply: Apply) -> Apply:
    """The network where any parameter may be two factors A, B whose product it is
    (`tree.Factors`; E_T = A B of Xu et al. 2025)."""
    return lambda params, x: apply(tree.over_factors(tree.product, params), x)
