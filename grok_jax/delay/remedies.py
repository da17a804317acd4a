"""What each remedy of the delay is worth, with the same budget of random trials.

    get_config = remedies.presets_of(base)

A remedy gets 32 trials, each with settings of its own drawn at random, the learning
rate among them, and a seed of its own. Its price is all the work of its trials, that of
weak networks included, for each trial that generalises: trials that fail are paid for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from grok_jax.claims import OURS, Claim
from grok_jax.delay import contest, table, tasks, theories
from grok_jax.delay.design import Axis, Choice, Log, draw
from grok_jax.delay.evidence import evidence
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.pages import Check, late, operations, sheet, shown, tested

TRIALS, FIRST_SEED, SHIFT = 32, 20_000, 30
RESAMPLES = 2000
PLAIN = "none"
"""The arm without a remedy."""
OWN: dict[str, Axis] = {
    "optimizer.learning_rate": Log(1e-3, 2e-2),
    "optimizer.times": Log(1, 100),
    "optimizer.radius": Log(0.1, 1),
    "wrap.scaled.factor": Log(0.01, 1),
    "gradient.grokfast_ema.decay": Choice((0.8, 0.9, 0.95, 0.98)),
    "gradient.grokfast_ema.strength": Log(0.5, 5),
    "transfer.optimizer.learning_rate": Log(3e-3, 3e-2),
    "transfer.optimizer.weight_decay": Log(0.03, 3),
}
"""What is drawn: the learning rate of every arm, and each remedy's own settings."""


def arms_of(weak: Mapping[str, Any], logits: bool) -> dict[str, Any]:
    """The remedies as arms.

    Args:
      weak: how the weak network is made and moved (`grok_transfer.Transfer`).
      logits: whether the task has a softmax, for StableMax.
    """
    no_decay = dict(optimizer=dict(weight_decay=0.0))
    return {
        PLAIN: {},
        "larger decay": dict(optimizer=dict(name=tasks.more_decay)),
        "fixed norm": dict(optimizer=dict(name=tasks.on_sphere, weight_decay=None)),
        "small output scale": dict(wrap=dict(scaled=dict(name=tasks.scaled))),
        "GrokFast": dict(gradient=dict(grokfast_ema={})),
        "orthogonal gradient": dict(gradient=dict(orthogonal={}), **no_decay),
        **({"StableMax": dict(loss=dict(error="stablemax"))} if logits else {}),
        "GrokTransfer": dict(transfer=weak),
    }


def presets_of(
    base: Mapping[str, Any],
    *,
    weak: Mapping[str, Any],
    logits: bool = False,
    smoke: Mapping[str, Any],
) -> Callable[..., ConfigDict]:
    """A page's `get_config`."""
    looked = dict(name=evidence, leaf=weak["into"], every=100)  # at step 0 alone

    def drawn(trials: int) -> dict[str, Any]:
        values = draw(OWN, trials, shift=SHIFT)
        seeds = tuple(range(FIRST_SEED, FIRST_SEED + trials))
        return dict(sweep={"seed": seeds, **values}, zip="+".join(["seed", *values]))

    def get_config(preset: str = "cpu") -> ConfigDict:
        layers = dict(
            smoke={**smoke, **drawn(2)},
            cpu=drawn(TRIALS),
            paper=drawn(4 * TRIALS),
        )
        arms = dict(arms=arms_of(weak, logits), observe=dict(evidence=looked))
        return make_config(base, arms, choose_preset(preset, **layers))

    return get_config


def work(results: xr.Dataset) -> xr.DataArray:
    """FLOPs of each trial until it generalised, or of all its steps."""
    end = results.t_test.fillna(float(results.step[-1]))
    return operations(results, end)


def price(results: xr.Dataset) -> xr.DataArray:
    """FLOPs for each trial that generalises, [arm]; infinite if none does."""
    found = work(results).sum("seed") / results.t_test.notnull().sum("seed")
    return found.where(np.isfinite(found), np.inf)


def ratios(results: xr.Dataset) -> xr.DataArray:
    """The price over that without a remedy, [arm, resample]: of draws of the trials
    with replacement, the same for all arms."""
    rng = np.random.default_rng(0)
    trials = results.sizes["seed"]
    counts = rng.multinomial(trials, np.full(trials, 1 / trials), size=RESAMPLES)
    spent = work(results).transpose("arm", "seed").values @ counts.T
    came = results.t_test.notnull().transpose("arm", "seed").values @ counts.T
    prices = np.where(came > 0, spent / np.maximum(came, 1), np.inf)
    prices = xr.DataArray(prices, {"arm": results.arm.values}, ("arm", "resample"))
    return late(prices / prices.sel(arm=PLAIN))


