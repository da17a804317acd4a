"""The stabilised integration against exact solutions, and that cuts leave no trace."""

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


def one_step(rate, h, stages, y=1.0):
    """y' = -rate y after one step from y."""
    y = jnp.full(1, y)
    start = flow.Point(jnp.zeros(()), y, -rate * y)
    new, error = flow.chebyshev_step(
        lambda y: -rate * y, start, jnp.asarray(h), jnp.asarray(stages)
    )
    return new.y[0], error[0], new.v[0]


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


@pytest.mark.parametrize("stages", [2, 5, 20, flow.MOST_STAGES])
def test_a_step_is_stable_over_two_thirds_of_the_stages_squared(float64, stages):
    """As far as `stages_for` trusts it, and not much farther."""
    edge = flow.REACH * (stages**2 - 1)
    h = jnp.linspace(0.0, edge, 400)
    factors = jax.vmap(lambda h: one_step(1.0, h, stages)[0])(h)
    assert jnp.all(abs(factors[1:]) < 1)
    assert abs(one_step(1.0, 1.2 * edge, stages)[0]) > 1


@pytest.mark.parametrize("rate", [1e-3, 1.0, 50.0])
def test_a_step_has_the_stages_that_its_stability_needs(rate):
    for h in (0.1, 3.0, 47.0, 1e3):
        stages = int(flow.stages_for(h, rate))
        reach = [flow.REACH * (s**2 - 1) for s in (stages - 1, stages)]
        assert stages == 2 or h * rate > reach[0]
        assert stages == flow.MOST_STAGES or h * rate <= reach[1]


def test_the_spectral_radius_is_that_of_the_jacobian(float64):
    """y' = -S y + y^2 / 2 at y, by a power iteration from any direction."""
    draw = np.random.default_rng(0)
    root, y = draw.normal(size=(6, 6)), draw.normal(size=6)
    matrix = root @ root.T

    def velocity(y):
        return -matrix @ y + y**2 / 2

    direction, now = jnp.ones(6) / 6**0.5, flow.Point(0.0, jnp.array(y), velocity(y))
    for _ in range(300):
        rho, direction = flow.power_step(velocity, now, direction)
    exact = np.max(np.abs(np.linalg.eigvalsh(np.diag(y) - matrix)))
    assert rho == pytest.approx(exact, rel=1e-4)


def test_where_nothing_moves_the_power_iteration_keeps_its_direction():
    direction = jnp.array([0.6, 0.8])
    now = flow.Point(0.0, jnp.zeros(2), jnp.zeros(2))
    rho, kept = flow.power_step(jnp.zeros_like, now, direction)
    assert rho == 0
    np.testing.assert_array_equal(kept, direction)


@pytest.mark.parametrize("stages", [2, 5, 20])
def test_a_step_is_of_second_order_and_so_is_its_error_estimate(float64, stages):
    steps = np.array([0.02, 0.01])
    errors = [one_step(1.0, h, stages)[0] - np.exp(-h) for h in steps]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.05)
    estimates = [one_step(1.0, h, stages)[1] for h in steps]
    assert np.log2(estimates[0] / estimates[1]) == pytest.approx(3, abs=0.05)


def test_a_step_ends_with_the_velocity_that_the_next_begins_with():
    y1, _, slope = one_step(0.7, 0.5, 4)
    np.testing.assert_allclose(slope, -0.7 * y1, rtol=1e-6)


def test_the_error_along_a_logistic_curve_falls_with_the_tolerance(float64):
    """A method of second order: as the tolerance to the power 2 / 3. What a step may
    get wrong, at most twice the tolerance, grows 25-fold up to the middle."""
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
    assert errors[0] < 25 * 2e-4
    assert np.all(errors[:-1] / errors[1:] > 8)


def test_a_stiff_direction_costs_the_root_of_what_an_explicit_step_needs():
    """Rates 1 and 1e-4 over 30,000 steps: 30,000 / 3.3 steps of 6 evaluations by
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
    assert len(taken) < 2_000


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
