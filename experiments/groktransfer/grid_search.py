"""G0 (Xu et al. 2025, App. A): the grid from which the paper's settings come.

    python -m grok_jax.launch --config=experiments/groktransfer/grid_search.py \
        --workdir=runs/grid_search

Initialisation x learning rate x weight decay of the target network on modular addition,
from scratch and with a weak network's embedding: the best setting is the first to have
90% test accuracy (App. A.3.1; Sec. 4.1 says 99%), median over seeds; a run ends there.
All settings but the arm are traced, so that the grid of an arm is one compiled program.
`paper` has the sizes and the grid of App. A.3.3, and what App. A.3.1 has besides (rate
0.05, decay 10).
`cpu` is smaller in everything: p = 59 with 40% of the pairs, width 256, an embedding of
64 and two or three values of each setting. The seeds are new.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import OURS, every, median, presets, sheet, shown, tested, times

GRID = ("init_scale", "learning_rate", "weight_decay")

get_config = presets(
    dict(
        name="G0 grid search",
        description="which settings generalise first",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4, equals=False),
        model=dict(name="fnn", embedding=64, width=256),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=700, records=70, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.9),
        stop=dict(metric="test_accuracy", threshold=0.9, above=True),
        arms=dict(
            scratch={},
            GrokTransfer=dict(
                transfer=dict(
                    model=dict(embedding=4, width=16, layers=2, init_scale=0.15),
                    optimizer=dict(learning_rate=0.01, weight_decay=0.3),
                    candidates=8,
                    steps=1000,
                )
            ),
        ),
        sweep={
            "model.init_scale": (0.3, 1.0),
            "optimizer.learning_rate": (1e-3, 5e-3, 1e-2),
            "optimizer.weight_decay": (1.0, 3.0),
            "seed": (100, 101, 102),
        },
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        arms=dict(GrokTransfer=dict(transfer=dict(steps=20, candidates=2))),
        train=dict(steps=20, records=5),
        sweep={"optimizer.learning_rate": (1e-3, 1e-2), "seed": (0,)},
    ),
    paper=dict(
        task=dict(modulus=113, train_fraction=0.25),
        model=dict(embedding=128, width=512),
        arms=dict(GrokTransfer=dict(transfer=dict(candidates=1, steps=10_000))),
        train=dict(steps=10_000, records=500),
        sweep={
            "model.init_scale": (0.05, *(i / 10 for i in range(1, 16))),
            "optimizer.learning_rate": (
                *(1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 0.05, 0.1, 0.5, 1.0),
            ),
            "optimizer.weight_decay": (
                *(1e-4, 1e-3, 1e-2, 0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0),
            ),
            "seed": (100,),
        },
    ),
)


def reached(results: xr.Dataset) -> xr.DataArray:
    """The step of 90% test accuracy, median over seeds; infinite where most never came
    to it."""
    return median(results.t_test.fillna(np.inf))


def claims(results: xr.Dataset) -> list[Claim]:
    step = reached(results)
    came = (step < np.inf).mean(GRID)
    best = step.min(GRID)
    moved, scratch = best.sel(arm="GrokTransfer"), best.sel(arm="scratch")
    return [
        tested(
            "G0",
            OURS,
            "the best setting of GrokTransfer generalises in a third of the steps of "
            "the best from scratch",
            every("GrokTransfer", moved, "<=", times(1 / 3, "scratch", scratch)),
            *(
                shown(f"first, {arm.item()}", first(step.sel(arm=arm)))
                for arm in step.arm
            ),
        ),
        tested(
            "G0b",
            OURS,
            "and more of its settings generalise",
            every(
                "share of settings, GrokTransfer",
                came.sel(arm="GrokTransfer"),
                ">",
                times(1, "scratch", came.sel(arm="scratch")),
            ),
        ),
    ]


def first(step: xr.DataArray) -> str:
    """The setting of one arm that generalises first."""
    best = step[step.argmin(...)]
    if np.isinf(best):
        return "none"
    values = (f"{plot.words(name)} {best[name].item():g}" for name in GRID)
    return f"step {best.item():,.0f} with {', '.join(values)}"


def figure(results: xr.Dataset) -> Figure:
    parts = (
        (f"{arm}, init scale {scale:g}", cells, results.sel(arm=arm, init_scale=scale))
        for scale in results.init_scale.values[:6]
        for arm in results.arm.values
    )
    return sheet(*parts, columns=2)


def cells(axis: Axes, runs: xr.Dataset) -> None:
    step = reached(runs)
    known = step.where(np.isfinite(step))
    plot.cells(axis, known, "learning_rate", "weight_decay", label="step")
