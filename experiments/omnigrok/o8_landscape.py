"""O8 (Liu et al. 2023, Fig. 9): L and U of the transformer, and a critical fraction.

    python -m grok_jax.launch --config=experiments/omnigrok/o8_landscape.py \
        --workdir=runs/o8_landscape

The transformer of `o6_transformer.py` trained by Adam on the sphere of norm alpha times
that of its initialisation, on several fractions of the pairs; the reduced loss is the
least along the run. Beyond alpha = 4 the paper's train loss rises again for want of
optimisation. The paper gives no number of steps; the authors' other landscapes have
10,000.

`cpu`: addition modulo 43 (the paper: 113), where the critical fraction is larger, and
norms up to 2 (10), as 2,000 steps (10,000) do not fit on larger spheres.
"""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import presets, sheet, shown, tested, typical

get_config = presets(
    dict(
        name="O8 landscape",
        description="modular addition: reduced loss against norm and fraction",
        task=dict(name="modular_tokens", modulus=43),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98, norm="fixed"),
        train=dict(steps=2000, records=30),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        sweep=dict(
            init_scale=(0.3, 0.5, 0.8, 1.3, 2.0),
            train_fraction=(0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=20, records=5),
        sweep=dict(
            init_scale=logspace(0.1, 10, 3), train_fraction=(0.2, 0.8), seed=(0, 1)
        ),
    ),
    paper=dict(
        task=dict(modulus=113),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            train_fraction=(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8),
        ),
    ),
)


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run, and its best test accuracy."""
    least = results[["train_loss", "test_loss"]].min("step")
    return least.assign(test_accuracy=results.test_accuracy.max("step"))


def claims(results: xr.Dataset) -> list[Claim]:
    best = reduced(results)
    most = best.sel(train_fraction=0.6, method="nearest").sel(init_scale=slice(4))
    train, test = most.train_loss, most.test_loss
    ends = [test.isel(init_scale=end) / test.min("init_scale") for end in (0, -1)]
    down = train.isel(init_scale=-1) / train.isel(init_scale=0)
    reached = best.test_accuracy.max("init_scale")
    middle = reached.median("seed")
    critical = middle.train_fraction.where(middle >= 0.5).min()
    return [
        tested(
            "O8a",
            "App. B, Fig. 9",
            "on most of the pairs the test loss is a U over the norm",
            typical("test loss, left end / least", ends[0], ">=", 2),
            typical("test loss, right end / least", ends[1], ">=", 2),
        ),
        tested(
            "O8b",
            "App. B, Fig. 9",
            "and the train loss an L",
            typical("train loss, right end / left end", down, "<=", 0.01),
            less="up to alpha = 4; on cpu up to 2",
        ),
        tested(
            "O8c",
            "App. B",
            "there is a critical fraction of the pairs, below which it does not "
            "generalise at any norm",
            typical(
                "best test accuracy, least fraction",
                reached.isel(train_fraction=0),
                "<",
                0.5,
            ),
            typical("at the largest", reached.isel(train_fraction=-1), ">", 0.95),
            shown("least fraction with a median of at least 0.5", critical),
            less="its place, about 0.25 for the modulus 113",
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    best = reduced(results)
    maps = [
        (f"{split} loss", partial(heat, name=f"{split}_loss"), best)
        for split, _ in plot.SPLITS
    ]
    few, many = (best.sel(train_fraction=f, method="nearest") for f in (0.2, 0.6))
    line = partial(plot.landscape, floor=1e-6)
    slices = [(f"{r.train_fraction:.0%} of the pairs", line, r) for r in (few, many)]
    return sheet(*maps, *slices, ("", accuracies, best), columns=3)


def heat(axis: Axes, best: xr.Dataset, name: str) -> None:
    """The median over seeds, as Fig. 9."""
    table = best[name].median("seed")
    look: Any = dict(
        norm=LogNorm(1e-4, 1e2, clip=True), levels=np.geomspace(1e-3, 10, 5)
    )
    plot.heat_map(axis, table, "init_scale", "train_fraction", log="x", **look)
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("train fraction")


def accuracies(axis: Axes, best: xr.Dataset) -> None:
    """Best test accuracy over the fraction, median over seeds: a line for each norm."""
    lines = best.test_accuracy.median("seed").transpose("init_scale", ...)
    for line, color in zip(lines, plot.family_colors(len(lines)), strict=True):
        label = f"α = {line.init_scale:g}"
        axis.plot(line.train_fraction, line, "o-", ms=3, color=color, label=label)
    axis.set_xlabel("train fraction")
    axis.set_ylabel("best test accuracy")
    axis.legend(fontsize=6, ncols=1 + len(lines) // 8)