def claims(results: xr.Dataset, number: str) -> list[Claim]:
    """That each remedy is worth its price."""
    paid, drawn = price(results), ratios(results)
    least = work(results).where(results.t_test.notnull()).min("seed")
    made = []
    for place, arm in enumerate(name for name in paid.arm.values if name != PLAIN):
        low, middle, high = _interval(drawn.sel(arm=arm)).values
        said = {"price over none": f"{middle:.3g} ({low:.3g} to {high:.3g})"}
        check = Check("95% interval of the price over none < 1", "", said, 1, high < 1)
        made.append(
            tested(
                f"{number}{'abcdefgh'[place]}",
                OURS,
                f"{arm}: with all its trials paid for, a run that generalises costs "
                "less work than without",
                check,
                shown("price", paid.sel(arm=[PLAIN, arm])),
                shown("best trial", least.sel(arm=[PLAIN, arm])),
                shown("generalised", float(_came(results).sel(arm=arm))),
            )
        )
    return made


def _interval(drawn: xr.DataArray) -> xr.DataArray:
    """The ends of the 95% interval and the median; they may be infinite."""
    return drawn.quantile([0.025, 0.5, 0.975], "resample", method="nearest")


def _came(results: xr.Dataset) -> xr.DataArray:
    return results.t_test.notnull().mean("seed")


# --- where a remedy helps -------------------------------------------------------------


def trials(results: xr.Dataset, task: str, landscape: xr.Dataset | None) -> xr.Dataset:
    """The table's rows [run] of the runs without a remedy (`table.rows`), and of each
    remedy [run, arm] with the same seed and learning rate `gain`, log10 of t_test
    without over t_test with it; a run that never generalises counts as if it did at
    the last step."""
    made = table.rows(results.sel(arm=PLAIN), task, landscape)
    times = contest.log10(contest.ended(results))
    gain = times.sel(arm=PLAIN) - times.drop_sel(arm=PLAIN)
    found = gain.transpose("seed", "arm").values
    return made.assign(gain=(("run", "arm"), found)).assign_coords(
        arm=gain.arm.values.astype(str)
    )


def foretold(made: xr.Dataset) -> dict[str, dict[str, tuple[float, float, float]]]:
    """arm -> theory -> the rank correlation of its number at step 0 with the gain, and
    its 95% interval by draws with replacement.

    Both are ranked within each task. What is drawn are seeds, since the trials of one
    have the same settings on all tasks. Trials without a number, or that never fitted
    without the remedy, are left out. What foretells a long delay correlates with the
    gain of whatever ends it.
    """
    made = theories.that_fitted(made)
    trial = made.task.values, made.seed.values
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for arm in made.arm.values:
        gain = made.gain.sel(arm=arm).values
        found[str(arm)] = {
            name: _correlation(*trial, theories.number(made, name, "start"), gain)
            for name in theories.NUMBER
        }
    return found


def _correlation(
    task: np.ndarray, seed: np.ndarray, number: np.ndarray, gain: np.ndarray
) -> tuple[float, float, float]:
    known = np.isfinite(number) & np.isfinite(gain)
    x, y = (_ranks(task[known], values[known]) for values in (number, gain))
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan
    rows = [np.flatnonzero(seed[known] == each) for each in np.unique(seed[known])]
    rng, resampled = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = np.concatenate(
            [rows[i] for i in rng.integers(len(rows), size=len(rows))]
        )
        if np.ptp(x[drawn]) and np.ptp(y[drawn]):  # otherwise nothing correlates
            resampled.append(np.corrcoef(x[drawn], y[drawn])[0, 1])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(np.corrcoef(x, y)[0, 1]), float(low), float(high)


def _ranks(task: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ranks within each task, from -1/2 to 1/2."""
    ranks = np.empty(len(values))
    for name in np.unique(task):
        inside = task == name
        ranks[inside] = scipy.stats.rankdata(values[inside]) / (inside.sum() + 1) - 0.5
    return ranks


# --- the page -------------------------------------------------------------------------


def figure(results: xr.Dataset) -> Figure:
    """What each trial of a remedy took, and what one that generalises costs."""
    return sheet(
        ("work of each trial", _trials, results), ("their price", _prices, results)
    )


def _trials(axis: Axes, results: xr.Dataset) -> None:
    spent, came = work(results), results.t_test.notnull()
    for place, arm in enumerate(results.arm.values):
        for of, mark in ((came.sel(arm=arm), "o"), (~came.sel(arm=arm), "x")):
            x = spent.sel(arm=arm).values[of.values]
            axis.plot(x, np.full(len(x), place), mark, ms=4, color=f"C{place}")
    axis.set_xscale("log")
    axis.set_yticks(range(results.sizes["arm"]), results.arm.values, fontsize=7)
    axis.set_xlabel("FLOPs (x: did not generalise)")


def _prices(axis: Axes, results: xr.Dataset) -> None:
    found = _interval(ratios(results)).transpose("arm", "quantile").values
    edge = 2 * np.max(found[np.isfinite(found)], initial=1)
    for place, (low, middle, high) in enumerate(found):
        ends = np.minimum([low, high], edge)
        axis.plot(ends, [place, place], "-", color=f"C{place}")
        axis.plot(middle, place, "o", color=f"C{place}")
        if np.isinf(high):
            axis.plot(edge, place, ">", color=f"C{place}")
    axis.axvline(1, color="0.6", lw=0.8)
    axis.set_xscale("log")
    axis.set_yticks(range(results.sizes["arm"]), results.arm.values, fontsize=7)
    axis.set_xlabel("price over none, 95% (>: no end)")
