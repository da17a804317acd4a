"""Made-up results: the axes of a page's preset, and curves as a story tells them.

A claim is shown to be no hollow one by results on which it holds and results on which
it does not; nothing is trained.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from grok_jax import launch
from grok_jax.claims import Claim
from grok_jax.engine import config, session

ROOT = Path(__file__).parents[2]


def axes(page: str, preset: str = "cpu") -> xr.Dataset:
    """The axes of a page's results, without any variable: those of its grid, and the
    steps that are recorded. `page` is "PAPER/NAME"."""
    module, _ = launch.load_experiment(str(ROOT / "experiments" / f"{page}.py"))
    plan = config.resolve(session.get_config(module, preset)).plan
    steps = [group.steps for group in plan.groups()]
    coordinates: dict[str, Any] = {"step": ("step", np.unique(np.concatenate(steps)))}
    for name, (dim, values) in plan.grid.coordinates().items():
        coordinates[name] = (dim, values)
    return xr.Dataset(coords=coordinates)


def claims(page: str, results: xr.Dataset) -> dict[str, Claim]:
    """What becomes of each claim of a page, by its id."""
    module, _ = launch.load_experiment(str(ROOT / "experiments" / f"{page}.py"))
    return {claim.id: claim for claim in module.claims(results)}


def turns(axes: xr.Dataset, start: Any, end: Any, at: Any) -> xr.DataArray:
    """A curve that goes from `start` to `end` at the step `at`, over a tenth of it;
    each may be an array over some of the axes."""
    step = axes.step
    done = ((step - 0.9 * at) / (0.1 * at)).clip(0, 1)
    return start + (end - start) * done


def over(axes: xr.Dataset, values: Any, *dims: str) -> xr.DataArray:
    """Values spread over the named axes."""
    like = xr.DataArray(
        np.zeros([axes.sizes[dim] for dim in dims]),
        {dim: axes[dim] for dim in dims if dim in axes.coords},
        dims,
    )
    return like + values
