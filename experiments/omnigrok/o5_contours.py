"""O5 (Liu et al. 2023, Fig. 6d-f): fewer pairs, a boundary that turns away.

    python -m grok_jax.launch --config=experiments/omnigrok/o5_contours.py \
        --workdir=runs/o5_contours

The train landscape of `o5_toy_addition.py` for 25 to 55 of the 55 pairs (of 55 there is
no test loss), with symbols spread beside their line, losses of the last step and the
learning rate of the authors' script. The boundary is where the train loss is 0.02.
Along it weight decay takes the weights to small messiness m: the larger its angle to
the norm axis, the later generalisation (Sec. 5.1). As in the script, m goes up to 0.1
(the figure labels that end 0.5).

The angles are ordered as in the figure and smaller: 48 degrees at 25 pairs, where the
figure's boundary, read off, is at about 95. So no boundary here turns away from small
m, whatever the number of pairs; the difference is not told apart.

`cpu`: a coarser grid of norms and messinesses than the paper's, from smaller norms on,
and about a quarter of the steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import OURS, ordered, presets, sheet, shown, tested, typical
from grok_jax.theory import landscape

LEVEL, HIGHER = 0.02, 0.05  # of Fig. 6e and of the boundary in Fig. 6a


def linear(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` evenly spaced values, rounded for readability."""
    return tuple(float(f"{v:.4g}") for v in np.linspace(low, high, count))


get_config = presets(
    dict(
        name="O5 contours",
        description="addition of embedded symbols: the boundary and the train set",
        task=dict(name="toy_addition", cover=True),
        model=dict(name="mlp", width=200, activation="leaky_relu"),
        loss=dict(name="squared_error", outputs="mean"),
        optimizer=dict(
            name="adamw",
            learning_rate=1e-2,
            b2=0.99,
            norm="fixed",
            rate_drops=(1300, 2700),
        ),
        train=dict(steps=4000, records=2),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(
            train_size=(25, 35, 45, 55),
            init_scale=linear(1.75, 4, 10),
            messiness=linear(0, 0.1, 5),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        model=dict(width=8),
        optimizer=dict(rate_drops=(10, 20)),
        train=dict(steps=30),
        sweep=dict(
            init_scale=linear(2, 4, 3), messiness=linear(0, 0.1, 3), seed=(0, 1)
        ),
    ),
    paper=dict(
        optimizer=dict(rate_drops=(5000, 10_000)),
        train=dict(steps=15_000),
        sweep=dict(
            init_scale=linear(2.5, 4, 21),
            messiness=linear(0, 0.1, 21),
            seed=tuple(range(100, 105)),
        ),
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
    ranks = lines(measures.spearman, "train_size", each.transpose(..., "train_size"))
    ranks = ranks.where(each.notnull().all("train_size"))
    return [
        tested(
            "O5e",
            "Sec. 5.1, Fig. 6e",
            "the angle of the boundary (train loss 0.02) is smaller for 55 pairs than "
            "for 45: more data, faster grokking",
            typical(
                "angle of 45 - of 55",
                each.sel(train_size=45) - each.sel(train_size=55),
                ">",
                0,
            ),
        ),
        tested(
            "O5f",
            OURS,
            "it grows as the train set shrinks (medians over seeds, and each draw)",
            ordered("angle", angles(middle, LEVEL), "train_size", "falls"),
            typical("rank correlation of angle and pairs", ranks, "<=", -0.8),
            shown(f"angle at a loss of {HIGHER}", angles(middle, HIGHER)),
            less="of 35 and 25 pairs the boundary does not meet the generalising "
            "solution, of 45 and 55 it does",
        ),
        tested(
            "O5h",
            "Sec. 5.1, Fig. 6d",
            "45 pairs: on the boundary the gradient of the train loss points to larger "
            "norms and smaller messiness",
            typical("angle of 45", each.sel(train_size=45), ">", 0),
            typical("angle of 45", each.sel(train_size=45), "<", 90),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    loss = results[["train_loss"]].isel(step=-1)
    at = {level: partial(boundaries, level=level) for level in (LEVEL, HIGHER)}
    maps = [(f"train loss = {level}", draw, loss) for level, draw in at.items()]
    zoom = ("train loss, 45 pairs", gradients, loss.sel(train_size=45).median("seed"))
    return sheet(zoom, *maps, ("", draw_angles, loss), columns=2)


def gradients(axis: Axes, loss: xr.Dataset) -> None:
    """The train loss and arrows down it, as Fig. 6d."""
    look: Any = dict(
        norm=PowerNorm(1 / 4, 0, 1, clip=True), levels=(0.001, 0.01, 0.03, 0.1)
    )
    plot.heat_map(axis, loss.train_loss, "init_scale", "messiness", **look)
    places = (loss.init_scale.values, loss.messiness.values)
    table = loss.train_loss.transpose("messiness", "init_scale").values
    by_m, by_w = np.gradient(table)  # per cell of the map
    size = np.maximum(np.hypot(by_w, by_m), 1e-12)
    # Downhill is -by_m in m, which the turned axis shows upwards.
    axis.quiver(*places, -by_w / size, by_m / size, scale=25, width=0.004)
    finish(axis)


def boundaries(axis: Axes, results: xr.Dataset, level: float) -> None:
    """Of each seed, thin, and of the median of their losses."""
    sizes = results.train_size.values
    for size, color in zip(sizes, plot.family_colors(len(sizes)), strict=True):
        loss = results.train_loss.sel(train_size=size)
        each = boundary(loss, level).transpose("messiness", "seed")
        axis.plot(each, loss.messiness, color=color, lw=0.7, alpha=0.6)
        line, label = boundary(loss.median("seed"), level), f"{size} pairs"
        axis.plot(line, loss.messiness, "o-", color=color, ms=3, label=label)
    finish(axis)
    axis.legend(fontsize=7)


def finish(axis: Axes) -> None:
    """As in the paper, m points downwards."""
    axis.invert_yaxis()
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("messiness m")


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
