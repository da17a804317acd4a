"""Judges of the delay: concordance, censoring, calibration, and what is left out."""

import re
import sys

import numpy as np
import pytest
from delay.tables import judged, made_up
from sksurv.metrics import concordance_index_ipcw

from grok_jax.delay import judges, theories

KNOWING = ("kernel", "theories", "together", "anywhere")
"""What has the number that made the made-up times."""


def survival(n=500, seed=0, slope=1.0):
    """(risk, times, seen) of n runs: Weibull times of log hazard slope x risk, and
    another random time at which each is censored."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    times = 10 * (-np.log(rng.uniform(size=n)) * np.exp(-slope * risk)) ** 0.5 + 1
    ends = rng.uniform(2, 40, n)
    return risk, np.minimum(times, ends), times < ends


@pytest.mark.parametrize("limit", [8.0, 20.0])
def test_the_concordance_is_that_of_the_library(limit):
    risk, times, seen = survival()
    known = survival(seed=1)[1:]
    theirs = concordance_index_ipcw(
        judges._survival(*known), judges._survival(times, seen), risk, tau=limit
    )
    ours = judges.pairs(times, seen, risk, known, limit)
    assert ours.concordance() == pytest.approx(theirs[0], abs=1e-12)


def test_a_run_taken_twice_counts_twice():
    risk, times, seen = survival(60)
    found = judges.pairs(times, seen, risk, (times, seen), 20.0)
    twice = np.ones(60)
    twice[:7] = 2
    rows = np.r_[np.arange(60), np.arange(7)]
    doubled = judges.Pairs(
        found.weight[np.ix_(rows, rows)], found.order[np.ix_(rows, rows)]
    )
    assert found.concordance(twice) == pytest.approx(doubled.concordance())


def test_shuffled_times_give_a_concordance_of_one_half():
    risk, times, seen = survival(800)
    order = np.random.default_rng(2).permutation(800)
    found = judges.pairs(times[order], seen[order], risk, (times, seen), 20.0)
    low, high = judges.interval(judges.resampled(found))
    assert low < 0.5 < high
    assert high - low < 0.15


def test_the_interval_holds_the_concordance_of_many_runs():
    risk, times, seen = survival(4000)
    many = judges.pairs(times, seen, risk, (times, seen), 20.0).concordance()
    inside = 0
    for seed in range(20):
        risk, times, seen = survival(200, seed=10 + seed)
        found = judges.pairs(times, seen, risk, (times, seen), 20.0)
        low, high = judges.interval(judges.resampled(found))
        inside += low <= many <= high
    assert inside >= 16


@pytest.mark.parametrize("model", ["Cox", "boosted"])
def test_censored_runs_do_not_pull_the_predicted_times_down(model):
    risk, times, seen = survival(1500)
    x = risk[:, None]
    made = judges.fit(model, x, times, seen)
    new = np.zeros((1, 1))
    middle = made(new).quantile(0.5).item()
    exact = 10 * np.log(2) ** 0.5 + 1  # the median at risk 0
    assert middle == pytest.approx(exact, rel=0.15)
    naive = np.median(times[np.abs(risk) < 0.3])
    assert abs(middle - exact) < abs(naive - exact)


def test_predicted_quantiles_are_calibrated_on_runs_of_the_same_kind():
    risk, times, seen = survival(4000)
    made = judges.fit("Cox", risk[:, None], times, seen)
    risk, times, seen = survival(4000, seed=5)
    shares = judges.below(made(risk[:, None]).chance(times), seen)
    assert shares == pytest.approx(judges.QUANTILES, abs=0.03)


def test_predicted_quantiles_are_calibrated_where_many_runs_have_the_same_time():
    """A share of the runs, another for each, generalise as they fit."""
    rng, n = np.random.default_rng(1), 6000
    at_once = rng.uniform(0, 0.7, n)
    grid = np.exp(np.linspace(0, 5, 400))
    later = 1 - np.exp(-np.linspace(0, 5, 400))
    survival = 1 - (at_once[:, None] + (1 - at_once[:, None]) * later[None])
    found = judges.Prediction(np.zeros(n), grid, survival)
    place = np.argmax(survival <= rng.uniform(size=n)[:, None], axis=1)
    times = grid[place]
    shares = judges.below(found.position(times, np.ones(n, bool)), np.ones(n, bool))
    assert shares == pytest.approx(judges.QUANTILES, abs=0.02)
    naive = judges.below(found.chance(times), np.ones(n, bool))
    assert naive[0] < 0.05


def test_a_quantile_that_no_chance_reaches_is_unknown():
    chance = np.array([0.2, 0.4, 0.7, 0.7])
    seen = np.array([True, True, False, False])
    low, middle, high = judges.below(chance, seen)
    assert (low, middle) == (0, 0.5) and np.isnan(high)


def test_a_run_without_a_number_is_neither_sooner_nor_later():
    times, seen = np.array([1.0, 2.0, 3.0]), np.ones(3, bool)
    found = judges.pairs(times, seen, np.array([3.0, np.nan, 1.0]), (times, seen), 9)
    assert found.order[0].tolist() == [0.5, 0.5, 1.0]
    assert found.order[1].tolist() == [0.5, 0.5, 0.5]


def test_a_prediction_tells_its_quantiles_and_the_chance_at_a_time():
    survival = np.array([[0.9, 0.5, 0.2], [1.0, 0.9, 0.8]])
    one = judges.Prediction(np.zeros(2), np.array([1.0, 10.0, 100.0]), survival)
    assert one.quantile(0.5).tolist() == [10.0, np.inf]
    assert one.chance(np.array([0.5, 50.0])).tolist() == pytest.approx([0, 0.1])
    at = np.array([10.0, 10.0])
    assert one.chance(at, before=True).tolist() == pytest.approx([0.1, 0])
    given = one.quantile(0.5, after=np.array([1.0, 10.0]))  # 0.45 and 0.45 are left
    assert given.tolist() == [100.0, np.inf]


def test_a_missing_number_counts_as_the_middle():
    x = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]])
    scaled = judges.Scaled.of(x)
    assert scaled(np.array([[np.nan, 7.0]])).tolist() == [[0.0, 5.0]]
    assert scaled(x)[:, 1].tolist() == [0, 0, 0]


def test_the_theory_that_made_the_times_wins_and_the_floor_is_one_half():
    found = judged()
    best = {
        (one.theory, one.moment, one.left_out): one.concordance
        for one in found
        if one.model == "Cox"
    }
    for left_out in ("task: a", "task: b"):
        kernel = best["kernel", "fitted", left_out]
        others = [
            value
            for (theory, moment, place), value in best.items()
            if place == left_out and (moment != "fitted" or theory not in KNOWING)
        ]
        assert kernel > 0.9
        assert max(others) < 0.75
    floors = [one for one in found if one.theory == "floor"]
    assert [one.concordance for one in floors] == [0.5] * len(floors)
    numbers = [one for one in found if one.model == "number"]
    assert {one.theory for one in numbers} == set(theories.NUMBER)
    assert all(np.isnan(one.error) for one in numbers)


def test_what_is_left_out_is_a_task_or_a_quarter_of_the_runs():
    table = made_up()
    parts = dict(judges.splits(table))
    assert [name for name in parts if name.startswith("task")] == ["task: a", "task: b"]
    for name, inside in parts.items():
        share = 0.5 if name.startswith("task") else 0.25
        assert np.mean(inside) == pytest.approx(share, abs=0.01), name


def test_a_time_is_far_off_if_it_is_wrong_by_more_than_tenfold():
    times = np.array([1.0, 10, 100, 100])
    predicted = np.array([1.0, 101, 9, np.inf])
    seen = np.array([True, True, True, False])
    found = judges.errors(predicted, times, seen)
    np.testing.assert_allclose(found, [0, 1, np.log10(100 / 9)])  # the longest is 100


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sksurv.ensemble", None)
    said = "A prediction needs scikit-survival: pip install 'grok_jax[delay]'."
    with pytest.raises(ImportError, match=re.escape(said)):
        judges.fit("Cox", np.zeros((3, 1)), np.ones(3), np.ones(3, bool))
