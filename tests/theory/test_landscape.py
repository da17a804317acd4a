"""The LU mechanism and the reduced dynamics, against closed forms."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grok_jax import measures
from grok_jax.theory import landscape
from grok_jax.theory.landscape import Surface

NORMS = np.geomspace(0.5, 8, 15)
MESSINESS = np.linspace(0, 1, 9)
TIME = np.linspace(0, 3, 31)


def bowl(norm=2.0, messiness=0.4, a=0.7, b=1.3, low=1e-3):
    """a (w - norm)^2 / 2 + b (m - messiness)^2 / 2 + low, known for w in [0.5, 8]."""

    def value(w, m):
        w, m = np.asarray(w), np.asarray(m)
        return a / 2 * (w - norm) ** 2 + b / 2 * (m - messiness) ** 2 + low

    def slopes(w, m):
        return a * (np.asarray(w) - norm), b * (np.asarray(m) - messiness)

    return Surface(value, slopes, (0.5, 8.0), (0.0, 1.0))


def measured(surface, norms=NORMS, messiness=MESSINESS):
    return surface.value(norms[:, None], messiness[None, :])


# --- decay of the norm ---------------------------------------------------------------


def test_the_norm_decays_as_that_of_adamw_without_a_gradient():
    tx = optax.adamw(1e-3, weight_decay=0.5)
    params = {"w": jnp.array([3.0, 4.0])}
    state, zero = tx.init(params), {"w": jnp.zeros(2)}
    for _ in range(200):
        updates, state = tx.update(zero, state, params)
        params = optax.apply_updates(params, updates)
    expected = landscape.norm_decay(5.0, 0.5, 1e-3, 200)
    np.testing.assert_allclose(jnp.linalg.norm(params["w"]), expected, rtol=1e-4)


def test_the_time_to_goldilocks_is_when_the_decayed_norm_is_there():
    gamma = np.array([0.03, 0.1, 1.0])
    steps = landscape.time_to_goldilocks(21.0, 10.0, gamma, 3e-4)
    np.testing.assert_allclose(landscape.norm_decay(21.0, gamma, 3e-4, steps), 10.0)
    fit = measures.power_law(gamma, steps)
    np.testing.assert_allclose(fit.slope, -1, rtol=1e-5)


def test_a_small_start_is_there_at_once_and_no_decay_never():
    times = landscape.time_to_goldilocks([5.0, 10.0, 20.0], 10.0, 0.0, 1e-3)
    np.testing.assert_array_equal(times, [0, 0, np.inf])


# --- the surface ---------------------------------------------------------------------


def test_the_surface_goes_through_the_points_and_is_smooth_between_them():
    table = measured(bowl())
    surface = landscape.interpolate(NORMS, MESSINESS, table)
    at_points = surface.value(*np.meshgrid(NORMS, MESSINESS, indexing="ij"))
    np.testing.assert_allclose(at_points, table, rtol=1e-9)
    assert surface.norms == (0.5, 8.0) and surface.messiness == (0.0, 1.0)


def test_the_surface_of_a_power_of_the_norm_is_exact_everywhere():
    """log l = 2 - 3 log w + m^2 is cubic: the spline knows it, and its slopes."""

    def law(w, m):
        return np.exp(2 - 3 * np.log(w) + m**2)

    surface = landscape.interpolate(
        NORMS, MESSINESS, law(NORMS[:, None], MESSINESS[None])
    )
    rng = np.random.default_rng(0)
    w, m = np.exp(rng.uniform(np.log(0.5), np.log(8), 20)), rng.random(20)
    np.testing.assert_allclose(surface.value(w, m), law(w, m), rtol=1e-9)
    by_w, by_m = surface.slopes(w, m)
    np.testing.assert_allclose(by_w, -3 * law(w, m) / w, rtol=1e-8)
    np.testing.assert_allclose(by_m, 2 * m * law(w, m), rtol=1e-7, atol=1e-9)


def test_a_loss_below_the_floor_has_no_depth():
    table = np.where(NORMS[:, None] > 2, 0.0, 1e-9) + 0 * MESSINESS
    surface = landscape.interpolate(NORMS, MESSINESS, table, floor=1e-6)
    np.testing.assert_allclose(surface.value(3.3, 0.7), 1e-6)
    np.testing.assert_allclose(surface.slopes(3.3, 0.7), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("norms", "messiness", "change", "sentence"),
    [
        (NORMS[1:], MESSINESS, 1, r"14 norms and 9 .* not \(15, 9\)"),
        (NORMS, MESSINESS[::-1], 1, "norms and messiness must rise"),
        (NORMS - 0.5, MESSINESS, 1, "norms be above 0"),
        (NORMS, MESSINESS, np.nan, "135 losses are not finite"),
    ],
)
def test_a_table_that_is_no_landscape_is_refused(norms, messiness, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        landscape.interpolate(norms, messiness, measured(bowl()) * change)


def test_a_landscape_of_too_few_points_is_refused():
    with pytest.raises(ValueError, match=r"needs 4 x 4 losses, not \(15, 3\)"):
        landscape.interpolate(NORMS, MESSINESS[:3], measured(bowl())[:, :3])


# --- the reduced dynamics ------------------------------------------------------------


def bowl_path(w0, m0, *, gamma, eta_d, eta_r, norm=2.0, messiness=0.4, a=0.7, b=1.3):
    """The closed form: two exponentials, to a norm / (a + gamma) and to messiness."""
    rest = a * norm / (a + gamma)
    w = rest + (w0 - rest) * np.exp(-eta_d * (a + gamma) * TIME)
    return w, messiness + (m0 - messiness) * np.exp(-eta_r * b * TIME)


RATES = dict(gamma=0.3, decoder_rate=0.8, representation_rate=0.5)
CLOSED = dict(gamma=0.3, eta_d=0.8, eta_r=0.5)


@pytest.mark.parametrize(("w0", "m0"), [(6.0, 0.9), (0.6, 0.1)])
def test_the_path_in_a_bowl_is_the_closed_form(w0, m0):
    train, test = bowl(), bowl(norm=1.0, messiness=0.0)
    path = landscape.reduced_path(train, test, w0, m0, TIME, **RATES)
    w, m = bowl_path(w0, m0, **CLOSED)
    np.testing.assert_allclose(path.norm, w, rtol=1e-5)
    np.testing.assert_allclose(path.messiness, m, rtol=1e-5)
    np.testing.assert_allclose(path.train_loss, train.value(w, m), rtol=1e-5)
    np.testing.assert_allclose(path.test_loss, test.value(w, m), rtol=1e-4)


def test_the_path_on_a_measured_bowl_is_nearly_the_closed_form():
    norms, messiness = np.geomspace(0.5, 8, 41), np.linspace(0, 1, 21)
    train = bowl(low=0.1)
    table = landscape.interpolate(norms, messiness, measured(train, norms, messiness))
    path = landscape.reduced_path(table, table, 6.0, 0.9, TIME, **RATES)
    w, m = bowl_path(6.0, 0.9, **CLOSED)
    np.testing.assert_allclose(path.norm, w, rtol=2e-3)
    np.testing.assert_allclose(path.messiness, m, rtol=2e-3)


def test_in_the_flat_valley_the_norm_alone_decays():
    flat = landscape.interpolate(NORMS, MESSINESS, np.full((15, 9), 1e-12))
    path = landscape.reduced_path(
        flat, flat, 7.0, 0.8, TIME, gamma=0.5, decoder_rate=0.6
    )
    np.testing.assert_allclose(
        path.norm, landscape.norm_decay(7.0, 0.5, 0.6, TIME), rtol=1e-6
    )
    np.testing.assert_allclose(path.messiness, 0.8, rtol=1e-6)


def wall(tilt, stiffness=1e4):
    """A steep wall on the small-norm side of log w = tilt m, flat beyond it."""

    def depth(w, m):
        return np.maximum(tilt * np.asarray(m) - np.log(w), 0)

    def slopes(w, m):
        push = stiffness * depth(w, m)
        return -push / np.asarray(w), tilt * push

    return Surface(
        lambda w, m: stiffness / 2 * depth(w, m) ** 2, slopes, (0.5, 8.0), (0.0, 1.0)
    )


@pytest.mark.parametrize("tilt", [0.3, 1.0])
def test_at_the_wall_the_path_drifts_along_the_boundary_to_small_messiness(tilt):
    """Fig. 6f: along log w = k m the loss takes up what would cross it, so that
    dm/dt = -gamma k / (w^-2 + k^2)."""
    gamma, start, end = 0.2, 0.9, 0.3
    k = tilt
    took = np.exp(-2 * k * end) - np.exp(-2 * k * start)
    took = (took / (2 * k) + k**2 * (start - end)) / (gamma * k)
    valley = 0.4 / gamma  # from log w = k m + 0.4 at the speed gamma
    path = landscape.reduced_path(
        wall(k),
        wall(k),
        np.exp(k * start + 0.4),
        start,
        np.array([0, valley, valley + took]),
        gamma=gamma,
    )
    np.testing.assert_allclose(path.messiness, [start, start, end], rtol=2e-3)
    np.testing.assert_allclose(np.log(path.norm[1:]), [k * start, k * end], atol=2e-3)


def test_twice_the_decay_takes_half_the_time_along_valley_and_wall():
    start = np.exp(0.9 + 0.4), 0.9
    slow = landscape.reduced_path(wall(1.0), wall(1.0), *start, TIME, gamma=0.4)
    fast = landscape.reduced_path(wall(1.0), wall(1.0), *start, TIME / 2, gamma=0.8)
    np.testing.assert_allclose(slow.norm, fast.norm, rtol=1e-3)
    np.testing.assert_allclose(slow.messiness, fast.messiness, rtol=1e-3)


def test_at_the_edge_the_path_moves_along_it():
    train = bowl(norm=20.0, messiness=-1.0)
    time = np.linspace(0, 10, 21)
    path = landscape.reduced_path(train, train, 2.0, 0.9, time, gamma=0.0)
    inside = path.messiness > 0
    m = -1 + 1.9 * np.exp(-1.3 * time)
    np.testing.assert_allclose(path.messiness[inside], m[inside], rtol=1e-5)
    assert path.messiness[-1] == 0.0
    np.testing.assert_allclose(path.norm[-1], 8.0)
    away = landscape.reduced_path(train, train, 8.0, 0.0, time, gamma=100.0)
    np.testing.assert_allclose(away.norm[-1], 0.5)  # an edge lets go


def test_what_pushed_against_the_edge_leaves_no_debt():
    """dm/dt = 3 - w: the messiness is 0 from about t = 0.1 until w = 3, then rises."""
    slope = Surface(
        lambda w, m: (np.asarray(w) - 3) * m,
        lambda w, m: (0.0, np.asarray(w) - 3),
        (0.5, 8.0),
        (0.0, 1.0),
    )
    path = landscape.reduced_path(slope, slope, 6.0, 0.3, TIME, gamma=0.5)
    w = 6 * np.exp(-0.5 * TIME)
    turn = np.log(2) / 0.5
    m = 3 * (TIME - turn) + (w - 3) / 0.5
    held, free = (TIME > 0.2) & (turn > TIME), (turn < TIME) & (m < 1)
    np.testing.assert_allclose(path.messiness[held], 0, atol=1e-6)
    np.testing.assert_allclose(path.messiness[free], m[free], atol=1e-5)


def test_a_start_outside_the_landscape_is_refused():
    for w0, m0 in [(9.0, 0.5), (2.0, 1.1)]:
        with pytest.raises(ValueError, match="lies outside the landscape"):
            landscape.reduced_path(bowl(), bowl(), w0, m0, TIME, gamma=0.1)


def test_a_surface_without_values_ends_in_a_sentence():
    broken = bowl()._replace(slopes=lambda w, m: (np.nan, np.nan))
    with pytest.raises(RuntimeError, match="The reduced dynamics failed"):
        landscape.reduced_path(broken, broken, 2.0, 0.5, TIME, gamma=0.1)


# --- the boundary --------------------------------------------------------------------


def power_table(boundary):
    """0.02 (boundary(m) / w)^3: the contour of 0.02 is the boundary itself."""
    return 0.02 * (boundary(MESSINESS)[None] / NORMS[:, None]) ** 3


def test_the_contour_of_a_power_law_is_exact():
    def boundary(m):
        return 1.1 + 2 * m

    found = landscape.contour(NORMS, power_table(boundary), 0.02)
    np.testing.assert_allclose(found, boundary(MESSINESS), rtol=1e-10)


def test_a_contour_outside_the_table_is_nan_and_the_first_crossing_counts():
    table = power_table(lambda m: 2.0 + 0 * m)
    table[:, 0] *= 1e6  # never so low
    table[:, 1] *= 1e-6  # so low from the start
    table[-3:, 2] = 1.0  # too large a norm is hard to train
    table[:, 3] = np.nan
    table[NORMS > 2, 4] = 0.0
    found = landscape.contour(NORMS, table, 0.02)
    np.testing.assert_array_equal(np.isnan(found), [1, 1, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found[[2, 5, 8]], 2.0)
    below = NORMS[NORMS <= 2].max()
    assert below <= found[4] < NORMS[NORMS > 2].min()


def test_the_angle_of_a_straight_boundary_is_that_of_its_tilt():
    for tilt in (0.1, 1.0, 3.0):
        angle = landscape.contour_angle(MESSINESS, 2 * np.exp(tilt * MESSINESS))
        np.testing.assert_allclose(np.tan(angle), 1 / tilt)


def test_a_boundary_that_leads_away_has_an_angle_beyond_a_right_one():
    upright = landscape.contour_angle(MESSINESS, np.full(9, 3.0))
    np.testing.assert_allclose(upright, np.pi / 2)
    assert landscape.contour_angle(MESSINESS, np.exp(-MESSINESS)) > np.pi / 2


def test_the_angle_leaves_missing_points_out():
    boundary = np.exp(0.7 * MESSINESS)
    boundary[[0, 4]] = np.nan
    angle = landscape.contour_angle(MESSINESS, boundary)
    np.testing.assert_allclose(np.tan(angle), 1 / 0.7)
    boundary[1:] = np.nan
    assert np.isnan(landscape.contour_angle(MESSINESS, boundary))


@pytest.mark.parametrize("gamma", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("rate", [0.1, 3.0])
def test_a_path_that_meets_an_edge_at_speed_does_not_stall(gamma, rate):
    """A power law falls without end in both directions: every path ends in a corner."""
    norms, mess = np.geomspace(0.5, 8, 6), np.linspace(0, 1, 6)
    falls = norms[:, None] ** 2 * (0.2 + mess[None]) ** 1.5
    surface = landscape.interpolate(norms, mess, falls)
    path = landscape.reduced_path(
        surface,
        surface,
        7.0,
        0.9,
        np.linspace(0, 200, 50),
        gamma=gamma,
        representation_rate=rate,
    )
    np.testing.assert_allclose(path.norm[-1], 0.5, rtol=1e-5)
    np.testing.assert_allclose(path.messiness[-1], 0.0, atol=1e-5)
