"""Optimisers: optax transformations, and the learning-rate rule of the lazy limit."""

from typing import Any, NamedTuple

import optax
from jax import Array

from grok_jax import tree
from grok_jax.settings import Momentum, NonNegative, Positive
from grok_jax.types import Params, Scalar


def lazy_learning_rate(
    learning_rate: Scalar, output_scale: Scalar, width: int = 1
) -> Scalar:
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


def adamw(
    *,
    learning_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
    b1: Momentum = 0.9,
    b2: Momentum = 0.999,
) -> optax.GradientTransformation:
    """AdamW: decoupled decay, theta <- theta (1 - lr weight_decay) - lr adam.

    The betas are static: traced ones would change the trajectory.
    """
    return optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


class FixedNormState(NamedTuple):
    inner: Any
    radius: Array  # [], the norm to hold


def fixed_norm(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx` on a sphere: after every step all parameters together are scaled back to
    their initial L2 norm (Liu et al. 2023, Sec. 2: the reduced loss at that norm).

    The norm is that of ALL parameters, each counted once (`tree.norm`).

    >>> import jax.numpy as jnp
    >>> step = fixed_norm(optax.sgd(1.0))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> updates, _ = step.update({"w": jnp.array([3.0, 0.0])}, step.init(params),
    ...                          params)
    >>> print(optax.apply_updates(params, updates)["w"])
    [0. 5.]
    """

    def init(params: Params) -> FixedNormState:
        return FixedNormState(tx.init(params), tree.norm(params))

    def update(updates: Params, state: Any, params: Params | None = None):
        if params is None:
            raise ValueError("fixed_norm needs the parameters in update.")
        updates, inner = tx.update(updates, state.inner, params)
        moved = optax.apply_updates(params, updates)
        on_sphere = tree.scale(moved, state.radius / tree.norm(moved))
        return tree.subtract(on_sphere, params), state._replace(inner=inner)

    return optax.GradientTransformation(init, update)
