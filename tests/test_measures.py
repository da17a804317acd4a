"""Times, gaps and fits from curves, against hand-made cases, scipy and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from grok_jax import measures

STEPS = [0, 1, 10, 100, 1000]
NAN = float("nan")


def reaching(curve, threshold=0.95, hold=1, steps=STEPS):
    return measures.first_step_reaching(steps, curve, threshold, hold).item()


def test_the_time_is_a_recorded_step_and_a_tie_with_the_threshold_counts():
    assert reaching([0.0, 0.5, 0.95, 0.99, 1.0]) == 10
    assert reaching([0.95, 0.0, 0.0, 0.0, 0.0]) == 0
    assert reaching([0.0, 0.0, 0.0, 0.0, 0.95]) == 1000


def test_a_level_that_is_never_reached_is_nan_and_not_the_last_step():
    assert np.isnan(reaching([0.0, 0.5, 0.9, 0.94, 0.949]))
    assert np.isnan(reaching([NAN] * 5))


def test_nan_neither_reaches_a_level_nor_holds_it():
    assert reaching([0.0, NAN, 0.96, NAN, NAN]) == 10
    assert np.isnan(reaching([0.0, NAN, 0.96, NAN, NAN], hold=2))


def test_hold_wants_the_level_in_so_many_records_in_a_row():
    curve = [0.0, 0.96, 0.2, 0.96, 0.97]
    assert reaching(curve, hold=1) == 1
    assert reaching(curve, hold=2) == 100
    assert np.isnan(reaching(curve, hold=3))


def test_hold_longer_than_the_curve_is_never():
    assert np.isnan(reaching([1.0] * 5, hold=6))
    assert reaching([1.0] * 5, hold=5) == 0


def test_a_falling_curve_is_the_rising_one_upside_down():
    curve = np.array([1.0, 0.4, 0.1, 0.05, 0.05])
    for threshold in (0.4, 0.05, 0.01):
        fell = measures.first_step_falling(STEPS, curve, threshold).item()
        rose = reaching(-curve, -threshold)
        assert fell == rose or (np.isnan(fell) and np.isnan(rose))
    assert measures.first_step_falling(STEPS, curve, 0.05, hold=2).item() == 100


def test_leading_axes_and_a_threshold_for_each_curve_are_kept():
    rng = np.random.default_rng(0)
    curves, levels = rng.random((3, 4, 5)), rng.random((3, 4))
    times = measures.first_step_reaching(STEPS, curves, levels)
    for place in np.ndindex(3, 4):
        np.testing.assert_equal(
            times[place].item(), reaching(curves[place], levels[place])
        )


def test_jit_and_vmap_change_nothing():
    curves = np.random.default_rng(1).random((7, 5))
    times = measures.first_step_reaching(jnp.array(STEPS), curves, 0.8)
    batched = jax.jit(
        jax.vmap(lambda c, t: measures.first_step_reaching(jnp.array(STEPS), c, t))
    )(curves, jnp.full(7, 0.8))
    np.testing.assert_array_equal(times, batched)
    assert np.isnan(times).any() and np.isfinite(times).any()


def test_a_hold_below_one_is_refused():
    with pytest.raises(ValueError, match="hold must be at least 1 record, not 0"):
        reaching([1.0] * 5, hold=0)


def test_a_curve_of_another_length_than_its_steps_is_refused():
    with pytest.raises(ValueError, match="3 records but there are 5 steps"):
        reaching([1.0] * 3)


def test_time_gap_is_test_time_minus_train_time_or_nan_where_either_never_is():
    train = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0.0]])
    test = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1.0]])
    np.testing.assert_array_equal(
        measures.time_gap(STEPS, train, test, 0.95), [99, NAN, NAN]
    )


# --- grokking in loss ----------------------------------------------------------------


def grokking(train, test, **shares):
    return [v.item() for v in measures.grokking_times(STEPS, train, test, **shares)]


def test_a_delay_is_infinite_where_only_the_test_is_missing_and_nan_without_a_fit():
    found = measures.delay([1.0, 5.0, 1.0, NAN, NAN], [10.0, 2.0, NAN, 10.0, NAN])
    np.testing.assert_array_equal(found, [9.0, -3.0, np.inf, NAN, NAN])


def test_train_time_is_a_share_of_the_start_and_test_time_a_share_of_the_peak():
    train, test = [2.0, 1.0, 0.1, 0.01, 0.0], [1.0, 1.5, 3.0, 0.31, 0.3]
    assert grokking(train, test) == [10, 1000]
    assert grokking(train, test, train_share=0.5, test_share=0.5) == [1, 100]


def test_a_low_test_loss_before_the_peak_is_not_generalisation():
    test = [0.01, 0.02, 5.0, 4.0, 3.0]
    assert np.isnan(grokking([1.0] * 5, test)[1])
    assert grokking([1.0] * 5, [0.01, 0.02, 5.0, 4.0, 0.5])[1] == 1000


def test_an_infinite_test_loss_is_no_peak():
    assert grokking([1.0] * 5, [1.0, np.inf, 3.0, 2.0, 0.2])[1] == 1000
    assert np.isnan(grokking([1.0] * 5, [np.inf] * 5)[1])


def test_of_two_equal_peaks_the_first_counts():
    assert grokking([1.0] * 5, [1.0, 0.1, 1.0, 0.5, 0.5])[1] == 1


def test_grokking_times_of_a_run_that_ended_early_come_from_what_it_recorded():
    assert grokking([1.0, 0.5, 0.01, NAN, NAN], [1.0, 2.0, 0.2, NAN, NAN]) == [10, 10]
    ended = grokking([NAN] * 5, [NAN] * 5)
    assert np.isnan(ended).all()


def test_grokking_times_under_jit_and_vmap_are_the_same():
    rng = np.random.default_rng(0)
    train, test = np.sort(rng.random((2, 6, 5)) ** 4, axis=-1)[..., ::-1]
    plain = measures.grokking_times(STEPS, train, test)
    times = jax.jit(
        jax.vmap(lambda a, b: measures.grokking_times(jnp.array(STEPS), a, b))
    )(train, test)
    np.testing.assert_array_equal(plain, times)


# --- fits ----------------------------------------------------------------------------


def test_an_exact_power_law_is_recovered_with_no_margin():
    x = np.geomspace(0.1, 50, 12)
    fit = measures.power_law(x, 3.5 * x**-1.7)
    np.testing.assert_allclose(fit.slope, -1.7, rtol=1e-5)
    np.testing.assert_allclose(fit.prefactor, 3.5, rtol=1e-5)
    assert fit.slope_margin < 1e-5


def test_censored_zero_and_negative_pairs_are_left_out():
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0, -1.0, 0.0, 3.0])
    y = np.array([2.0, 4.0, 8.0, NAN, np.inf, 2.0, 2.0, -3.0])
    fit, kept = measures.power_law(x, y), measures.power_law(x[:3], y[:3])
    np.testing.assert_allclose(fit[:3], kept[:3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit.slope, 1.0, rtol=1e-5)
    assert (fit.censored, kept.censored) == (5, 0)


def test_too_few_pairs_give_nan_and_two_give_no_margin():
    fit = measures.power_law([1.0, 2.0], [1.0, NAN])
    assert np.isnan(fit[:3]).all() and fit.censored == 1
    fit = measures.power_law([1.0, 2.0], [1.0, 4.0])
    np.testing.assert_allclose(fit.slope, 2.0, rtol=1e-5)
    assert np.isnan(fit.slope_margin)


def test_slope_and_margin_are_those_of_ordinary_least_squares():
    rng = np.random.default_rng(3)
    x = np.geomspace(1, 100, 9)
    y = 2 * x**0.5 * np.exp(0.2 * rng.standard_normal(9))
    fit = measures.power_law(x, y)
    line = scipy.stats.linregress(np.log(x), np.log(y))
    np.testing.assert_allclose(fit.slope, line.slope, rtol=1e-4)
    np.testing.assert_allclose(fit.prefactor, np.exp(line.intercept), rtol=1e-4)
    np.testing.assert_allclose(
        fit.slope_margin, scipy.stats.t.ppf(0.975, 7) * line.stderr, rtol=1e-4
    )


@pytest.mark.parametrize("points", [4, 30])
def test_the_margin_covers_the_true_slope_in_95_percent_of_noisy_fits(points):
    count = 4000
    noise = np.random.default_rng(0).standard_normal((count, points))
    x = np.geomspace(1, 1000, points)
    y = 0.5 * x**1.25 * np.exp(0.3 * noise)
    fit = jax.jit(jax.vmap(measures.power_law, in_axes=(None, 0)))(x, y)
    covered = np.mean(abs(fit.slope - 1.25) <= fit.slope_margin)
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / count)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(15)
    y = x + rng.standard_normal(15)
    expected = scipy.stats.spearmanr(x, y).statistic
    np.testing.assert_allclose(measures.spearman(x, y), expected, atol=1e-6)


def test_spearman_gives_equal_values_one_rank_as_scipy_does():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 20), rng.integers(0, 3, 20)
    expected = scipy.stats.spearmanr(x, y).statistic
    np.testing.assert_allclose(measures.spearman(x, y), expected, atol=1e-6)


def test_spearman_ranks_censored_times_above_all_whatever_their_order():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    y = np.array([10.0, 30.0, 20.0, NAN, NAN])
    expected = scipy.stats.spearmanr(x, np.where(np.isnan(y), 99.0, y)).statistic
    order = np.array([0, 1, 2, 4, 3])
    for places in (slice(None), order):
        fit = jax.jit(measures.spearman)(x[places], y[places])
        np.testing.assert_allclose(fit, expected, atol=1e-6)


def test_spearman_is_blind_to_monotone_maps_and_odd_in_its_arguments():
    rng = np.random.default_rng(5)
    x, y = rng.random((2, 10)).astype(np.float32)
    rho = measures.spearman(x, y)
    np.testing.assert_allclose(measures.spearman(np.exp(5 * x), y**3), rho, atol=1e-6)
    np.testing.assert_allclose(measures.spearman(-x, y), -rho, atol=1e-6)
    np.testing.assert_allclose(measures.spearman(x, x), 1.0, atol=1e-6)


# --- where a curve stands ------------------------------------------------------------


def test_half_way_is_that_of_the_way_from_the_first_to_the_last_finite_value():
    curves = np.array(
        [
            [0.0, 0.4, 0.5, 0.9, 1.0],
            [5.0, 4.0, 3.1, 3.0, 1.0],
            [0.0, 1.0, 2.0, NAN, NAN],
            [NAN, 1.0, 1.0, 2.0, NAN],
            [2.0, 2.0, 2.0, 2.0, 2.0],
            [NAN] * 5,
        ]
    )
    np.testing.assert_array_equal(
        measures.half_way(STEPS, curves), [10, 100, 1, 100, NAN, NAN]
    )


def test_the_last_recorded_value_is_the_last_finite_one_of_each_run():
    curves = np.array([[1.0, 2.0, NAN, 4.0], [1.0, 2.0, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(measures.last_recorded(curves), [4, 2, NAN])


# --- peaks, spikes, descents ---------------------------------------------------------

loss_spikes = jax.jit(measures.loss_spikes, static_argnames=("factor", "floor"))
descents = jax.jit(measures.descents, static_argnames=("drop", "floor"))


def test_the_peak_is_the_first_of_the_highest_finite_records():
    curves = np.array(
        [[42.0, 60.0, 60.0, 50.0, 33.0], [5.0, 4.0, NAN, 6.0, np.inf], [NAN] * 5]
    )
    peak = measures.peak(STEPS, curves)
    np.testing.assert_array_equal(peak.step, [1, 100, NAN])
    np.testing.assert_array_equal(peak.value, [60, 6, NAN])
    np.testing.assert_array_equal(peak.first, [42, 5, NAN])
    np.testing.assert_array_equal(peak.last, [33, 6, NAN])


def spikes_by_hand(curve, factor, floor):
    count, lowest, above = 0, np.inf, False
    for value in curve:
        if np.isfinite(value):
            value = max(value, floor)
            now = value > factor * lowest
            count += now and not above
            lowest, above = min(lowest, value), now
    return count


def descents_by_hand(curve, drop, floor):
    """By the turning points of the curve: rises below the threshold are taken out."""
    values = [max(v, floor) for v in curve if np.isfinite(v)]
    count, place = 0, 0
    while True:
        top, start = -np.inf, None
        for i in range(place, len(values)):
            top = max(top, values[i])
            if values[i] < (1 - drop) * top:
                start = i
                break
        if start is None:
            return count
        count, low, place = count + 1, np.inf, len(values)
        for i in range(start, len(values)):
            low = min(low, values[i])
            if (1 - drop) * values[i] > low:
                place = i
                break


def ragged_curves():
    rng = np.random.default_rng(0)
    curves = np.exp(np.cumsum(rng.standard_normal((3, 20, 40)), axis=-1))
    curves[rng.random(curves.shape) < 0.1] = NAN
    curves[0, :5, 30:] = NAN
    curves[0, 0] = NAN
    return curves.astype(np.float32)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_spikes_and_descents_are_those_counted_by_hand(floor):
    curves = ragged_curves()
    spikes = loss_spikes(curves, 3.0, floor)
    falls = descents(curves, 0.5, floor)
    for place in np.ndindex(3, 20):
        assert spikes[place] == spikes_by_hand(curves[place], 3.0, floor)
        assert falls[place] == descents_by_hand(curves[place], 0.5, floor)
    assert len(np.unique(spikes)) > 3 and len(np.unique(falls)) > 3


def test_a_spike_is_counted_once_and_a_slow_rise_is_one():
    for curve, count in [
        ([1.0, 0.1, 5.0, 9.0, 7.0, 0.1], 1),
        (np.geomspace(1, 1e6, 6), 1),
        (np.geomspace(1, 1e-6, 6), 0),
        ([1.0, 9.9, 10.0, 1.0, 9.9, 1.0], 0),  # above the factor, not at it
        ([1.0, 10.1, 1.0, 9.9, 0.9, 9.1], 2),
    ]:
        assert loss_spikes(np.asarray(curve)) == count


def test_a_floor_takes_the_spikes_of_rounding_away():
    noise = np.array([1.0, 1e-9, 1e-13, 1e-9, 1e-13, 1e-9])
    assert loss_spikes(noise) == 2
    assert loss_spikes(noise, floor=1e-8) == 0


def test_descents_of_double_descent_and_of_one_with_a_plateau():
    steps = np.linspace(0, 1, 101)
    double = np.exp(-5 * steps) + 0.3 * np.exp(-(((steps - 0.5) / 0.1) ** 2))
    plateau = np.exp(-5 * np.where(abs(steps - 0.5) < 0.1, 0.5, steps))
    for curve, count in [(double, 2), (plateau, 1), (np.exp(steps), 0)]:
        assert descents(curve) == count


def test_counts_under_jit_and_vmap_are_the_same():
    curves = ragged_curves()[0]
    for count in (measures.loss_spikes, measures.descents):
        np.testing.assert_array_equal(jax.jit(jax.vmap(count))(curves), count(curves))


def test_thresholds_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="factor must be above 1, not 1"):
        measures.loss_spikes([1.0], factor=1)
    with pytest.raises(ValueError, match="drop must be between 0 and 1, not 1"):
        measures.descents([1.0], drop=1)


# --- L and U -------------------------------------------------------------------------

NORMS = np.geomspace(0.1, 10, 11)
# Compiled whole and always for 11 points: one by one, their operations take seconds.
goldilocks = jax.jit(measures.goldilocks)
lu_mismatch = jax.jit(measures.lu_mismatch)


def u_shape(norm, loss=1e-4, bend=1.5):
    """A parabola of log loss over log norm with its bottom at (norm, loss)."""
    return loss * np.exp(bend * np.log(NORMS / norm) ** 2)


def test_the_bottom_of_a_parabola_is_found_between_the_points():
    for norm in (0.17, 0.5, 1.0, 1.234, 5.9):
        best = goldilocks(NORMS, u_shape(norm))
        np.testing.assert_allclose(best.norm, norm, rtol=1e-4)
        np.testing.assert_allclose(best.loss, 1e-4, rtol=1e-4)


def test_the_order_of_the_norms_and_missing_points_do_not_matter():
    order = np.random.default_rng(0).permutation(11)
    for norm, gone in [(0.8, {3: NAN, 9: -1.0}), (1.7, {0: np.inf, 5: NAN, 10: 0.0})]:
        losses = u_shape(norm)
        losses[list(gone)] = list(gone.values())
        best = goldilocks(NORMS[order], losses[order])
        np.testing.assert_allclose(best.norm, norm, rtol=1e-4)


def test_a_minimum_at_the_edge_has_no_norm():
    left, right = (np.where(arm, u_shape(1.0), NAN) for arm in (NORMS < 1, NORMS > 1))
    for losses in (NORMS, 1 / NORMS, left, right, 0 * NORMS, NAN * NORMS):
        best = goldilocks(NORMS, losses)
        assert np.isnan(best.norm)
        seen = losses[losses > 0]
        least = seen.min() if len(seen) else NAN
        np.testing.assert_allclose(best.loss, least, rtol=1e-5)


def test_the_bottom_of_a_flat_stretch_lies_on_it():
    losses = np.where(abs(np.log(NORMS)) < 1, 1.0, 2.0)
    best = goldilocks(NORMS, losses)
    assert np.exp(-1) < best.norm < np.exp(1)
    np.testing.assert_allclose(best.loss, 1.0, rtol=0.1)
    level = goldilocks(NORMS, np.full(11, 3.0))
    assert np.isnan(level.norm)  # the first of equals is at the edge


def test_the_mismatch_of_an_l_and_a_u_is_the_mean_rise_of_the_u():
    train, test = np.where(NORMS < 1, 1.0, 1e-9), u_shape(1.0)
    rise = np.log10(test[NORMS > 1.001] / test.min())
    mismatch = lu_mismatch(NORMS, train, test)
    np.testing.assert_allclose(mismatch, rise.mean(), rtol=1e-4)
    deeper = lu_mismatch(NORMS, train * 1e-4, test)
    np.testing.assert_allclose(deeper, mismatch, rtol=1e-5)


def test_train_and_test_that_rise_together_have_no_mismatch():
    test = u_shape(1.0)
    lone = lu_mismatch(NORMS, np.full(11, 1e-3), test)
    for train, share in [(test / 30, 0), (test**0.5, 0.5)]:
        mismatch = lu_mismatch(NORMS, train, test)
        np.testing.assert_allclose(mismatch, share * lone, rtol=1e-4, atol=1e-5)


def test_a_test_loss_of_zero_counts_as_the_floor():
    test = np.where(NORMS < 1.1, 0.0, 1.0)
    mismatch = lu_mismatch(NORMS, 0 * test, test, floor=1e-3)
    beyond = test[1:]  # of equal losses the first is the least
    np.testing.assert_allclose(mismatch, 3 * beyond.mean(), rtol=1e-5)


def test_missing_points_leave_the_mismatch_to_the_others():
    train, test = np.full(11, 1e-9), u_shape(1.0)
    gone = np.arange(11) == 8
    mismatch = lu_mismatch(NORMS, np.where(gone, NAN, train), test)
    np.testing.assert_allclose(
        mismatch, lu_mismatch(NORMS[~gone], train[~gone], test[~gone])
    )
    assert np.isnan(lu_mismatch(NORMS, train, 1 / NORMS))
    assert np.isnan(lu_mismatch(NORMS, train, NAN * NORMS))


def test_the_measures_of_the_u_under_jit_and_vmap_are_the_same():
    test = np.stack([u_shape(v, bend=b) for v, b in [(0.5, 1), (1.3, 2), (20.0, 1)]])
    train = np.minimum(test, 0.01)
    batched = jax.jit(jax.vmap(measures.goldilocks, in_axes=(None, 0)))(NORMS, test)
    np.testing.assert_allclose(measures.goldilocks(NORMS, test), batched, rtol=1e-6)
    batched = jax.jit(jax.vmap(measures.lu_mismatch, in_axes=(None, 0, 0)))(
        NORMS, train, test
    )
    np.testing.assert_allclose(lu_mismatch(NORMS, train, test), batched, rtol=1e-6)
