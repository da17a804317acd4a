"""Gradient flow with error control; the unit of time is one step of descent.

Late in training the flow is stiff: slow directions still move while fast ones have long
settled, so that an explicit method is limited by stability, not by accuracy. The
stabilised method of Sommeijer, Shampine and Verwer (1998, "RKC: an explicit solver for
parabolic PDEs") uses its stages for stability: with s evaluations of the velocity it is
stable up to a step of 0.65 (s^2 - 1) / rho, rho being the spectral radius of the
Jacobian. Accuracy sets the step size (diffrax's controller), the step size and rho set
the number of stages, and power iteration tracks rho. The Jacobian's eigenvalues should
be near the negative real axis, as in a gradient flow; others are left to the error
control.
"""

from functools import lru_cache
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.polynomial import chebyshev

from grok_jax import tree
from grok_jax.types import Dynamics, Params, Scalar, Velocity

MOST_STAGES = 64
"""The most evaluations per step. The rounding errors of the stages add up to about
their number squared times the precision, 2e-4 in float32."""
DAMPING = 2 / 13
"""Keeps the stability polynomial below 1 - DAMPING / 3 inside its interval."""
REACH = 0.65
"""The stability interval divided by (stages^2 - 1); Sommeijer et al. have
2 / 3 (1 - 2 / 15 DAMPING)."""
SAFETY = 1.2
"""Factor on the estimated spectral radius, which is a lower bound."""
ORDER = 3
"""The error of a step scales with its size to this power."""


def coefficients(stages: int) -> np.ndarray:
    """[stages, 4]: mu, nu, mu~ and gamma~ of stages 1 to `stages` (Sommeijer et al.,
    eqs. 2.4-2.6); the first stage uses only mu~."""
    w0 = 1 + DAMPING / stages**2
    unit = np.eye(stages + 1)
    t, dt, ddt = (
        np.asarray(chebyshev.chebval(w0, chebyshev.chebder(unit, m, axis=1).T))
        for m in range(3)
    )
    w1 = dt[-1] / ddt[-1]
    b = ddt[2:] / dt[2:] ** 2
    b = np.concatenate([[b[0], b[0]], b])
    mu, nu = 2 * b[1:] * w0 / b[:-1], -b[2:] / b[:-2]
    mu_rate = 2 * b[1:] * w1 / b[:-1]
    gamma = -(1 - b * t)[:-1] * mu_rate
    nu = np.concatenate([[0.0], nu])
    first = [0.0, 0.0, b[1] * w1, 0.0]
    return np.concatenate(
        [[first], np.stack([mu, nu, mu_rate, gamma], axis=1)[1:]], axis=0
    )


@lru_cache
def coefficient_table() -> np.ndarray:
    """[s, stage - 1, 4]: `coefficients` for every number of stages s from 2 to
    MOST_STAGES, padded with zeros."""
    table = np.zeros((MOST_STAGES + 1, MOST_STAGES, 4))
    for stages in range(2, MOST_STAGES + 1):
        table[stages, :stages] = coefficients(stages)
    return table


def stages_for(h: Scalar, rho: Scalar) -> Array:
    """The fewest stages with which a step h is stable at spectral radius rho."""
    least = jnp.ceil(jnp.sqrt(1 + h * rho / REACH))
    return jnp.clip(least, 2, MOST_STAGES).astype(jnp.int32)


def longest_step(rho: Scalar) -> Array:
    """The longest step that is stable with MOST_STAGES stages."""
    tiny = jnp.finfo(jnp.result_type(float)).tiny
    return REACH * (MOST_STAGES**2 - 1) / jnp.maximum(rho, tiny)


class Point(NamedTuple):
    """Parameters and their velocity at one time."""

    time: Array
    y: Params
    v: Params


def chebyshev_step(
    velocity: Velocity, now: Point, until: Array, stages: Array
) -> tuple[Point, Params]:
    """Takes a second-order Runge-Kutta-Chebyshev step with `stages` evaluations;
    returns (the point at `until`, the estimated error of its parameters)."""
    h, (_, y0, v0) = until - now.time, now
    table = jnp.asarray(coefficient_table(), jax.tree.leaves(y0)[0].dtype)[stages]

    def stage(j: Array, carry: tuple[Params, Params]) -> tuple[Params, Params]:
        before, last = carry
        mu, nu, mu_rate, gamma = table[j]

        def new(y0: Array, v0: Array, before: Array, last: Array, v: Array) -> Array:
            moved = (1 - mu - nu) * y0 + mu * last + nu * before
            return moved + h * (mu_rate * v + gamma * v0)

        return last, jax.tree.map(new, y0, v0, before, last, velocity(last))

    first = jax.tree.map(lambda y, v: y + table[0, 2] * h * v, y0, v0)
    _, y1 = jax.lax.fori_loop(1, stages, stage, (y0, first))
    v1 = velocity(y1)
    error = jax.tree.map(
        lambda y0, y1, v0, v1: 0.8 * (y0 - y1) + 0.4 * h * (v0 + v1), y0, y1, v0, v1
    )
    return Point(until, y1, v1), error


