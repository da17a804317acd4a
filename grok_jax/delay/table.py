"""The table of runs: settings, times, and what each theory saw at two moments.

A row is a run; its columns are `task`, the settings, `t_train`, `t_test` (NaN: not
within `horizon` steps), `critical_norm`, and the statistics of `evidence` as they were
at step 0 (`start_NAME`) and at t_train, when the run had fitted its train set
(`fitted_NAME`, NaN for a run that never did). Nothing later than t_train and no test
accuracy but t_test itself is in it.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from grok_jax import measures
from grok_jax.delay.evidence import EVIDENCE
from grok_jax.engine.grid import short_name
from grok_jax.pages import at
from grok_jax.settings import SettingError

SETTINGS = (
    *("output_scale", "init_scale", "weight_decay", "learning_rate", "train_fraction"),
    *("width", "layers", "embedding", "mlp_width"),
    *("method", "operation"),
)
MOMENTS = ("start", "fitted")


def rows(results: xr.Dataset, task: str, landscape: xr.Dataset | None) -> xr.Dataset:
    """The rows [run] of all runs of a sweep that observed `evidence`.

    Args:
      results: with any axes beside `step`.
      landscape: of the task, as a page's `landscape` preset makes it; None: w_c is NaN.

    Raises:
      SettingError: a statistic is missing.
    """
    missing = [name for name in EVIDENCE if name not in results]
    if missing and missing != ["embedding_fourier"]:
        raise SettingError(
            f"The run has no {missing[0]}; observe grok_jax.delay.evidence.evidence."
        )
    results = _flat(results)
    table = xr.Dataset({"task": ("run", np.full(results.sizes["run"], task))})
    for name in ("seed", *SETTINGS):
        if name in results.coords:
            table[name] = ("run", results[name].values)
    for name in ("t_train", "t_test"):
        table[name] = ("run", results[name].values.astype(float))
    table["horizon"] = ("run", np.full(len(table.run), float(results.step[-1])))
    table = table.assign(_seen(results))
    scale = xr.full_like(table.t_train, np.nan)
    if landscape is not None:
        scale = critical_scale(landscape, table.output_scale)
    usual = table.start_weight_norm / table.init_scale
    return table.assign(critical_norm=scale * usual)


def _flat(results: xr.Dataset) -> xr.Dataset:
    """The results with all axes but `step` as one, and every setting as a coordinate of
    it: those that were not swept are in the results' configuration."""
    if not results.t_train.dims:  # one run
        results = results.expand_dims("seed")
    flat = results.stack(run=[*results.t_train.dims], create_index=False)
    config = json.loads(results.attrs.get("config", "{}"))
    paths = "+".join(config.get("sweep", {})).split("+")
    others = {short_name(path) for path in paths if not _is_own(path)}
    flat = flat.drop_vars([n for n in SETTINGS if n in others and n in flat.coords])
    swept = {
        path.replace(".", "_"): short_name(path) for path in paths if _is_own(path)
    }
    flat = flat.rename({long: name for long, name in swept.items() if long in flat})
    fixed = _fixed(config, flat)
    single = [n for n in ("seed", *SETTINGS) if n in flat.coords and not flat[n].ndim]
    known = {n: ("run", np.full(flat.sizes["run"], flat[n].values)) for n in single}
    for name in SETTINGS:
        if name not in flat.coords and any(name in each for each in fixed):
            values = [each.get(name, np.nan) for each in fixed]
            known[name] = ("run", np.asarray(values))
    return flat.assign_coords(known).transpose("run", "step", ...)


def _fixed(config: dict[str, Any], flat: xr.Dataset) -> list[dict[str, Any]]:
    """The settings of each run that were not swept: those of its arm before those of
    all runs."""
    arms = np.broadcast_to(flat.coords.get("arm", ""), flat.sizes["run"]).tolist()
    found = {}
    for arm in set(arms):
        own = {**config, **config.get("arms", {}).get(arm, {})}
        fixed = {short_name(path): own[path] for path in own if _is_own(path)}
        found[arm] = {"method": own.get("optimizer.name", ""), **fixed}
    return [found[arm] for arm in arms]


