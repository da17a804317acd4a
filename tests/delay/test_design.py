"""The drawn settings, and the pages made of them."""

import numpy as np
import pytest
import xarray as xr

from grok_jax.delay import contest
from grok_jax.delay.design import Choice, Linear, Log, draw

AXES = {
    "a": Log(0.01, 100, zeros=0.125),
    "b": Linear(2, 4),
    "c": Choice(("x", "y")),
}


def test_the_points_fill_the_box_evenly():
    drawn = draw(AXES, 256, shift=3)
    a, b = (np.array(drawn[name]) for name in ("a", "b"))
    assert np.mean(a == 0) == pytest.approx(0.125, abs=0.005)
    assert a[a > 0].min() >= 0.01 and a.max() <= 100
    for value in np.linspace(2, 4, 9):
        assert np.mean(b < value) == pytest.approx((value - 2) / 2, abs=0.01)
    assert drawn["c"].count("x") == 128
    middle = a[a > 0] > 1
    assert np.mean(middle) == pytest.approx(0.5, abs=0.02)


def test_the_points_do_not_depend_on_a_library():
    """The first points of the sequence are 0, 1/2, 3/4 and 1/4 in each setting."""
    places = np.random.default_rng(5).random(2)
    drawn = draw({"a": Linear(0, 1), "b": Linear(0, 1)}, 4, shift=5)
    first = [(0, 0), (0.5, 0.5), (0.75, 0.25), (0.25, 0.75)]
    expected = (np.array(first) + places) % 1
    np.testing.assert_allclose(np.transpose([*drawn.values()]), expected, rtol=1e-3)


def test_a_number_of_runs_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="runs is 12; it must be a power of 2"):
        draw(AXES, 12, shift=0)


def test_momentum_gets_a_rate_that_it_is_stable_at_and_keeps_its_shrinking():
    drawn = {
        "model.output_scale": (0.5, 4.0, 4.0),
        "optimizer.method": ("momentum", "momentum", "adamw"),
        "optimizer.learning_rate": (0.01, 0.016, 0.01),
        "optimizer.weight_decay": (1.0, 1.0, 1.0),
    }
    changed = contest._stable(drawn)
    assert changed["optimizer.learning_rate"] == (0.1, 0.01, 0.01)
    for before, after in zip(*map(_shrinking, (drawn, changed)), strict=True):
        assert after == pytest.approx(before, rel=1e-3)


def _shrinking(drawn):
    rates, decays = drawn["optimizer.learning_rate"], drawn["optimizer.weight_decay"]
    return [rate * decay for rate, decay in zip(rates, decays, strict=True)]


def ended(t_train, t_test):
    return xr.Dataset({"t_train": ("seed", t_train), "t_test": ("seed", t_test)})


def test_each_run_ends_in_one_way():
    nan = np.nan
    results = ended([10.0, 10, 10, nan, 0], [5.0, 30, nan, nan, 1])
    ends = contest.ends(results)
    assert {name: of.values.tolist() for name, of in ends.items()} == {
        "no delay": [True, False, False, False, True],
        "delay": [False, True, False, False, False],
        "never generalised": [False, False, True, False, False],
        "never fitted": [False, False, False, True, False],
    }


@pytest.mark.parametrize(
    ("t_test", "holds"),
    [([15.0, 30, np.nan, np.nan], True), ([30.0, 30, 30, np.nan], False)],
)
def test_the_claim_wants_some_of_each(t_test, holds):
    results = ended([10.0, 10, 10, np.nan], t_test)
    (claim,) = contest.claims(results, "D1")
    assert claim.holds == holds
