"""Gradient flow with error control, one step of descent as the unit of time.

Late in training the flow is stiff: slow directions still move while fast ones have long
settled, so that an explicit method is limited by stability and not by accuracy. The
stabilised method of Sommeijer, Shampine and Verwer (1998, "RKC: an explicit solver for
parabolic PDEs") spends its stages on stability: 8 evaluations reach 41 / lambda, where
a Dormand-Prince step reaches 3.3 / lambda with 6. Step sizes are diffrax's.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

from grok_jax import tree
from grok_jax.types import Dynamics, Params, Scalar

STAGES = 8
"""Evaluations of the velocity in a step."""
DAMPING = 2 / 13
"""Keeps the stability polynomial below 1 - DAMPING / 3 inside its interval."""


@lru_cache
def chebyshev_table(stages: int) -> np.ndarray:
    """[stages, 4]: mu, nu, mu~ and gamma~ of stages 1 to `stages` (Sommeijer et al.,
    eqs. 2.4-2.6); the first uses mu~ alone."""
    w0 = 1 + DAMPING / stages**2
    unit = np.eye(stages + 1)
    t, dt, ddt = (
        np.array([chebyshev.chebval(w0, chebyshev.chebder(row, m)) for row in unit])
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


class Chebyshev(diffrax.AbstractSolver):
    """The Runge-Kutta-Chebyshev method of second order; state: the velocity at the
    start of the step, which is that at the end of the step before."""

    stages: int = STAGES
    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = (
        diffrax.ThirdOrderHermitePolynomialInterpolation.from_k
    )

    def order(self, terms: Any) -> int:
        return 2

    def error_order(self, terms: Any) -> int:
        return 3

    def init(self, terms: Any, t0: Any, t1: Any, y0: Params, args: Any) -> Params:
        return terms.vf(t0, y0, args)

    def func(self, terms: Any, t0: Any, y0: Params, args: Any) -> Params:
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Params,
        args: Any,
        solver_state: Params,
        made_jump: Any,
    ) -> tuple[Params, Params, dict[str, Any], Params, Any]:
        """(y1, error estimate, dense output, velocity at y1, success)."""
        h, v0 = t1 - t0, solver_state
        table = jnp.asarray(chebyshev_table(self.stages), jnp.result_type(h))

        def stage(carry: tuple[Params, Params], row: Array):
            before, last = carry
            mu, nu, mu_rate, gamma = row
            v = terms.vf(t0, last, args)
            new = jax.tree.map(
                lambda y0, y2, y1, v, v0: (
                    (1 - mu - nu) * y0
                    + mu * y1
                    + nu * y2
                    + h * (mu_rate * v + gamma * v0)
                ),
                *(y0, before, last, v, v0),
            )
            return (last, new), None

        first = jax.tree.map(lambda y, v: y + table[0, 2] * h * v, y0, v0)
        (_, y1), _ = jax.lax.scan(stage, (y0, first), table[1:])
        v1 = terms.vf(t1, y1, args)
        error = jax.tree.map(
            lambda y0, y1, v0, v1: 0.8 * (y0 - y1) + 0.4 * h * (v0 + v1),
            *(y0, y1, v0, v1),
        )
        k = jax.tree.map(lambda v0, v1: jnp.stack([h * v0, h * v1]), v0, v1)
        return y1, error, {"y0": y0, "y1": y1, "k": k}, v1, diffrax.RESULTS.successful


class Reached(NamedTuple):
    """The last step that was accepted, from `start` to `end`, and the next to try."""

    start: Array
    end: Array
    until: Array  # where the next step is to end
    y0: Params
    v0: Params
    y1: Params
    v1: Params
    control: Any


def flow(
    velocity: Callable[[Params], Params], *, rtol: Scalar, atol: Scalar
) -> Dynamics:
    """The dynamics d params / dt = velocity(params).

    The steps are those that accuracy asks for, wherever parameters are wanted: they go
    beyond that time, and the parameters there are read from the step's interpolation
    (cubic Hermite). So neither records nor cuts change a bit. Where step sizes fall to
    nothing the parameters are NaN from there on.
    """
    solver = Chebyshev()
    term = diffrax.ODETerm(lambda t, y, args: velocity(y))
    control = diffrax.PIDController(rtol=rtol, atol=atol, pcoeff=0.4, icoeff=0.3)

    def init(params: Params) -> Reached:
        zero = jnp.zeros((), jnp.result_type(float))
        v = velocity(params)
        until, state = control.init(
            term, zero, zero, params, None, None, solver.func, solver.error_order(term)
        )
        return Reached(zero, zero, jnp.asarray(until), params, v, params, v, state)

    def step(now: Reached) -> Reached:
        y, error, _, v, _ = solver.step(
            term, now.end, now.until, now.y1, None, now.v1, False
        )
        # A trial that left the range of floats is refused like one that is far off.
        error = jax.tree.map(
            lambda leaf: jnp.where(jnp.isnan(leaf), jnp.inf, leaf), error
        )
        keep, end, until, _, state, _ = control.adapt_step_size(
            now.end, now.until, now.y1, y, None, error, 3, now.control
        )
        until = jnp.asarray(until)
        taken = Reached(now.end, now.until, until, now.y1, now.v1, y, v, state)
        refused = now._replace(until=until, control=state)
        new = tree.select(jnp.asarray(keep), taken, refused)
        shorter = jnp.where(keep, True, until < now.until)  # else refused for ever
        stuck = ~((until > end) & jnp.isfinite(until) & shorter)
        return new._replace(
            end=jnp.where(stuck, jnp.inf, new.end),
            y1=jax.tree.map(lambda leaf: jnp.where(stuck, jnp.nan, leaf), new.y1),
        )

    def at(now: Reached, time: Array) -> Params:
        h = now.end - now.start
        course = diffrax.ThirdOrderHermitePolynomialInterpolation(
            t0=now.start,
            t1=now.end,
            y0=now.y0,
            y1=now.y1,
            k0=tree.scale(now.v0, h),
            k1=tree.scale(now.v1, h),
        )
        return tree.select(time > now.start, course.evaluate(time), now.y0)

    def advance(
        params: Params, now: Reached, start: Scalar, count: Scalar
    ) -> tuple[Params, Reached]:
        del params
        time = jnp.asarray(start + count, now.end.dtype)
        now = jax.lax.while_loop(lambda now: now.end < time, step, now)
        return at(now, time), now

    return Dynamics(init, advance)
