"""Optimisers as optax transformations, and the lazy-limit learning-rate rule."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax import tree
from grok_jax.settings import (
    Count,
    Factor,
    Momentum,
    Natural,
    NonNegative,
    Positive,
    SettingError,
    StaticDecay,
)
from grok_jax.types import Params, Scalar


def lazy_learning_rate(
    learning_rate: Scalar, output_scale: Scalar, width: int = 1
) -> Scalar:
    """eta = eta0 N / alpha^2, so that the initial df/dt is equal at all output scales.

    The rate for the plain mean squared error (Kumar et al. 2024, Sec. 5; after Chizat
    et al. 2019); N is the width of a mean-field network, and 1 for other networks.
    """
    return learning_rate * width / output_scale**2


def gradient_descent(
    *,
    learning_rate: Positive = 0.5,
    momentum: Momentum = 0.0,
    weight_decay: StaticDecay = 0.0,
    clip_norm: StaticDecay = 0.0,
    warmup_steps: Natural = 0,
    rate_drops: tuple[int, ...] = (),
    rate_factor: Factor = 0.2,
) -> optax.GradientTransformation:
    """Plain gradient descent with optional heavy-ball momentum and weight decay.

    The decay is lambda in theta <- (1 - lambda) theta - lr gradient: unlike in `adamw`,
    it is not multiplied by the rate (Xu et al. 2025, Sec. 3.1). It is static.

    Args:
      clip_norm: the largest allowed global L2 norm of the gradient; 0: no clipping.
      warmup_steps, rate_drops, rate_factor: see `scheduled`.
    """
    rate = scheduled(learning_rate, warmup_steps, rate_drops, rate_factor)
    descent = _clipped(optax.sgd(rate, momentum=momentum or None), clip_norm)
    if not weight_decay:
        return descent
    return optax.chain(descent, optax.add_decayed_weights(-weight_decay))


def adamw(
    *,
    learning_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
    b1: Momentum = 0.9,
    b2: Momentum = 0.999,
    clip_norm: StaticDecay = 0.0,
    warmup_steps: Natural = 0,
    rate_drops: tuple[int, ...] = (),
    rate_factor: Factor = 0.2,
) -> optax.GradientTransformation:
    """AdamW: decoupled decay, theta <- theta (1 - lr weight_decay) - lr adam.

    The betas are static, because traced ones would change the trajectory.

    Args:
      clip_norm: the largest allowed global L2 norm of the gradient; 0: no clipping.
      warmup_steps, rate_drops, rate_factor: see `scheduled`.
    """
    rate = scheduled(learning_rate, warmup_steps, rate_drops, rate_factor)
    tx = optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay)
    return _clipped(tx, clip_norm)


def scheduled(
    rate: Scalar, warmup_steps: int, rate_drops: tuple[int, ...], rate_factor: float
) -> Scalar | optax.Schedule:
    """A learning rate that warms up linearly to `rate` over `warmup_steps` steps and is
    multiplied by `rate_factor` at each step of `rate_drops`.

    >>> rate = scheduled(1.0, 2, (4, 6), 0.2)
    >>> [round(float(rate(step)), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 1.0, 0.2, 0.2, 0.04]

    Raises: SettingError if the drops are not increasing steps.
    """
    if not (warmup_steps or rate_drops):
        return rate
    rising = all(a < b for a, b in pairwise((0, *rate_drops)))
    if not (rising and all(isinstance(step, int) for step in rate_drops)):
        raise SettingError(
            f"optimizer.rate_drops is {rate_drops!r}; it must be increasing steps, "
            "such as (1000, 2000)."
        )
    drop = optax.piecewise_constant_schedule(
        1.0, dict.fromkeys(rate_drops, rate_factor)
    )

    def schedule(count: Any) -> Any:
        warm = jnp.minimum(1.0, (count + 1) / max(warmup_steps, 1))
        return rate * warm * drop(count)

    return schedule


def _clipped(
    tx: optax.GradientTransformation, norm: float
) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(norm), tx) if norm else tx


class FixedNormState(NamedTuple):
    """State of `fixed_norm`."""

    inner: Any
    radius: Array  # [], the norm to keep


def fixed_norm(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wraps `tx` to rescale all parameters together to their initial L2 norm after each
    step (Liu et al. 2023, Sec. 2: the reduced loss at that norm).

    The norm is global, over all parameters, each counted once (`optax.tree.norm`).

    >>> import jax.numpy as jnp
    >>> step = fixed_norm(optax.sgd(1.0))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> updates, _ = step.update({"w": jnp.array([3.0, 0.0])}, step.init(params),
    ...                          params)
    >>> print(optax.apply_updates(params, updates)["w"])
    [0. 5.]
    """

    def init(params: Params) -> FixedNormState:
        return FixedNormState(tx.init(params), optax.tree.norm(params))

    def update(updates: Params, state: Any, params: Params | None = None):
        if params is None:
            raise ValueError("fixed_norm needs the parameters in update.")
        updates, inner = tx.update(updates, state.inner, params)
        moved = optax.apply_updates(params, updates)
        on_sphere = tree.scale(moved, state.radius / optax.tree.norm(moved))
        return optax.tree.sub(on_sphere, params), state._replace(inner=inner)

    return optax.GradientTransformation(init, update)


class EmaState(NamedTuple):
    """State of `grokfast_ema`."""

    mean: Params  # mu, the slow part of the gradient


def grokfast_ema(
    *, decay: Momentum = 0.98, strength: NonNegative = 2.0
) -> optax.GradientTransformation:
    """Amplifies the slow part of the gradient: mu <- a mu + (1 - a) g, then g + lambda
    mu, with a = `decay` and lambda = `strength` (Lee et al. 2024, arXiv 2405.20233,
    GrokFast-EMA). Place it before an optimiser in `optax.chain`.

    mu starts as the first gradient, as in the authors' code.

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
    count: Array  # int32 [], the number of gradients so far


def grokfast_ma(
    *, window: Count = 100, strength: NonNegative = 5.0
) -> optax.GradientTransformation:
    """Adds `strength` times the mean of the last `window` gradients, including the
    current one, to the gradient (Lee et al. 2024, arXiv 2405.20233, GrokFast-MA).

    As in the authors' code, nothing is added before the window is full. The state holds
    `window` copies of the parameters.
    """

    def init(params: Params) -> WindowState:
        empty = jax.tree.map(lambda p: jnp.zeros((window, *p.shape), p.dtype), params)
        return WindowState(empty, jnp.zeros((), jnp.int32))

    def update(updates: Params, state: Any, params: Params | None = None):
        del params
        history = jax.tree.map(
            lambda old, g: old.at[state.count % window].set(g), state.window, updates
        )
        full = state.count + 1 >= window

        def amplify(g: Array, recent: Array) -> Array:
            return g + jnp.where(full, strength * jnp.mean(recent, axis=0), 0)

        fast = jax.tree.map(amplify, updates, history)
        return fast, WindowState(history, state.count + 1)

    return optax.GradientTransformation(init, update)


def orthogonal_gradient() -> optax.GradientTransformation:
    """Projects each parameter tensor's gradient orthogonally to the tensor and restores
    its length, so that no step grows the weights along themselves (Prieto et al. 2025,
    arXiv 2501.04697, orthogonal gradient; the length as in their code).

    A gradient parallel to its weights becomes 0. Place it before an optimiser.

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
        rounding = 1e-6 * size  # residual of a gradient parallel to the weights
        factor = jnp.where(left > rounding, size / jnp.maximum(left, tiny), 0)
        return factor * across

    def update(updates: Params, state: Any, params: Params | None = None):
        if params is None:
            raise ValueError("orthogonal_gradient needs the parameters in update.")
        return jax.tree.map(project, updates, params), state

    return optax.GradientTransformation(init, update)
