"""Extends a finished sweep: more seeds, more values, more steps.

    find(workdir, resolved) -> what is new, or None
    merged(old, new)        -> all results, the old ones bit by bit

Only what is new is run: the new points of the grid, or all runs from where they ended
(`states`).
"""

import dataclasses
import json
import zlib
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from grok_jax.engine import remote, workdirs
from grok_jax.engine.config import Resolved
from grok_jax.engine.grid import Grid
from grok_jax.engine.programs import Plan
from grok_jax.settings import SettingError

STEPS = "train.steps"


class Extension(NamedTuple):
    """A finished sweep, and the plan of what the requested sweep adds to it."""

    old: xr.Dataset
    plan: Plan
    name: str
    """The folder of its checkpoints."""

    def merged(self, new: xr.Dataset) -> xr.Dataset:
        """All results: the old ones unchanged, the rest from `new`."""
        return merged(self.old, new, self.plan.grid, of_runs=not self.plan.after)


def find(workdir: workdirs.Workdir, resolved: Resolved) -> Extension | None:
    """The extension of the finished sweep in a workdir to the requested one; None if
    there is no finished sweep or the requested one does not extend it.

    Raises: SettingError if values and steps are extended at once.
    """
    try:
        if not (workdir.config.exists() and workdir.results.exists()):
            return None
        now = resolved.stored
        if workdirs.read_json(workdir.config).get("config") == now:
            return None
        old = workdirs.read_results(workdir.results)
    except (AttributeError, workdirs.WorkdirError, *remote.failures(workdir.path)):
        return None  # `workdir.check` reports it
    before = json.loads(old.attrs.get("config", "{}"))
    differ = {key for key in {*now, *before} if now.get(key) != before.get(key)}
    known = {"sweep", STEPS, "train.records"}
    if not differ or not differ <= known:
        return None
    name = f"extension_{zlib.crc32(json.dumps(now, sort_keys=True).encode()):08x}"
    plan = resolved.plan
    fixed = STEPS in before and not any(STEPS in axis for axis in now["sweep"])
    longer = fixed and now[STEPS] > before[STEPS]  # for all runs alike
    if longer and "sweep" not in differ:
        return Extension(old, dataclasses.replace(plan, after=before[STEPS]), name)
    if differ == {"sweep"} and _grows(before["sweep"], now["sweep"]):
        only = _new_runs(before["sweep"], now["sweep"])
        return Extension(old, dataclasses.replace(plan, only=only), name)
    if longer and _grows(before["sweep"], now["sweep"]):
        raise SettingError(
            f"{workdir.path} holds fewer steps and fewer runs; extend one first, then "
            "the other."
        )
    return None


def _grows(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the axes are the same and keep all their values."""
    return [*before] == [*now] and all(
        point in now[axis] for axis, points in before.items() for point in points
    )


def _new_runs(before: dict[str, Any], now: dict[str, Any]) -> frozenset[int]:
    """The numbers of the runs, in the grid of `now`, that `before` does not have."""
    known = [[point in before[axis] for point in now[axis]] for axis in now]
    old = np.ix_(*map(np.flatnonzero, known))
    new = np.ones([*map(len, known)], bool)
    new[old] = False
    return frozenset(np.flatnonzero(new).tolist())


def merged(
    old: xr.Dataset, new: xr.Dataset, grid: Grid, *, of_runs: bool
) -> xr.Dataset:
    """`new` with the values of `old` in their places, bit by bit.

    Args:
      of_runs: whether variables without a step axis are taken from `old` for old runs;
        runs that have trained further have new ones.
    """
    steps = np.union1d(old.step, new.step)
    places: dict[Any, np.ndarray] = {"step": np.searchsorted(steps, old.step)}
    coordinates = grid.coordinates()
    for axis in grid.axes:
        keys = [name for name, (dim, _) in coordinates.items() if dim == axis.name]
        values = [[_plain(v) for v in coordinates[key][1]] for key in keys]
        points = [*zip(*values, strict=True)]
        had = [[_plain(v) for v in np.atleast_1d(old[k].values).tolist()] for k in keys]
        places[axis.name] = np.asarray(
            [points.index(point) for point in zip(*had, strict=True)]
        )
    whole = new.reindex(step=steps)
    for name, variable in old.data_vars.items():
        if not (of_runs or "step" in variable.dims):
            continue
        target = whole.get(name)
        sizes = [
            max(whole.sizes.get(dim, 0), variable.sizes[dim]) for dim in variable.dims
        ]
        blank = _blank(sizes, variable.dtype)
        if target is not None:
            given = target.transpose(*variable.dims).values
            blank[tuple(map(slice, given.shape))] = given
        at = [
            places.get(dim, np.arange(length))
            for dim, length in zip(variable.dims, variable.shape, strict=True)
        ]
        blank[np.ix_(*at)] = variable.values
        whole = whole.drop_vars([name], errors="ignore")
        whole[name] = (variable.dims, blank)
    whole.attrs = dict(new.attrs)
    for name in ("seconds", "groups"):
        whole.attrs[name] = old.attrs[name] + new.attrs[name]
    return whole


def _blank(sizes: list[int], dtype: Any) -> np.ndarray:
    if np.issubdtype(dtype, np.floating):
        return np.full(sizes, np.nan, dtype)
    return np.zeros(sizes, dtype)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) else str(value)
