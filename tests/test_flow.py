"""The stabilised integration against exact solutions, and that cuts leave no trace."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import flow
from grok_jax.types import Dynamics


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def one_step(rate, h, y=1.0, stages=flow.STAGES):
    """y' = -rate y after one step from y."""
    solver = flow.Chebyshev(stages=stages)
    term = diffrax.ODETerm(lambda t, y, args: -rate * y)
    start = (term, 0.0, h, jnp.asarray(y), None)
    y1, error, _, slope, _ = solver.step(*start, solver.init(*start), False)
    return y1, error, slope


def course(dynamics: Dynamics, params, times):
    """The parameters at these steps, advanced from one to the next."""

    @jax.jit
    def advance(params, carried, at, count):
        return dynamics.advance(params, carried, at, count)

    carried, out, at = jax.jit(dynamics.init)(params), [], 0
    for time in times:
        params, carried = advance(params, carried, at, time - at)
        out.append(params)
        at = time
    return out


@pytest.mark.parametrize("stages", [2, 5, 8, 20])
def test_a_step_is_stable_over_two_thirds_of_the_stages_squared(float64, stages):
    """|y1 / y0| <= 1 - DAMPING / 3 beyond the first oscillation, and more than 1 well
    outside."""
    edge = 2 / 3 * (stages**2 - 1) * (1 - 2 / 15 * flow.DAMPING)
    h = jnp.linspace(0.0, 0.97 * edge, 400)
    factors = jax.vmap(lambda h: one_step(1.0, h, stages=stages)[0])(h)
    assert jnp.all(abs(factors[1:]) < 1)
    assert abs(one_step(1.0, 1.2 * edge, stages=stages)[0]) > 1


@pytest.mark.parametrize("stages", [2, 5, 8])
def test_a_step_is_of_second_order_and_so_is_its_error_estimate(float64, stages):
    steps = np.array([0.02, 0.01])
    errors = [one_step(1.0, h, stages=stages)[0] - np.exp(-h) for h in steps]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.05)
    estimates = [one_step(1.0, h, stages=stages)[1] for h in steps]
    assert np.log2(estimates[0] / estimates[1]) == pytest.approx(3, abs=0.05)


def test_a_step_ends_with_the_velocity_that_the_next_begins_with():
    y1, _, slope = one_step(0.7, 0.5)
    np.testing.assert_allclose(slope, -0.7 * y1, rtol=1e-6)


def test_the_error_along_a_logistic_curve_falls_with_the_tolerance(float64):
    """A method of second order: as the tolerance to the power 2 / 3."""
    times = np.unique(np.geomspace(1, 2000, 60).astype(int))
    exact = 1 / (1 + 99 * np.exp(-0.02 * times))

    def largest(tolerance):
        dynamics = flow.flow(
            lambda y: 0.02 * y * (1 - y), rtol=tolerance, atol=tolerance
        )
        y = np.array(course(dynamics, jnp.asarray(0.01), times))
        return np.max(abs(y - exact))

    errors = np.array([largest(tolerance) for tolerance in (1e-4, 1e-6, 1e-8)])
    print(f"largest errors: {errors}")
    assert errors[0] < 1e-3
    assert np.all(errors[:-1] / errors[1:] > 8)


def test_a_stiff_direction_costs_the_root_of_what_an_explicit_step_needs():
    """Rates 1 and 1e-4 over 30,000 steps: beyond 60,000 / 3.3 evaluations by
    Dormand-Prince."""
    rates, taken = jnp.array([1.0, 1e-4]), []

    def velocity(y):
        jax.debug.callback(lambda: taken.append(1))
        return -rates * y

    dynamics = flow.flow(velocity, rtol=1e-3, atol=1e-5)
    (y,) = course(dynamics, jnp.ones(2), [30_000])
    jax.effects_barrier()
    print(f"{len(taken)} evaluations")
    np.testing.assert_allclose(y, [0, np.exp(-3)], atol=1e-3)
    assert len(taken) < 12_000


def test_cut_anywhere_the_parameters_have_the_same_bits():
    def spiral(y):
        return jnp.array([[-0.01, 0.1], [-0.1, -0.01]]) @ y

    dynamics = flow.flow(spiral, rtol=1e-3, atol=1e-4)
    wanted = [0, 1, 2, 40, 41, 300, 999]
    whole = course(dynamics, jnp.array([1.0, 0.3]), wanted)
    draw = np.random.default_rng(0)
    for _ in range(3):
        others = draw.choice(1000, 40, replace=False).tolist()
        times = sorted({*wanted, *others})
        found = course(dynamics, jnp.array([1.0, 0.3]), times)
        cut = dict(zip(times, found, strict=True))
        for time, expected in zip(wanted, whole, strict=True):
            np.testing.assert_array_equal(cut[time], expected)


def test_runs_side_by_side_are_the_runs_alone():
    """Each has steps of its own."""
    rates = jnp.array([1e-3, 0.05, 2.0])

    def run(rate):
        dynamics = flow.flow(lambda y: -rate * y**3, rtol=1e-4, atol=1e-6)
        return dynamics.advance(*(y := jnp.asarray(2.0), dynamics.init(y)), 0, 500)[0]

    together = jax.jit(jax.vmap(run))(rates)
    alone = jnp.stack([jax.jit(run)(rate) for rate in rates])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(alone, 1 / jnp.sqrt(0.25 + 1000 * rates), rtol=2e-3)


@pytest.mark.parametrize("start", [1.0, np.nan])
def test_what_leaves_every_bound_is_nan_from_there_on(start):
    """y' = y^2 is infinite at 1 / y(0)."""
    dynamics = flow.flow(lambda y: 0.01 * y**2, rtol=1e-3, atol=1e-4)
    before, after, later = course(dynamics, jnp.asarray(start), [50, 150, 1000])
    assert np.isnan(after) and np.isnan(later)
    if np.isfinite(start):
        assert before == pytest.approx(2, rel=1e-2)
