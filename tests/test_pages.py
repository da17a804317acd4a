"""Helpers of pages on results made by hand: each check passes, fails and refuses."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from grok_jax import measures, pages, plot
from grok_jax.settings import SettingError

NAN, INF = float("nan"), float("inf")
STEPS = [0, 1, 10, 100]
ARMS = ["scratch", "GrokTransfer"]


def runs(values, **coordinates):
    """Values with the axes that are named, or that of the seeds."""
    coordinates = coordinates or {"seed": np.arange(len(values))}
    return xr.DataArray(np.asarray(values, float), coordinates, tuple(coordinates))


def curves(values):
    return runs(values, seed=np.arange(len(values)), step=STEPS)


def claim(*checks):
    return pages.tested("K1a", "1b", "it rises", *checks)


def listed(measured):
    return {label: np.asarray(value).tolist() for label, value in measured.items()}


# Presets


def test_a_preset_is_the_base_with_its_settings_on_top():
    get_config = pages.presets(
        dict(train=dict(steps=5), sweep=dict(seed=(0, 1))),
        smoke=dict(train=dict(steps=2)),
        paper=dict(sweep=dict(seed=(0, 1, 2))),
        long=dict(train=dict(steps=9)),
    )
    assert get_config().train.steps == get_config("cpu").train.steps == 5
    assert (get_config("smoke").train.steps, get_config("long").train.steps) == (2, 9)
    assert get_config("paper").sweep.seed == (0, 1, 2)
    assert get_config("smoke").sweep.seed == (0, 1)


def test_the_cpu_preset_has_settings_where_they_are_given():
    get_config = pages.presets({}, smoke={}, cpu=dict(seed=7), paper={})
    assert (get_config().seed, get_config("smoke").seed) == (7, 0)


def test_an_unknown_preset_names_those_there_are():
    get_config = pages.presets({}, smoke={}, paper={}, descent={})
    with pytest.raises(SettingError, match=r"'tpu'.*smoke, cpu, paper, descent"):
        get_config("tpu")


# Curves


def test_rise_left_change_and_last_end_where_the_run_ends():
    curve = curves([[2, 6, 3, NAN], [4, 1, 5, 1]])
    assert pages.rise(curve).values.tolist() == [3, 1.25]
    assert pages.left(curve).values.tolist() == pytest.approx([0.5, 0.2])
    assert pages.change(curve).values.tolist() == [1.5, 0.25]
    assert pages.last(curve).values.tolist() == [3, 1]
    assert pages.rise(curve.transpose("step", "seed")).dims == ("seed",)


def test_a_curve_without_any_value_has_neither_rise_nor_end():
    curve = curves([[NAN] * 4])
    for measure in (pages.rise, pages.left, pages.change, pages.last):
        assert np.isnan(measure(curve)).all()


def test_a_curve_is_read_at_a_step_of_each_run():
    curve = curves([[2, 6, 3, 1], [4, 1, 5, 1], [7, 7, 7, 7]])
    found = pages.at(curve, runs([10, 0, NAN]))
    np.testing.assert_array_equal(found, [3, 4, NAN])
    assert "step" not in found.coords


def test_shares_are_of_each_runs_own_start():
    results = xr.Dataset({"a": curves([[2, 6, 3, 1], [4, 8, NAN, NAN]])})
    results = results.assign(b=results.a)
    shares = pages.share(results, "a")
    np.testing.assert_array_equal(shares.a, [[1, 3, 1.5, 0.5], [1, 2, NAN, NAN]])
    assert shares.b.identical(results.b)


def test_along_gives_every_array_of_a_measure_the_other_axes():
    curve = curves([[2, 6, 3, 1], [4, 1, 5, 1]]).expand_dims(arm=ARMS, axis=2)
    peak = pages.along("step", measures.peak, curve)
    assert isinstance(peak, measures.Peak)
    assert peak.step.sel(arm="scratch").values.tolist() == [1, 10]
    assert peak.value.sel(arm="GrokTransfer", seed=1) == 5


def test_along_takes_several_curves_options_and_any_axis():
    norms = {"init_scale": [1.0, 2.0, 4.0, 8.0], "train_size": [10]}
    train = runs([[1.0], [0], [0], [0]], **norms)
    test = runs([[1.0], [0.1], [1], [10]], **norms)
    gap = pages.along("init_scale", measures.lu_mismatch, train, test, floor=1e-4)
    assert gap.sel(train_size=10).item() == pytest.approx(1.5)


def test_times_by_the_loss_are_those_of_the_named_test_loss():
    results = xr.Dataset(
        {
            "train_loss": curves([[1, 0.5, 0.01, 0], [1, 1, 1, 1]]),
            "population_risk": curves([[1, 2, 1.5, 0.1], [1, 2, 2, 2]]),
        }
    )
    timed = pages.by_loss(results, "population_risk")
    np.testing.assert_array_equal(timed.t_train, [10, NAN])
    np.testing.assert_array_equal(timed.t_test, [100, NAN])


def test_a_delay_is_infinite_where_a_run_fitted_and_never_generalised():
    results = xr.Dataset(
        {"t_train": runs([3, 3, NAN, 9]), "t_test": runs([9, NAN, NAN, 3])}
    )
    np.testing.assert_array_equal(pages.delay(results), [6, INF, NAN, -6])


def test_a_median_leaves_no_seed_out():
    values = runs([[1, 2, INF], [1, 2, NAN]], arm=ARMS, seed=[0, 1, 2])
    np.testing.assert_array_equal(pages.median(values), [2, NAN])


def test_operations_are_those_of_the_run_and_of_its_weak_networks():
    results = xr.Dataset(
        {
            "flops_per_step": runs([100, 10], arm=ARMS),
            "weak_flops_per_step": runs([NAN, 5], arm=ARMS),
            "weak_steps_taken": runs([[NAN] * 4, [20] * 4], arm=ARMS, step=STEPS),
        }
    )
    found = pages.operations(results, runs([7, 3], arm=ARMS))
    assert found.values.tolist() == [700, 130]


# Claims

TIMES = partial(pages.times, 2, "t_train")


@pytest.mark.parametrize(
    ("values", "relation", "bound", "holds"),
    [
        ([1, 2], "<", 2.1, True),
        ([1, 2], "<", 2, False),
        ([1, 2], "<=", 2, True),
        ([1, 3], "<=", 2, False),
        ([1, 2], ">", 0.9, True),
        ([1, 2], ">", 1, False),
        ([1, 2], ">=", 1, True),
        ([1, 2], ">=", 1.1, False),
        ([1, NAN], "<", 9, False),
        ([1, NAN], "<=", 9, False),
        ([1, NAN], ">", 0, False),
        ([1, NAN], ">=", 0, False),
        ([1, INF], ">", 0, True),
        ([1, INF], "<", INF, False),
        ([1, INF], "<=", INF, False),
        ([6, 9], ">=", TIMES(runs([3, 4])), True),
        ([6, 7], ">=", TIMES(runs([3, 4])), False),
        ([6, 9], ">=", TIMES(runs([3, NAN])), False),
        ([6, NAN], ">=", TIMES(runs([3, 4])), False),
        ([5, 5], "<=", TIMES(runs([3, INF])), True),
        ([5, INF], "<=", TIMES(runs([3, INF])), False),
    ],
    ids=str,
)
def test_every_value_has_to_have_the_relation(values, relation, bound, holds):
    check = pages.every("t_test", runs(values), relation, bound)
    assert check.holds is holds and claim(check).holds is holds


@pytest.mark.parametrize(
    "values", [3, 3.0, [3, 4], np.array([[3.0]]), jnp.ones(2) * 3, runs([3])]
)
def test_values_may_be_a_number_an_array_or_one_with_named_axes(values):
    assert pages.every("x", values, ">", 2).holds
    assert not pages.every("x", values, ">", 3).holds


def test_an_unknown_relation_is_an_error():
    with pytest.raises(KeyError, match="=="):
        pages.every("x", 1, "==", 1)


def test_what_is_expected_is_made_of_the_checks():
    made = claim(
        pages.every("peak / start", runs([1.5, 1.1]), ">", 1.02),
        pages.every("end / peak", runs([0.3, 0.2]), "<", 0.35),
        pages.every("slope", -1.0, "<=", -0.9),
        pages.every("gap", runs([[1]], arm=["a"], seed=[0]), "<", 5e-6),
    )
    assert made.expected == (
        "peak / start > 1.02, end / peak < 0.35, every seed; slope <= -0.9; "
        "gap < 5e-06, every arm and seed"
    )
    assert (made.id, made.place, made.statement) == ("K1a", "1b", "it rises")
    assert made.holds is False


def test_a_claim_holds_if_all_of_its_checks_do():
    good, bad = (pages.every(f"> {b}", 2, ">", b) for b in (1, 3))
    assert claim(good).holds and claim(good, good).holds
    assert not claim(good, bad).holds and not claim(bad, good).holds


def test_a_bound_may_be_another_arms_value_at_the_same_seed():
    gap = runs([[10, 30], [4, 9]], arm=ARMS, seed=[0, 1])
    scratch, moved = (gap.sel(arm=arm) for arm in ARMS)
    made = claim(
        pages.every("GrokTransfer", moved, "<", pages.times(0.5, "scratch", scratch))
    )
    assert made.holds and made.expected == "GrokTransfer < 0.5 x scratch, every seed"
    assert listed(made.measured) == {"GrokTransfer": [4, 9], "scratch": [10, 30]}
    one = pages.every("scratch", scratch, "<", pages.times(1, "GrokTransfer", moved))
    assert not one.holds and one.expected == "scratch < GrokTransfer"


def test_values_of_other_runs_are_no_bound():
    with pytest.raises(ValueError, match="different axes"):
        pages.every("x", runs([1, 2]), "<", pages.times(1, "y", runs([3, 4], arm=ARMS)))
    with pytest.raises(ValueError, match="seed"):
        pages.every("x", runs([1, 2]), "<", pages.times(1, "y", runs([3, 4, 5])))


def test_most_is_a_share_of_the_values_and_nan_counts_against_it():
    for values, holds in (([3, 3, 1], True), ([3, 1, 1], False), ([3, 1, NAN], False)):
        check = pages.most("x", runs(values), ">", 2, share=0.6)
        assert check.holds is holds
    assert claim(check).expected == "x > 2, at least 60% of them"


SCALES = {"output_scale": [0.5, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([1, 2, 3], {"rises", "never falls"}),
        ([1, 2, INF], {"rises", "never falls"}),
        ([3, 2, 1], {"falls", "never rises"}),
        ([1, 1, 2], {"never falls"}),
        ([1, INF, INF], {"never falls"}),
        ([2, 1, 1], {"never rises"}),
        ([1, 3, 2], set()),
        ([1, NAN, 3], set()),
        ([NAN, 2, 1], set()),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_an_order_is_that_of_neighbours_along_the_axis(values, holds):
    values = runs(values, **SCALES)
    for order in ("rises", "falls", "never falls", "never rises"):
        check = pages.ordered("gap", values, "output_scale", order)
        assert claim(check).holds is (order in holds)
        assert check.expected == f"gap {order} with output scale"


def test_an_order_is_that_of_every_seed_wherever_the_axis_stands():
    values = runs([[1, 2, 3], [4, 5, 6]], seed=[0, 1], **SCALES)
    check = pages.ordered("gap", values, "output_scale", "rises")
    assert check.holds and check.of == "every seed"
    assert listed(check.measured)["gap, output scale 0.5"] == [1, 4]
    values[1, 2] = 5
    assert not pages.ordered("gap", values, "output_scale", "rises").holds
    with pytest.raises(SettingError, match="no order 'rise'; nearest: rises"):
        pages.ordered("gap", values, "output_scale", "rise")


def test_the_largest_of_all_is_no_less_than_any():
    values = runs([1, 3, 3], **SCALES)
    for scale, holds in ((1.0, True), (0.5, False)):
        here = values.sel(output_scale=scale)
        assert pages.every("here", here, ">=", pages.times(1, "any", values)).holds is (
            holds
        )


def test_a_power_law_is_a_slope_within_its_margin_and_no_run_missing():
    decays = {"weight_decay": [0.1, 0.2, 0.4], "seed": [0, 1]}
    t = runs([[80, 84], [40, 42], [20, 21]], **decays)

    def law(values, **options):
        options = {"exponent": -1, "within": 0.1, **options}
        return pages.power_law("t_test", values, "weight_decay", **options)

    made = claim(law(t))
    assert made.holds and law(t.transpose("seed", "weight_decay")).holds
    assert "slope of log t_test on log weight decay = -1 +- 0.1" in made.expected
    assert made.measured["slope"] == pytest.approx(-1, abs=1e-5)
    assert not law(t, exponent=-0.5).holds and not law(t, exponent=-1.2).holds
    missing = law(t.where(t < 84))
    assert not missing.holds and missing.measured["missing"] == 1
    assert not law(t * NAN).holds


EMPTY = runs([])


@pytest.mark.parametrize(
    "check",
    [
        pages.every("x", [], ">", 0),
        pages.every("x", EMPTY, "<", 1),
        pages.every("x", EMPTY, "<", pages.times(2, "y", EMPTY)),
        pages.most("x", EMPTY, ">", 0, share=0.5),
        pages.ordered("x", runs([1], output_scale=[1]), "output_scale", "rises"),
        pages.ordered("x", runs([], output_scale=[]), "output_scale", "rises"),
        pages.power_law("x", EMPTY, "seed", exponent=1, within=1),
        pages.shown("x", 1.0),
    ],
)
def test_a_claim_without_a_value_to_judge_is_an_error_that_names_it(check):
    with pytest.raises(ValueError, match="K1a"):
        claim(check)


def test_a_claim_without_checks_is_an_error():
    with pytest.raises(ValueError, match="K1a"):
        claim()


def test_two_things_have_two_labels():
    high, low = (pages.every("x", runs(v), ">", 0) for v in ([1, NAN], [1, 2]))
    with pytest.raises(ValueError, match=r"K1a: 'x'"):
        claim(high, low)
    both = claim(high, pages.every("x", runs([1, NAN]), "<", 3))
    assert both.expected == "x > 0, x < 3, every seed" and set(both.measured) == {"x"}


def test_what_is_only_shown_is_not_judged():
    made = claim(pages.every("x", 1, ">", 0), pages.shown("t_train", runs([NAN, 2])))
    assert made.holds and made.expected == "x > 0"
    np.testing.assert_array_equal(made.measured["t_train"], [NAN, 2])


def test_values_are_shown_by_coordinate_and_many_as_their_range():
    by_arm = runs([[1, 2], [3, 4]], arm=ARMS, seed=[0, 1])
    check = pages.every("gap", by_arm.transpose(), ">", 0)
    assert listed(check.measured) == {
        "gap, scratch": [1, 2],
        "gap, GrokTransfer": [3, 4],
    }
    many = runs(np.arange(1, 30))
    assert pages.every("gap", many, ">", 0).measured == {"gap": {"min": 1, "max": 29}}


def test_what_was_measured_becomes_json():
    made = claim(
        pages.every("gap", runs([[1, NAN]], arm=["a"], seed=[0, 1]), ">", 0),
        pages.every("x", np.float32(0.5), "<", 1),
    )
    stored = made.as_json()
    assert stored["measured"] == {"gap, a": [1, None], "x": 0.5}
    assert stored["holds"] is False


# Figures


def results(**coordinates):
    dims = {**coordinates, "seed": [0, 1], "step": STEPS}
    shape = [len(values) for values in dims.values()]
    first = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    loss = xr.DataArray(np.broadcast_to(first, shape) + 1.0, dims, tuple(dims))
    return xr.Dataset({"train_loss": loss, "test_loss": loss + 1})


def nothing(axis, runs):
    """Draws it."""


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def test_a_grid_has_a_column_for_each_value_and_a_row_for_each_drawer():
    seen = []

    def record(axis, run):
        seen.append(str(run.arm.item()))

    figure = pages.grid(results(arm=ARMS), "arm", "arm {}", plot.losses, record)
    assert titles(figure) == ["arm scratch", "arm GrokTransfer", "", ""]
    assert seen == ARMS
    assert [line.get_ydata()[0] for line in figure.axes[1].lines] == [2, 3]
    rows = {axis.get_subplotspec().rowspan.start for axis in figure.axes[2:]}
    assert rows == {1}


def test_a_title_may_name_the_other_coordinates():
    runs = results(output_scale=[0.5, 1.0]).assign_coords(
        decay=("output_scale", [3, 4]), input_dim=25
    )
    figure = pages.grid(
        runs, "output_scale", "α = {:g}, γ = {decay}, D = {input_dim}", plot.losses
    )
    assert titles(figure) == ["α = 0.5, γ = 3, D = 25", "α = 1, γ = 4, D = 25"]


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2), (9, 3), (40, 3)])
def test_one_drawers_panels_go_on_in_the_next_row_and_are_twelve_at_most(count, rows):
    figure = pages.grid(results(width=range(count)), "width", "{}", nothing)
    drawn = titles(figure)
    assert len(drawn) == min(count, 12) == len(set(drawn))
    assert (drawn[0], drawn[-1]) == ("0", str(count - 1))
    places = [axis.get_subplotspec().rowspan.start for axis in figure.axes]
    assert max(places) + 1 == rows


def test_two_drawers_have_twelve_panels_at_most_and_wrap_titled_after_four_values():
    figure = pages.grid(results(width=range(20)), "width", "{}", nothing, nothing)
    assert len(figure.axes) == 12
    assert titles(figure)[:6] == titles(figure)[6:]
    places = [axis.get_subplotspec() for axis in figure.axes]
    assert {place.colspan.start for place in places} == {0, 1, 2, 3}


def test_a_sheet_has_the_panels_it_is_given_and_keeps_a_drawers_own_title():
    def titled(axis, run):
        axis.set_title("its own")

    runs = results(arm=ARMS)
    parts = pages.panels(runs, "arm", "{}", plot.losses)
    figure = pages.sheet(*parts, ("", titled, runs), ("mine", titled, runs))
    assert titles(figure) == [*ARMS, "its own", "mine"]
    sizes = {axis.title.get_fontsize() for axis in figure.axes}
    assert sizes == {plot.STYLE["axes.titlesize"]}
    with pytest.raises(ValueError, match="13"):
        pages.sheet(*[("", titled, runs)] * 13)


def test_a_bound_is_taken_in_the_precision_of_the_values():
    """380 of 400 in float32 is a little less than 0.95 in float64."""
    accuracy = xr.DataArray(np.float32([380 / 400]))
    assert pages.every("accuracy", accuracy, ">=", 0.95).holds
    assert pages.every("accuracy", accuracy, "<=", 0.95).holds
    assert not pages.every("accuracy", accuracy, "<", 0.95).holds


def test_a_median_comes_with_the_interval_that_holds_it():
    """Of ten values the second to the ninth hold the median with 97.9%."""
    values = xr.DataArray(np.arange(10.0)[::-1], dims="seed")
    check = pages.typical("t", values, ">", 4)
    assert check.holds and check.measured == {"t": "median 4.5 (1 to 8 of 10)"}
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        ends = np.sort(rng.standard_normal(10))[[1, 8]]
        inside += ends[0] < 0 < ends[1]
    assert inside / 2000 > 0.96


def test_a_censored_run_is_later_than_any_other():
    times = xr.DataArray([3.0, np.nan, 5.0, np.nan, np.nan], dims="seed")
    assert not pages.typical("t", times, ">", 1).holds  # three of five are unknown
    check = pages.typical("t", pages.late(times), ">", 1e9)
    assert check.holds and check.measured == {"t": "median never (3 to never of 5)"}
    assert not pages.typical("t", pages.late(times), "<", 1e9).holds


def test_a_median_holds_whatever_the_unknown_values_are():
    some, half = [3.0, np.nan, 5.0], [3.0, np.nan]
    for relation, bound, holds in [(">", 2, 1), (">", 3, 0), ("<", 6, 1), ("<", 5, 0)]:
        assert pages.typical("t", some, relation, bound).holds == holds
        assert not pages.typical("t", half, relation, bound).holds
        assert not pages.typical("t", [np.nan], relation, bound).holds

    def text(*values):
        return pages.typical("t", values, ">", 1).measured["t"]

    assert text(*some) == "median 3 to 5 (3 to 5 of 3, 1 unknown)"
    assert text(*half) == text(np.nan, np.inf) == "median unknown (of 2, 1 unknown)"
    ten = [np.nan, *range(9)]  # the second to the ninth, and the unknown may be first
    assert text(*ten) == "median 3.5 to 4.5 (0 to 8 of 10, 1 unknown)"


def test_medians_in_order_are_shown_with_their_intervals():
    gap = [[1.0, 2.0, 3.0], [2.0, 3.0, np.inf], [4.0, 5.0, np.nan]]
    gap = xr.DataArray(gap, {"alpha": [1, 2, 3]}, ("alpha", "seed"))
    check = pages.typically(pages.ordered, "gap", gap[:2], "alpha", "rises")
    known = {"1": "2 (1 to 3 of 3)", "2": "3 (2 to never of 3)"}
    assert check.holds and check.expected == "median gap rises with alpha"
    assert {k[-1]: v.item() for k, v in check.measured.items()} == known
    assert not pages.typically(pages.ordered, "gap", gap, "alpha", "rises").holds
    bound = pages.times(1.5, "that at 1", pages.median(gap[0]))
    check = pages.typically(pages.every, "gap", gap[1], ">=", bound)
    assert check.holds and check.measured["median gap"].item() == known["2"]
    many = gap.isel(alpha=[0] * 13).assign_coords(alpha=range(13))
    check = pages.typically(pages.shown, "gap", many)
    assert check.measured == {"median gap": {"min": 2.0, "max": 2.0}}


def test_slopes_are_those_of_each_run():
    x = np.array([1.0, 2.0, 4.0])
    runs = [3 * x**-1, 5 * x**-2, [np.nan, 1, 4], [np.nan, np.nan, 1]]
    values = xr.DataArray(runs, {"decay": x}, ("seed", "decay"))
    np.testing.assert_allclose(
        pages.slopes(values, "decay"), [-1, -2, 2, np.nan], rtol=1e-6
    )


def test_a_delay_relative_to_another_knows_what_never_came():
    """(own, other, ratio): a ratio bound from above fails where own never came, and
    where there is no other delay to shorten."""
    never = (np.nan, np.inf)
    rows = [
        (5, 50, 0.1),
        *((5, n, 0.0) for n in never),
        *((n, 50, np.inf) for n in never),
    ]
    rows += [(np.nan, np.inf, 1.0), (0, 0, np.inf), (-5, 10, -0.5), (5, -10, np.inf)]
    own, other, expected = map(xr.DataArray, np.array(rows, float).T)
    np.testing.assert_allclose(pages.relative(own, other), expected)
