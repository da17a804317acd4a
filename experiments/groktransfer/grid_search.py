"""G0 (Xu et al. 2025, App. A): the grid from which the paper's settings come.

    python -m grok_jax.launch --config=experiments/groktransfer/grid_search.py \
        --workdir=runs/grid_search

Initialisation x learning rate x weight decay of the target network on modular addition,
from scratch and with a weak network's embedding: the best setting is the first to have
90% test accuracy (median over seeds). A run ends there. All settings but the arm are
traced, so that the grid of an arm is one compiled program. `paper` is of the paper's
sizes; `cpu` is smaller in everything.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import OURS, every, median, presets, sheet, shown, tested

GRID = ("init_scale", "learning_rate", "weight_decay")

get_config = presets(
    dict(
        name="G0 grid search",
        description="which settings generalise first",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4, equals=False),
        model=dict(name="fnn"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=700, records=70, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.9),
        stop=dict(metric="test_accuracy", threshold=0.9, above=True),
        arms=dict(
            scratch={},
            GrokTransfer=dict(
                transfer=dict(
                    model=dict(embedding=4, width=16, layers=2),
                    optimizer=dict(learning_rate=5e-3, weight_decay=0.1),
                )
            ),
        ),
        sweep={
            "model.init_scale": (0.3, 1.0),
            "optimizer.learning_rate": (1e-3, 5e-3, 1e-2),
            "optimizer.weight_decay": (1.0, 3.0),
            "seed": (0, 1, 2),
        },
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        arms=dict(GrokTransfer=dict(transfer=dict(steps=20))),
        train=dict(steps=20, records=5),
        sweep={"optimizer.learning_rate": (1e-3, 1e-2), "seed": (0,)},
    ),
    paper=dict(
        task=dict(modulus=113, train_fraction=0.25),
        train=dict(steps=10_000, records=500),
        sweep={
            "model.init_scale": (0.05, *(i / 10 for i in range(1, 16))),
            "optimizer.learning_rate": (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 0.1, 0.5, 1.0),
            "optimizer.weight_decay": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 2.0, 3.0, 4.0, 5.0),
            "seed": (0,),
        },
    ),
)


def reached(results: xr.Dataset) -> xr.DataArray:
    """The step of 90% test accuracy, median over seeds; infinite where most never came
    to it."""
    return median(results.t_test.fillna(np.inf))


def claims(results: xr.Dataset) -> list[Claim]:
    step = reached(results)
    came = (step < np.inf).sum(GRID)
    return [
        tested(
            "G0",
            OURS,
            "in either arm some setting generalises",
            every(f"settings of {step[0].size} that generalise", came, ">", 0),
            *(
                shown(f"first, {arm.item()}", first(step.sel(arm=arm)))
                for arm in step.arm
            ),
        )
    ]


def first(step: xr.DataArray) -> str:
    """The setting of one arm that generalises first."""
    best = step[step.argmin(...)]
    if np.isinf(best):
        return "none"
    values = (f"{plot.words(name)} {best[name].item():g}" for name in GRID)
    return f"step {best.item():,.0f} with {', '.join(values)}"


def figure(results: xr.Dataset) -> Figure:
    rows = {arm: results.sel(arm=arm) for arm in results.arm.values}
    parts = (
        (f"{arm}\nleast over {plot.words(over)}", partial(least, over=over), runs)
        for arm, runs in rows.items()
        for over in GRID
    )
    return sheet(*parts, columns=3)


def least(axis: Axes, runs: xr.Dataset, over: str) -> None:
    step = reached(runs).min(over)
    y, x = (name for name in GRID if name != over)
    plot.cells(axis, step.where(np.isfinite(step)), x, y, label="step")
