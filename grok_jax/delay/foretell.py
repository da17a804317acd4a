"""When will a run of one's own generalise: quantiles of t_test at the step at which it
has fitted its train set, from the runs of the tournament.

    results = grok_jax.run(page)  # with observe=dict(evidence=dict(name=evidence))
    grok_jax.delay.predict(results)

How far such a prediction is right is in the documentation ("Which theory predicts the
delay"): it was tested on tasks that were left out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from grok_jax.delay import judges, table, theories
from grok_jax.engine import shipped, workdirs
from grok_jax.engine.measured import Grok

COLUMNS = "anywhere"
"""What is known of a run on any task (`theories.columns`)."""
INSIDE = (0.005, 0.995)
"""Numbers outside these quantiles of the table's are extrapolated."""
MODEL = "Cox"
NEEDED = ("train_accuracy", "laziness")
"""Curves without which nothing is foretold."""


def predict(results: xr.Dataset, known: xr.Dataset | None = None) -> xr.Dataset:
    """For each run [run] of a sweep that observed `evidence`: `t_train`; `t_test`
    [run, quantile], the steps by which it will have generalised with these chances,
    infinite where the table's runs did not get so far, given for a run that has not
    generalised that it had not by the last step; `outside`, the number of its
    statistics and settings that lie outside those of the table; and `strange`, their
    names. NaN for a run that has not fitted its train set. The settings by which the
    runs differ are coordinates.

    Args:
      results: of a finished run, or of one that goes on.
      known: the table of runs; that of the tournament by default.

    Raises:
      SettingError: the results lack a statistic.
      WorkdirError: there is no table.
    """
    known = workdirs.read_results(known_runs()) if known is None else known
    rows = table.rows(results, "", None)
    now = np.where(np.isnan(rows.t_test.values), rows.horizon.values, 0.0)
    told = (rows[n] for n in ("seed", *table.SETTINGS) if n in rows)
    differ = {each.name: each for each in told if np.unique(each).size > 1}
    return of_rows(rows, known, now).assign_coords(differ)


def known_runs() -> Path:
    """Where the table of the tournament's runs is."""
    return shipped.folder() / "delay" / "runs.nc"


def of_curves(runs: Sequence[Any], config: Mapping[str, Any], known: xr.Dataset) -> str:
    """A sentence on runs that go on: `predict` of those that have fitted and not
    generalised, the median over them; "" if there is none, or none with the statistics.

    Args:
      runs: each with a `place` (axis -> value) and `curves` (name -> (steps, values)).
      config: the settings of all runs, as in config.json.
    """
    if not runs or not all(name in runs[0].curves for name in NEEDED):
        return ""
    rows = table.rows(_results(runs, config), "", None)
    waiting = np.isfinite(rows.t_train.values) & ~np.isfinite(rows.t_test.values)
    if not waiting.any():
        return ""
    now = float(max(steps[-1] for steps, _ in runs[0].curves.values()))
    found = of_rows(rows.isel(run=waiting), known, now)
    low, middle, high = np.median(found.t_test.values, axis=0)
    count, far = int(waiting.sum()), found.outside.values > 0
    said = (
        f"{count} of {len(runs)} runs {'has' if count == 1 else 'have'} fitted and not "
        f"generalised; expected {_step(middle)} (80%: {_step(low)} to {_step(high)})"
    )
    if far.any():
        names = ", ".join(
            dict.fromkeys(", ".join(found.strange.values[far]).split(", "))
        )
        count = int(far.sum())
        are = "is" if count == 1 else "are"
        said += f"; {count} {are} unlike the runs it was learned from: {names}"
    return f"{said}."


def _step(step: float) -> str:
    return f"step {step:,.0f}" if np.isfinite(step) else "never"


def _results(runs: Sequence[Any], config: Mapping[str, Any]) -> xr.Dataset:
    """Curves as results [run, step], with NaN where a run was not measured."""
    steps = np.unique(np.concatenate([run.curves[NEEDED[0]][0] for run in runs]))
    names = dict.fromkeys(name for run in runs for name in run.curves)
    curves = {name: np.full((len(runs), len(steps)), np.nan) for name in names}
    for number, run in enumerate(runs):
        for name, (at, values) in run.curves.items():
            curves[name][number, np.searchsorted(steps, at)] = values
    made = xr.Dataset(
        {name: (("seed", "step"), values) for name, values in curves.items()},
        {"step": steps, "seed": np.arange(len(runs))},
        {"config": json.dumps(dict(config))},
    )
    for name in runs[0].place:
        if name != "seed":
            made[name] = ("seed", [run.place[name] for run in runs])
    grok = Grok(**{key: config[f"grok.{key}"] for key in ("kind", "train", "test")})
    t_train, t_test = map(np.asarray, grok.times(steps, made))
    times = {"t_train": ("seed", t_train), "t_test": ("seed", t_test)}
    return made.assign(times).set_coords(set(runs[0].place))


def of_rows(
    rows: xr.Dataset, known: xr.Dataset, now: float | np.ndarray = 0.0
) -> xr.Dataset:
    """The same for rows of a table; `now` [run]: given that a run has not generalised
    by this step, if it is positive."""
    known = theories.that_fitted(known)
    x, new = (theories.matrix(_whole(t), COLUMNS, "fitted") for t in (known, rows))
    model = judges.fit(MODEL, x, *theories.target(known))
    fitted = np.isfinite(rows.t_train.values)
    start = np.where(fitted, np.maximum(rows.t_train.values, 1), np.nan)
    predicted = model(new)
    after = np.where(now > 0, np.maximum(now / start, 1), 0)
    times = [predicted.quantile(level, after) * start for level in judges.QUANTILES]
    low, high = (np.nanquantile(x, q, axis=0) for q in INSIDE)
    beyond = ((new < low) | (new > high)) & fitted[:, None]
    names = np.array([*theories.columns(COLUMNS, "fitted")])
    return xr.Dataset(
        {
            "t_train": ("run", rows.t_train.values),
            "t_test": (("run", "quantile"), np.stack(times, axis=1)),
            "outside": ("run", beyond.sum(1)),
            "strange": ("run", [", ".join(names[row]) for row in beyond]),
        },
        {"quantile": list(judges.QUANTILES)},
    )


def _whole(rows: xr.Dataset) -> xr.Dataset:
    """The rows with every column that `theories` reads; NaN or "" where there is
    none."""
    blank = np.full(rows.sizes["run"], np.nan)
    words = np.full(rows.sizes["run"], "")
    missing = {
        name: ("run", words if name in ("method", "operation") else blank)
        for name in table.SETTINGS
        if name not in rows
    }
    return rows.assign(missing)
