"""O3 (Liu et al. 2023, Fig. 4c): L and U on film reviews.

    python -m grok_jax.launch --config=experiments/omnigrok/o3_landscape.py \
        --workdir=runs/o3_landscape

The network of `o3_reviews.py` trained by Adam at 1e-3 on the sphere of norm alpha times
that of its initialisation; the reduced loss is the least along the run. The data as
there.

`cpu`: 7 norms up to 3 times the initial one (the paper: 10; there 2,000 steps at this
rate do not fit), 750 reviews for training, 250 for testing, the small LSTM of
`o3_reviews.py`, 3 seeds; about three minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O3 landscape",
        description="IMDb: reduced loss against the norm",
        task=dict(name="imdb", train_size=750, test_size=250, length=100),
        model=dict(name="lstm", embedding=32, hidden=32, layers=2),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=20, batch_size=50),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        sweep=dict(init_scale=logspace(0.1, 3, 7), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=20, test_size=10, length=8),
        model=dict(embedding=4, hidden=5),
        train=dict(steps=20, records=5, batch_size=10),
        sweep=dict(init_scale=logspace(0.1, 10, 3), seed=(0, 1)),
    )
    paper = dict(
        task=dict(train_size=37_500, test_size=12_500, length=500),
        model=dict(embedding=64, hidden=128),
        train=dict(steps=10_000),
        sweep=dict(init_scale=logspace(0.1, 10, 21)),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run."""
    return results[["train_loss", "test_loss"]].min("step")


def claims(results: xr.Dataset) -> list[Claim]:
    alphas = results.init_scale.values
    losses = reduced(results).transpose("seed", "init_scale")
    train, test = losses.train_loss.values, losses.test_loss.values
    gap = np.asarray(measures.lu_mismatch(alphas, train, test, floor=1e-4))
    right = test[:, -1] / test.min(axis=1)
    return [
        Claim(
            "O3c",
            "4c",
            "on 1,000 reviews the U of the test loss leaves the L of the train loss",
            "mismatch beyond the Goldilocks norm > 0.5 decades, every seed",
            gap,
            bool((gap > 0.5).all()),
        ),
        Claim(
            "O3c2",
            "4c",
            "the test loss rises towards large norms, the train loss does not",
            "at the largest norm: test loss > 1.2x its least, train loss <= 1/2 of "
            "that at the smallest norm; every seed",
            {"test / least": right, "train right / left": train[:, -1] / train[:, 0]},
            bool((right > 1.2).all() and (train[:, -1] <= train[:, 0] / 2).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 1, 4.4, 3.2)
    plot.landscape(axes[0, 0], reduced(results))
    axes[0, 0].set_title("1,000 reviews, least along the run")
    return drawing
