"""The page of one task: its runs, its landscape, and how its runs end.

    get_config = contest.presets_of(base, axes, smoke=...)

has the presets `cpu` (the runs that are judged), `pilot` (other points and seeds, by
which the ranges were chosen; not judged), `landscape` (fixed norms, for the norm of
lowest test loss), `smoke` and `paper` (four times as many runs).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from grok_jax.claims import OURS, Claim
from grok_jax.delay.design import Axis, Choice, draw, rounded
from grok_jax.engine.config import choose_preset, logspace, make_config
from grok_jax.pages import every, late, sheet, shown, tested
from grok_jax.settings import words

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
METHOD = "optimizer.method"
WAYS = ("no delay", "delay", "never generalised")
MARKS = {
    "no delay": ("o", "C0"),
    "delay": ("^", "C1"),
    "never generalised": ("x", "C3"),
    "never fitted": (".", "0.7"),
}
DELAYED = 1.5
"""A run is delayed if t_test is more than so many times t_train."""
FIRST_SEED, PILOT_SEED = 10_000, 0
SHIFT, PILOT_SHIFT = 19, 20
"""The first seed and the shift of the points of the runs that are judged, and of the
pilot's."""


def presets_of(
    base: Mapping[str, Any],
    axes: Mapping[str, Axis],
    *,
    runs: int = 1024,
    smoke: Mapping[str, Any],
    scales: tuple[float, ...] = logspace(0.05, 5, 10),
) -> Callable[..., ConfigDict]:
    """A page's `get_config`.

    Args:
      axes: path of a setting -> how it is drawn.
      runs: how many are judged, a power of 2.
      scales: the init scales of the landscape.
    """

    def drawn(runs: int, shift: int, seed: int, alike: bool = False) -> dict[str, Any]:
        """The swept settings; `alike` without those that compile programs anew."""
        chosen = {
            path: axis
            for path, axis in axes.items()
            if not (alike and isinstance(axis, Choice))
        }
        values = _stable(draw(chosen, runs, shift=shift))
        seeds = tuple(range(seed, seed + runs))
        return dict(sweep={"seed": seeds, **values}, zip="+".join(["seed", *values]))

    fraction = axes["task.train_fraction"]
    landscape = dict(
        task=dict(train_fraction=rounded(fraction.at(0.5))),
        optimizer=dict(norm="fixed", weight_decay=0.0),
        observe=dict(evidence=None, norms={}),
        stop=None,
        sweep=dict(
            init_scale=scales,
            output_scale=(0.1, 1.0, 10.0),
            seed=tuple(range(PILOT_SEED, PILOT_SEED + 3)),
        ),
    )

    def get_config(preset: str = "cpu") -> ConfigDict:
        layers = dict(
            smoke={**smoke, **drawn(2, PILOT_SHIFT, PILOT_SEED, alike=True)},
            cpu=drawn(runs, SHIFT, FIRST_SEED),
            paper=drawn(4 * runs, SHIFT, FIRST_SEED),
            pilot=drawn(64, PILOT_SHIFT, PILOT_SEED),
            landscape=landscape,
        )
        return make_config(base, choose_preset(preset, **layers))

    return get_config


def _stable(drawn: dict[str, tuple]) -> dict[str, tuple]:
    """The settings with the learning rates of momentum ten times as high, and divided
    by the square of an output scale above 1, which multiplies the kernel and so the
    curvature. Their weight decay moves the other way: what is drawn is the shrinking of
    the weights in a step."""
    if METHOD not in drawn:
        return drawn
    rates, decays = list(drawn[RATE]), list(drawn[DECAY])
    scales, methods = drawn["model.output_scale"], drawn[METHOD]
    for run, (method, scale) in enumerate(zip(methods, scales, strict=True)):
        if method == "momentum":
            factor = 10 / max(scale, 1.0) ** 2
            rates[run] = rounded(rates[run] * factor)
            decays[run] = rounded(decays[run] / factor)
    return {**drawn, RATE: tuple(rates), DECAY: tuple(decays)}


def ratio(results: xr.Dataset) -> xr.DataArray:
    """t_test / t_train of each run: infinite if it never generalised, NaN if it never
    fitted. Step 0 counts as step 1."""
    start = results.t_train.clip(min=1)
    return late(results.t_test).clip(min=1) / start


