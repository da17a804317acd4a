"""Interventions: one cause of the delay is moved and the other is held.

    on_spheres(task, weak)     the embedding is moved, the norm is held; and the norm
                               is moved while the embedding is held
    rescaled(task)             the norm is moved, the function is held

each make the `get_config` of a page. Networks are without biases, so that they are
homogeneous of degree `DEGREE` in their parameters: those s times as large, with an
output scale s^-DEGREE, are the same function.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from grok_jax import plot
from grok_jax.claims import OURS, Claim
from grok_jax.delay import contest, tasks
from grok_jax.delay.contest import ended, log10
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.pages import Check, every, most, sheet, shown, slopes, tested
from grok_jax.settings import words

DEGREE = 3
SCALES = (0.5, 1.0, 2.0)
SEEDS = tuple(range(30_000, 30_010))
DRAWN, WEAK, UNTRAINED = "as drawn", "weak network's", "untrained network's"
MOVED, HELD = "rate and decay moved", "rate and decay held"
LOOKED = ("kernel_alignment", "embedding_alignment", "embedding_overlap")
"""What a transferred embedding moves (`delay.evidence`)."""


def on_spheres(
    task: Mapping[str, Any],
    *,
    weak: Mapping[str, Any],
    radii: tuple[float, ...],
    smoke: Mapping[str, Any],
) -> Callable[..., ConfigDict]:
    """A page's `get_config`: spheres of several radii, each with the first layer as
    drawn, with that of a weak network that has generalised, and with that of the same
    network before it was trained, which is of as low a rank; all at the same norm.

    Args:
      task: the page but for its optimiser and arms.
      weak: how the weak network is made (`grok_transfer.Transfer`).
      radii: in units of the initial norm.
    """
    moved = dict(form="table", **weak)
    base = dict(
        optimizer=dict(name=tasks.on_sphere),
        arms={
            DRAWN: {},
            WEAK: dict(transfer=moved),
            UNTRAINED: dict(transfer=dict(moved, source="random")),
        },
        sweep=dict(radius=radii, seed=SEEDS),
    )
    return _presets(task, base, smoke)


def rescaled(
    task: Mapping[str, Any], *, init_scale: float, smoke: Mapping[str, Any]
) -> Callable[..., ConfigDict]:
    """A page's `get_config`: parameters s times as large in networks of the same
    function, with Adam's learning rate and the decay as they are, and moved with s so
    that steps and decay are the same share of the parameters."""
    swept = {
        "model.init_scale": tuple(s * init_scale for s in SCALES),
        "model.output_scale": tuple(s**-DEGREE for s in SCALES),
        "optimizer.scale": SCALES,
    }
    base = dict(
        optimizer=dict(name=tasks.at_scale),
        arms={
            MOVED: dict(optimizer=dict(power=1.0)),
            HELD: dict(optimizer=dict(power=0.0)),
        },
        sweep={**swept, "seed": SEEDS},
        zip=("init_scale+output_scale+scale",),
    )
    return _presets(task, base, smoke)


def _presets(
    task: Mapping[str, Any], base: Mapping[str, Any], smoke: Mapping[str, Any]
) -> Callable[..., ConfigDict]:
    few = dict(sweep=dict(seed=SEEDS[:2]))
    many = dict(sweep=dict(seed=tuple(range(SEEDS[0], SEEDS[0] + 50))))

    def get_config(preset: str = "cpu") -> ConfigDict:
        layer = choose_preset(preset, smoke={**smoke, **few}, cpu={}, paper=many)
        return make_config(task, base, layer)

    return get_config


def ratio(results: xr.Dataset) -> xr.DataArray:
    """t_test / t_train of each run; one that never generalises counts as if it did at
    the last step, and one that never fits is NaN."""
    return contest.ratio(results.assign(t_test=ended(results)))


def moved(label: str, change: xr.DataArray, relation: str, bound: float) -> Check:
    """The check that the 95% interval of the mean of the changes [seed] (Student's t)
    is above (">") or below ("<") the bound. NaN fails.

    >>> check = moved("slope", xr.DataArray([1.0, 1.1, 1.2]), ">", 0.5)
    >>> check.measured, check.holds
    ({'slope': '1.1 (0.852 to 1.35 of 3)'}, True)
    """
    low, _, high = _interval(change)
    holds = low > bound if relation == ">" else high < bound
    expected = f"95% interval of {label} {relation} {bound:g}"
    return Check(expected, "", {label: _said(change)}, change.size, holds)


def _interval(change: xr.DataArray) -> tuple[float, float, float]:
    values = np.asarray(change, float)
    margin = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, len(values) - 1)
    mean = values.mean()
    return float(mean - margin), float(mean), float(mean + margin)


def _said(change: xr.DataArray) -> str:
    low, mean, high = _interval(change)
    return f"{mean:.3g} ({low:.3g} to {high:.3g} of {change.size})"


def claims_on_spheres(results: xr.Dataset, number: str) -> list[Claim]:
    """That the embedding moves the delay where the norm is held, and the norm where the
    embedding is. Beside each, the same of t_test alone."""
    start = results.isel(step=0)
    relative, t_test = ratio(results), ended(results)
    steeper = slopes(relative.sel(arm=DRAWN), "radius")
    weak = start.weak_test_accuracy.sel(arm=WEAK).isel(radius=0)
    looked = [
        shown(f"{words(name)} at step 0", start[name].mean(["radius", "seed"]))
        for name in LOOKED
    ]

    def gained(times: xr.DataArray, over: str) -> xr.DataArray:
        return log10(times.sel(arm=over) / times.sel(arm=WEAK)).mean("radius")

    return [
        tested(
            f"{number}a",
            OURS,
            "at the same norm, a first layer that has learned the task in another "
            "network makes t_test / t_train smaller",
            moved("decades gained", gained(relative, DRAWN), ">", 0),
            shown("of t_test", _said(gained(t_test, DRAWN))),
            shown("test accuracy of the weak network", weak),
            *looked,
        ),
        tested(
            f"{number}b",
            OURS,
            "with the same first layer, t_test / t_train grows with the norm",
            moved("slope on the radius", steeper, ">", 0),
            _came(results, DRAWN, 0.5),
            shown("of t_test", _said(slopes(t_test.sel(arm=DRAWN), "radius"))),
            shown("share that generalises", results.t_test.notnull().mean("seed")),
        ),
        tested(
            f"{number}c",
            OURS,
            "it is what the other network has learned, and not its low rank: also "
            "against that network's first layer before it was trained",
            moved("decades gained", gained(relative, UNTRAINED), ">", 0),
            shown("of t_test", _said(gained(t_test, UNTRAINED))),
        ),
    ]


def claims_rescaled(results: xr.Dataset, number: str) -> list[Claim]:
    """That the norm by itself moves nothing, and that decay sets the time."""
    t_test = ended(results)
    alone, held = log10(t_test.sel(arm=MOVED)), t_test.sel(arm=HELD)
    relative = ratio(results).sel(arm=HELD)
    spread = alone.max("init_scale") - alone.min("init_scale")
    return [
        tested(
            f"{number}a",
            OURS,
            "with function, relative steps and decay held, a run generalises at the "
            "same step whatever its norm",
            every("decades apart", spread, "<=", 0.1),
            _came(results, MOVED),
        ),
        tested(
            f"{number}b",
            OURS,
            "decay sets the time: with rate and decay as they are, the step at which "
            "it generalises grows less than with the root of the scale of the "
            "parameters, of which a step is a smaller share",
            moved("slope of t_test", slopes(held, "init_scale"), "<", 0.5),
            _came(results, HELD),
            shown("slope of t_test / t_train", _said(slopes(relative, "init_scale"))),
            shown("t_test", held.median("seed")),
        ),
    ]


def _came(results: xr.Dataset, arm: str, share: float = 0.9) -> Check:
    """That so many of the runs generalise, for their times to be compared: t_train
    alone would move t_test / t_train of those that never do."""
    label, times = f"t_test, {arm}", results.t_test.sel(arm=arm)
    return most(label, times, "<=", float(results.step[-1]), share=share)


def figure_on_spheres(results: xr.Dataset) -> Figure:
    """The delay over the radius for each first layer, and what it is at step 0."""
    return sheet(
        ("first layer against norm", _delays, results),
        ("the weights at step 0", _starts, results),
    )


def figure_rescaled(results: xr.Dataset) -> Figure:
    """t_test over the scale of the parameters."""
    return sheet(("norm at the same function", _rescaled, results))


def _delays(axis: Axes, results: xr.Dataset) -> None:
    """t_test / t_train of each seed, thin, and in the mean of its logarithms."""
    for place, arm in enumerate(results.arm.values):
        times = ratio(results).sel(arm=arm)
        _lines(axis, times, 10 ** log10(times).mean("seed"), str(arm), f"C{place}")
    axis.set_ylabel("t_test / t_train")


def _lines(
    axis: Axes, times: xr.DataArray, middle: xr.DataArray, label: str, color: str
) -> None:
    """The times of each seed, thin, and their middle, over the axis beside the seeds,
    both logarithmic."""
    (over,) = middle.dims
    x = times[over].values
    thin = times.transpose(over, "seed").values
    axis.plot(x, thin, lw=0.5, alpha=0.4, color=color)
    axis.plot(x, middle, "o-", color=color, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    plot.own_ticks(axis.xaxis, x)
    axis.set_xlabel(words(str(over)))
    axis.legend(fontsize=7)


def _starts(axis: Axes, results: xr.Dataset) -> None:
    """Alignments and overlap at step 0, as shares of 1."""
    start = results.isel(step=0).mean(["radius", "seed"])
    names = [words(name) for name in LOOKED]
    for place, arm in enumerate(results.arm.values):
        y = np.arange(len(LOOKED)) + 0.25 * place
        axis.barh(
            y, [start[name].sel(arm=arm).item() for name in LOOKED], 0.25, label=arm
        )
    axis.set_yticks(np.arange(len(LOOKED)) + 0.25, names, fontsize=7)
    axis.set_xlim(0, 1)
    axis.set_xlabel("mean over seeds")
    axis.legend(fontsize=7)


def _rescaled(axis: Axes, results: xr.Dataset) -> None:
    """t_test over the scale of the parameters, beside one that grows with it."""
    for place, arm in enumerate(results.arm.values):
        times = ended(results).sel(arm=arm)
        _lines(axis, times, times.median("seed"), str(arm), f"C{place}")
    x, middle = times.init_scale.values, times.median("seed").values
    grown = middle[1] * x / x[1]
    axis.plot(x, grown, ":", color="0.4", label="proportional")
    axis.set_ylabel("t_test")
    axis.legend(fontsize=7)
