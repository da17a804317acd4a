"""Optimisers: optax transformations, and the learning-rate rule of the lazy limit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax import tree
from grok_jax.settings import Momentum, NonNegative, Positive, StaticDecay
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
    *,
    learning_rate: Positive = 0.5,
    momentum: Momentum = 0.0,
    weight_decay: StaticDecay = 0.0,
) -> optax.GradientTransformation:
    """Plain gradient descent, with heavy-ball momentum and weight decay if asked for.

    The decay is lambda of theta <- (1 - lambda) theta - lr gradient, not multiplied by
    the rate (Xu et al. 2025, Sec. 3.1); that of `adamw` is. It is static.
    """
    descent = optax.sgd(learning_rate, momentum=momentum or None)
    if not weight_decay:
        return descent
    return optax.chain(descent, optax.add_decayed_weights(-weight_decay))


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
    """State of `fixed_norm`."""

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


class EmaState(NamedTuple):
    """State of `grokfast_ema`."""

    mean: Params  # mu, the slow part of the gradient


def grokfast_ema(
    *, decay: Scalar = 0.98, strength: Scalar = 2.0
) -> optax.GradientTransformation:
    """The slow part of the gradient once more: mu <- a mu + (1 - a) g, then
    g + lambda mu, with a = `decay` and lambda = `strength` (Lee et al. 2024, arXiv
    2405.20233, GrokFast-EMA). It comes before an optimiser, in `optax.chain`.

    mu begins as the first gradient, as in the authors' code.

    >>> slow = grokfast_ema(decay=0.5, strength=2.0)
    >>> g, state = slow.update(jnp.ones(1), slow.init(jnp.zeros(1)))
    >>> float(g[0]), float(slow.update(jnp.zeros(1), state)[0][0])
    (3.0, 1.0)
    """

    def init(params: Params) -> tuple[EmaState, Array]:
        zero = jax.tree.map(jnp.zeros_like, params)
        return EmaState(zero), jnp.full((), True)

    def update(updates: Params, state: Any, params: Params | None = None):
        del params
        (mean,), first = state

        def slow(mu: Array, g: Array) -> Array:
            return jnp.where(first, g, decay * mu + (1 - decay) * g)

        mean = jax.tree.map(slow, mean, updates)
        fast = jax.tree.map(lambda g, mu: g + strength * mu, updates, mean)
        return fast, (EmaState(mean), jnp.full((), False))

    return optax.GradientTransformation(init, update)


class WindowState(NamedTuple):
    """State of `grokfast_ma`."""

    window: Params  # the last gradients, [w, ...] for each parameter
    count: Array  # int32 [], how many there have been


def grokfast_ma(
    *, window: int = 100, strength: Scalar = 5.0
) -> optax.GradientTransformation:
    """g + lambda times the mean of the last `window` gradients, the present one among
    them (Lee et al. 2024, arXiv 2405.20233, GrokFast-MA).

    As in the authors' code nothing is added before the window is full. The state holds
    `window` copies of the parameters.
    """

    def init(params: Params) -> WindowState:
        empty = jax.tree.map(lambda p: jnp.zeros((window, *p.shape), p.dtype), params)
        return WindowState(empty, jnp.zeros((), jnp.int32))

    def update(updates: Params, state: Any, params: Params | None = None):
        del params
        kept = jax.tree.map(
            lambda old, g: old.at[state.count % window].set(g), state.window, updates
        )
        full = state.count + 1 >= window

        def amplify(g: Array, seen: Array) -> Array:
            return g + jnp.where(full, strength * jnp.mean(seen, axis=0), 0)

        fast = jax.tree.map(amplify, updates, kept)
        return fast, WindowState(kept, state.count + 1)

    return optax.GradientTransformation(init, update)


def orthogonal_gradient() -> optax.GradientTransformation:
    """The gradient of each parameter tensor without its part along the tensor itself,
    at its former length: no step grows the weights along themselves any more (Prieto et
    al. 2025, arXiv 2501.04697, orthogonal gradient; its length as in their code).

    A gradient that lies along its weights becomes 0. It comes before an optimiser.

    >>> tx = orthogonal_gradient()
    >>> w, g = jnp.array([2.0, 0.0]), jnp.array([3.0, 4.0])
    >>> print(tx.update(g, tx.init(w), w)[0])
    [0. 5.]
    """

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def project(g: Array, w: Array) -> Array:
        tiny = jnp.finfo(g.dtype).tiny
        along = jnp.sum(w * g) / jnp.maximum(jnp.sum(w * w), tiny)
        across = g - along * w
        size, left = jnp.sqrt(jnp.sum(g * g)), jnp.sqrt(jnp.sum(across * across))
        rounding = 1e-6 * size  # what is left of a gradient along the weights
        factor = jnp.where(left > rounding, size / jnp.maximum(left, tiny), 0)
        return factor * across

    def update(updates: Params, state: Any, params: Params | None = None):
        if params is None:
            raise ValueError("orthogonal_gradient needs the parameters in update.")
        return jax.tree.map(project, updates, params), state

    return optax.GradientTransformation(init, update)