def ended(results: xr.Dataset) -> xr.DataArray:
    """t_test, or the last step of a run that never generalised; at least 1. Of results,
    or of a table of runs, which has that step as `horizon`."""
    last = results.horizon if "horizon" in results else float(results.step[-1])
    return results.t_test.fillna(last).clip(min=1)


def log10(values: xr.DataArray) -> xr.DataArray:
    """np.log10, which type checkers take for an array without axes."""
    return values.copy(data=np.log10(values.values))


def ends(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """How each run ended -> whether it did so."""
    times = ratio(results)
    return {
        "no delay": times <= DELAYED,
        "delay": (times > DELAYED) & (times < np.inf),
        "never generalised": times == np.inf,
        "never fitted": times.isnull(),
    }


def claims(results: xr.Dataset, number: str) -> list[Claim]:
    """That the settings are wide enough: each way to end is that of a tenth of the runs
    that fitted (over all tasks a fifth is asked, by `verdict.totals`). Nothing is
    claimed of a landscape."""
    if _is_landscape(results):
        return []
    found = ends(results)
    fitted = float((~found["never fitted"]).sum())
    shares = {name: float(of.sum()) / max(fitted, 1) for name, of in found.items()}
    ways = xr.DataArray(
        [shares[name] for name in WAYS], {"end": list(WAYS)}, "end", name="share"
    )
    return [
        tested(
            f"{number}a",
            OURS,
            "the runs are spread over all ends: at least a tenth each generalise with "
            f"their training (t_test at most {DELAYED:g} t_train), later, or never",
            every("share of the runs that fit", ways, ">=", 0.1),
            shown("share that never fits", float(found["never fitted"].mean())),
        )
    ]


def figure(results: xr.Dataset) -> Figure:
    """How the runs end over pairs of settings, and how long their delay is; or the
    landscape."""
    if _is_landscape(results):
        return sheet(("the landscape", _landscape, results))
    return sheet(
        ("ends over the scales", partial(_over, "output_scale", "init_scale"), results),
        (
            "over the optimiser",
            partial(_over, "weight_decay", "learning_rate"),
            results,
        ),
        ("how late", _delays, results),
    )


def _is_landscape(results: xr.Dataset) -> bool:
    return "init_scale" in results.dims


def _landscape(axis: Axes, results: xr.Dataset) -> None:
    """The test loss at the end over the norm, for each output scale."""
    ends = results.test_loss.isel(step=-1).median("seed")
    for scale in results.output_scale.values:
        line = ends.sel(output_scale=scale)
        axis.plot(line.init_scale, line, "o-", label=f"output scale {scale:g}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("init scale, at a fixed norm")
    axis.set_ylabel("test loss")
    axis.legend(fontsize=7)


def _over(across: str, up: str, axis: Axes, results: xr.Dataset) -> None:
    for name, of in ends(results).items():
        mark, color = MARKS[name]
        x, y = (results[which].values[of.values] for which in (across, up))
        axis.scatter(x, y, s=9, marker=mark, color=color, label=name, lw=0.7)
    _decades(axis.set_xscale, results[across].values)
    _decades(axis.set_yscale, results[up].values)
    axis.set_xlabel(words(across))
    axis.set_ylabel(words(up))
    axis.legend(fontsize=6)


def _decades(set_scale: Callable[..., None], values: np.ndarray) -> None:
    """A logarithmic axis, with room for 0 if that is among the values."""
    if (values == 0).any():
        set_scale("symlog", linthresh=values[values > 0].min())
    else:
        set_scale("log")


def _delays(axis: Axes, results: xr.Dataset) -> None:
    """t_test / t_train over the train fraction; runs that never generalise on top."""
    times, x = ratio(results).values, results.train_fraction.values
    top = 2 * np.max(times[np.isfinite(times)], initial=5)
    found = ends(results)
    for name in WAYS:
        mark, color = MARKS[name]
        of = found[name].values
        y = times[of].clip(max=top)
        axis.scatter(x[of], y, s=9, marker=mark, color=color, label=name, lw=0.7)
    axis.axhline(DELAYED, color="0.6", lw=0.8)
    axis.set_yscale("log")
    axis.set_xlabel("train fraction")
    axis.set_ylabel("t_test / t_train")
    axis.legend(fontsize=6)
