"""Optimisers: optax transformations, and the learning-rate rule of the lazy limit."""

import optax
from jax.typing import ArrayLike

from grok_jax.settings import Momentum, Positive


def lazy_learning_rate(
    learning_rate: ArrayLike, output_scale: ArrayLike, width: int = 1
) -> ArrayLike:
    """eta = eta0 N / alpha^2: the initial df/dt is the same at every output scale.

    The rate on the plain mean squared error (Kumar et al. 2024, Sec. 5; after Chizat
    et al. 2019); N is the width of a mean-field network, 1 for any other.
    """
    return learning_rate * width / output_scale**2


def gradient_descent(
    *, learning_rate: Positive = 0.5, momentum: Momentum = 0.0
) -> optax.GradientTransformation:
    """Plain gradient descent, with heavy-ball momentum if asked for."""
    return optax.sgd(learning_rate, momentum=momentum or None)