def _is_own(path: str) -> bool:
    """Whether a setting is of the run's own task, model or optimiser, not of those of
    its weak network."""
    return path.rpartition(".")[0] in ("task", "model", "optimizer")


def _seen(results: xr.Dataset) -> dict[str, tuple[str, np.ndarray]]:
    """The statistics at both moments, and what the curves before t_train tell."""
    fitted = results.t_train
    columns = {}
    for name in EVIDENCE:
        if name in results:
            curve = results[name]
            columns[f"start_{name}"] = ("run", curve.isel(step=0).values)
            columns[f"fitted_{name}"] = ("run", at(curve, fitted).values)
    before = results.step <= fitted
    loss = np.log(results.train_loss.where(before & (results.train_loss > 0)))
    rises = loss.diff("step").clip(min=0).sum("step")
    columns["fitted_oscillation"] = ("run", rises.where(fitted.notnull()).values)
    speed = _speed(results.kernel_distance, fitted)
    columns["fitted_kernel_speed"] = ("run", speed.values)
    return columns


def _speed(distance: xr.DataArray, fitted: xr.DataArray) -> xr.DataArray:
    """d distance / d log(step) between the last record before t_train and t_train."""
    place = np.searchsorted(distance.step.values, fitted.fillna(0).values)
    now, then = (
        xr.DataArray(place, dims="run"),
        xr.DataArray(np.maximum(place - 1, 0), dims="run"),
    )
    change = distance.isel(step=now) - distance.isel(step=then)
    steps = distance.step.clip(min=0.5)
    passed = np.log(steps.isel(step=now).values / steps.isel(step=then).values)
    moved = change.values / np.where(passed > 0, passed, 1)
    return fitted.copy(data=np.where(fitted.notnull(), moved, np.nan))


def critical_scale(landscape: xr.Dataset, output_scale: xr.DataArray) -> xr.DataArray:
    """alpha_c = w_c / w_0 of each run: the init scale at whose norm, held fixed, the
    test loss is lowest (Liu et al. 2023, Sec. 2), in the median over the landscape's
    seeds, linear between its output scales, both in logs. w_0 is the norm of the usual
    initialisation, so that alpha_c carries over to other widths and depths.

    This is the one number in the table that test labels were read for. An output scale
    whose lowest loss is at an end of the scales is left out.

    Raises:
      SettingError: that is so at all of them.
    """
    ends = landscape.test_loss.isel(step=-1).median("seed")
    best = np.array(
        [
            measures.goldilocks(
                landscape.init_scale.values, ends.sel(output_scale=scale).values
            ).norm
            for scale in landscape.output_scale.values
        ]
    )
    known = np.isfinite(best)
    if not known.any():
        raise SettingError(
            "The landscape has its lowest test loss at an end of its norms; give it "
            "others (init_scale)."
        )
    x, y = np.log(landscape.output_scale.values[known]), np.log(best)[known]
    between = np.interp(np.log(output_scale.values), x, y)
    return output_scale.copy(data=np.exp(between))


def joined(tables: Iterable[xr.Dataset]) -> xr.Dataset:
    """The rows of several tasks; a setting that a task does not have is NaN or ""."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    columns = {}
    for name in names:
        values = [_column(table, str(name), tables) for table in tables]
        columns[name] = ("run", np.concatenate(values))
    return xr.Dataset(columns)


def _column(table: xr.Dataset, name: str, tables: Iterable[xr.Dataset]) -> np.ndarray:
    if name in table:
        values = table[name].values
        return (
            values.astype(str) if values.dtype.kind in "OUS" else values.astype(float)
        )
    kind = next(t[name].dtype.kind for t in tables if name in t)
    blank = "" if kind in "OUS" else np.nan
    return np.full(table.sizes["run"], blank)


def packed(table: xr.Dataset) -> xr.Dataset:
    """The table with its numbers as float32, and packed when it is written."""
    small = {
        name: column.astype(np.float32)
        for name, column in table.items()
        if column.dtype.kind == "f"
    }
    table = table.assign(small)
    for name in small:
        table[name].encoding = dict(zlib=True)
    return table