def power_step(
    velocity: Velocity, now: Point, direction: Params
) -> tuple[Array, Params]:
    """Takes a step of power iteration by finite differences, with one evaluation;
    returns (a lower estimate of the Jacobian's spectral radius, the next direction).

    A direction that the Jacobian maps to 0 is kept.
    """
    size = optax.tree.norm(now.y)
    shift = jnp.sqrt(jnp.finfo(size.dtype).eps) * jnp.where(size > 0, size, 1.0)
    shifted = jax.tree.map(lambda y, d: y + shift * d, now.y, direction)
    change = tree.scale(optax.tree.sub(velocity(shifted), now.v), 1 / shift)
    rho = optax.tree.norm(change)
    usable = (rho > 0) & jnp.isfinite(rho)
    unit = tree.scale(change, 1 / jnp.where(usable, rho, 1.0))
    return rho, optax.tree.where(usable, unit, direction)


class Reached(NamedTuple):
    """The last accepted step, and the next one to try."""

    start: Point
    end: Point
    until: Array  # the time at which the next step ends
    control: tuple
    direction: Params  # of power iteration


def parameters_at(now: Reached, time: Array) -> Params:
    """The parameters at a time within the last step, by cubic Hermite interpolation."""
    start, end = now.start, now.end
    h = end.time - start.time
    course = diffrax.ThirdOrderHermitePolynomialInterpolation(
        t0=start.time,
        t1=end.time,
        y0=start.y,
        y1=end.y,
        k0=tree.scale(start.v, h),
        k1=tree.scale(end.v, h),
    )
    return optax.tree.where(time > start.time, course.evaluate(time), start.y)


def flow(velocity: Velocity, *, rtol: Scalar, atol: Scalar) -> Dynamics:
    """The dynamics d params / dt = velocity(params).

    Only accuracy sets the steps, not the times at which parameters are wanted: steps go
    past such a time, and the parameters there are interpolated (cubic Hermite). So
    neither records nor segments change any bit. If step sizes shrink to nothing, the
    parameters are NaN from then on.
    """
    control = diffrax.PIDController(rtol=rtol, atol=atol, pcoeff=0.4, icoeff=0.3)

    def init(params: Params) -> Reached:
        zero = jnp.zeros((), jnp.result_type(float))
        now = Point(zero, params, velocity(params))
        term = diffrax.ODETerm(lambda t, y, args: velocity(y))
        until, state = control.init(
            term, zero, zero, params, None, None, lambda term, *at: term.vf(*at), ORDER
        )
        # Not the velocity, whose component in some direction may be exactly 0.
        direction = optax.tree.random_like(jax.random.key(0), params, jax.random.normal)
        direction = tree.scale(direction, 1 / optax.tree.norm(direction))
        return Reached(now, now, jnp.asarray(until), state, direction)

    def step(now: Reached) -> Reached:
        last = now.end
        rho, direction = power_step(velocity, last, now.direction)
        rho = SAFETY * rho
        until = jnp.minimum(now.until, last.time + longest_step(rho))
        stages = stages_for(until - last.time, rho)
        new, error = chebyshev_step(velocity, last, until, stages)
        # A trial step that overflows is rejected like one with a large error.
        error = jax.tree.map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), error)
        keep, end, then, _, state, _ = control.adapt_step_size(
            last.time, until, last.y, new.y, None, error, ORDER, now.control
        )
        then = jnp.asarray(then)
        accepted = Reached(last, new, then, state, direction)
        rejected = accepted._replace(start=now.start, end=last)
        chosen = optax.tree.where(jnp.asarray(keep), accepted, rejected)
        shorter = jnp.where(keep, True, then < until)  # else rejected for ever
        stuck = ~((then > end) & jnp.isfinite(then) & shorter)
        lost = Point(
            jnp.full_like(chosen.end.time, jnp.inf),
            jax.tree.map(lambda y: jnp.full_like(y, jnp.nan), chosen.end.y),
            chosen.end.v,
        )
        return chosen._replace(end=optax.tree.where(stuck, lost, chosen.end))

    def advance(
        params: Params, now: Reached, start: Scalar, count: Scalar
    ) -> tuple[Params, Reached]:
        del params  # `now` determines them
        time = jnp.asarray(start + count, now.end.time.dtype)
        now = jax.lax.while_loop(lambda now: now.end.time < time, step, now)
        return parameters_at(now, time), now

    return Dynamics(init, advance)
