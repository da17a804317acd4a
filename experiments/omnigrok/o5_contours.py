"""O5 (Liu et al. 2023, Fig. 6d-f): fewer pairs, a boundary that turns away.

    python -m grok_jax.launch --config=experiments/omnigrok/o5_contours.py \
        --workdir=runs/o5_contours

The train landscape of `o5_toy_addition.py` for 25 to 55 of the 55 pairs (of 55 there is
no test loss), with symbols spread beside their line and losses of the last step, as in
the authors' code. The boundary is where the train loss falls to a level. Along it
weight decay takes the weights to small messiness m: the larger its angle to the norm
axis, the later generalisation (Sec. 5.1). As in the code, m goes up to 0.1.

`cpu`: a coarser grid of norms and messinesses than the paper's.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import every, ordered, presets, sheet, shown, tested
from grok_jax.theory import landscape

LEVEL, HIGHER = 0.05, 0.1  # the paper draws 0.05 and 0.02


def plane(norms: int, messinesses: int) -> dict[str, tuple[float, ...]]:
    """Norms, the steps of Adam that are the same angle on each sphere, messinesses."""
    values = logspace(1.6, 5, norms)
    return dict(
        init_scale=values,
        learning_rate=tuple(1e-3 * v for v in values),
        messiness=tuple(float(f"{v:.4g}") for v in np.linspace(0, 0.1, messinesses)),
    )


get_config = presets(
    dict(
        name="O5 contours",
        description="addition of embedded symbols: the boundary and the train set",
        task=dict(name="toy_addition"),
        model=dict(name="mlp", width=200, activation="leaky_relu"),
        loss=dict(name="squared_error", outputs="mean"),
        optimizer=dict(name="adamw", b2=0.99, norm="fixed"),
        train=dict(steps=3000, records=20),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(train_size=(25, 35, 45, 55), **plane(7, 5), seed=(0, 1, 2)),
        zip=("init_scale+learning_rate",),
    ),
    smoke=dict(
        model=dict(width=8),
        train=dict(steps=30, records=5),
        sweep=dict(**plane(3, 3), seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000),
        sweep=dict(**plane(21, 21), seed=tuple(range(5))),
    ),
)


def lines(measure: Callable, dim: str, table: xr.DataArray) -> xr.DataArray:
    """The measure (x, line) of every line of a table along the axis `dim`."""
    dims = [[dim], [dim]]
    return xr.apply_ufunc(
        measure, table[dim], table, input_core_dims=dims, vectorize=True
    )


def boundary(loss: xr.DataArray, level: float) -> xr.DataArray:
    """The norm at which the loss [norm, ...] falls to the level."""

    def crossing(norms: np.ndarray, line: np.ndarray) -> float:
        return landscape.contour(norms, line[:, None], level)[0]

    return lines(crossing, "init_scale", loss)


def angles(loss: xr.DataArray, level: float) -> xr.DataArray:
    """Between the boundary and the norm axis, in degrees."""
    norms = boundary(loss, level)
    return 180 / np.pi * lines(landscape.contour_angle, "messiness", norms)


def claims(results: xr.Dataset) -> list[Claim]:
    loss = results.train_loss.isel(step=-1)
    middle, each = loss.median("seed"), angles(loss, LEVEL)
    ranks = lines(measures.spearman, "train_size", each)
    return [
        tested(
            "O5e",
            "Fig. 6d, 6e",
            f"the angle of the boundary (train loss {LEVEL}, median over seeds) grows "
            "as the train set shrinks",
            ordered("angle", angles(middle, LEVEL), "train_size", "falls"),
            shown(f"angle at a loss of {HIGHER}", angles(middle, HIGHER)),
        ),
        tested(
            "O5f",
            "Fig. 6d, 6e",
            "so it does in each draw of data and network",
            every("angle", each, ">", 0),  # there is one
            every("rank correlation of angle and pairs", ranks, "<=", -0.8),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    loss = results[["train_loss"]].isel(step=-1)
    at = {level: partial(boundaries, level=level) for level in (LEVEL, HIGHER)}
    maps = [(f"train loss = {level}", draw, loss) for level, draw in at.items()]
    return sheet(*maps, ("", draw_angles, loss))


def boundaries(axis: Axes, results: xr.Dataset, level: float) -> None:
    """Of each seed, thin, and of the median of their losses."""
    sizes = results.train_size.values
    for size, color in zip(sizes, plot.family_colors(len(sizes)), strict=True):
        loss = results.train_loss.sel(train_size=size)
        each = boundary(loss, level).transpose("messiness", "seed")
        axis.plot(each, loss.messiness, color=color, lw=0.7, alpha=0.6)
        line, label = boundary(loss.median("seed"), level), f"{size} pairs"
        axis.plot(line, loss.messiness, "o-", color=color, ms=3, label=label)
    axis.set_xscale("log")
    axis.set_xticks([1.6, 2, 3, 4, 5], ["1.6", "2", "3", "4", "5"])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("messiness m")
    axis.legend(fontsize=7)


def draw_angles(axis: Axes, results: xr.Dataset) -> None:
    """Of each seed a dot, of the median of their losses a line."""
    loss, sizes = results.train_loss, results.train_size.values
    for level, color in ((LEVEL, "tab:blue"), (HIGHER, "tab:orange")):
        each = angles(loss, level).transpose("train_size", "seed")
        axis.plot(sizes, each, ".", color=color)
        middle = angles(loss.median("seed"), level)
        axis.plot(sizes, middle, color=color, label=f"at {level}")
    axis.set_xticks(sizes)
    axis.set_xlabel("pairs in the train set")
    axis.set_ylabel("angle θ in degrees")
    axis.legend(fontsize=7)
