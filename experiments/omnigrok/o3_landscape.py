"""O3 (Liu et al. 2023, Fig. 4c): L and U on film reviews.

    python -m grok_jax.launch --config=experiments/omnigrok/o3_landscape.py \
        --workdir=runs/o3_landscape

The network and data of `o3_reviews.py`, trained by Adam on the sphere of norm alpha
times that of its initialisation; the reduced loss is the least along the run.

`cpu`: norms up to 3 times the initial one (the paper: 10, where these steps do not fit
the reviews).
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import along, every, presets, sheet, tested

get_config = presets(
    dict(
        name="O3 landscape",
        description="IMDb: reduced loss against the norm",
        task=dict(name="imdb", train_size=750, test_size=250, length=100),
        model=dict(name="lstm", embedding=32, hidden=32, layers=2),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=20, batch_size=50),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        sweep=dict(init_scale=logspace(0.1, 3, 7), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=20, test_size=10, length=8),
        model=dict(embedding=4, hidden=5),
        train=dict(steps=20, records=5, batch_size=10),
        sweep=dict(init_scale=logspace(0.1, 10, 3), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(train_size=37_500, test_size=12_500, length=500),
        model=dict(embedding=64, hidden=128),
        train=dict(steps=10_000),
        sweep=dict(init_scale=logspace(0.1, 10, 21)),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    least = results.min("step")
    train, test = least.train_loss, least.test_loss
    mismatch = along("init_scale", measures.lu_mismatch, train, test, floor=1e-4)
    rise = test.isel(init_scale=-1) / test.min("init_scale", skipna=False)
    fall = train.isel(init_scale=-1) / train.isel(init_scale=0)
    return [
        tested(
            "O3c",
            "Fig. 4c",
            "on 1,000 reviews the U of the test loss leaves the L of the train loss",
            every("mismatch in decades", mismatch, ">", 0.5),
        ),
        tested(
            "O3c2",
            "Fig. 4c",
            "the test loss rises towards large norms, the train loss does not",
            every("test loss at the largest norm / least", rise, ">", 1.2),
            every("train loss there / at the smallest norm", fall, "<=", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    title = "1,000 reviews, least along the run"
    return sheet((title, plot.landscape, results.min("step")))
