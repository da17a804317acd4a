"""O3 (Liu et al. 2023, Fig. 4a, b): grokking on film reviews.

    python -m grok_jax.launch --config=experiments/omnigrok/o3_reviews.py \
        --workdir=runs/o3_reviews

A two-layer LSTM tells good from bad reviews of IMDb (the 1,000 most frequent words of
the train split): at a multiple alpha of PyTorch's initialisation with weight decay
gamma, beside the usual one without. The data: `GROK_JAX_DATA/imdb`, `task.folder`, or
`grok_jax.tasks.reading.fetch("imdb")`.

`cpu`: as many reviews as in the paper, but fewer words of each in a smaller network.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, every, panels, presets, sheet, shown, tested, times

get_config = presets(
    dict(
        name="O3 reviews",
        description="IMDb: large initialisation and weight decay",
        task=dict(name="imdb", train_size=750, test_size=250, length=100),
        model=dict(name="lstm", embedding=32, hidden=32, layers=2),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=8000, records=60, batch_size=50),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        sweep=dict(init_scale=(1.0, 6.0), weight_decay=(0.0, 1.0), seed=(0, 1, 2)),
        zip=("init_scale+weight_decay",),
    ),
    smoke=dict(
        task=dict(train_size=20, test_size=10, length=8),
        model=dict(embedding=4, hidden=5),
        train=dict(steps=20, records=5, batch_size=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(length=500),
        model=dict(embedding=64, hidden=128),
        train=dict(steps=20_000),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = (results.sel(init_scale=alpha) for alpha in (6.0, 1.0))
    in_time = times(1, "t_train", usual.t_train.fillna(np.inf))
    accuracy, t_train = large.test_accuracy, large.t_train
    fitted = at(accuracy, t_train.fillna(0))  # at the start of a run that never fitted
    best = accuracy.max("step")
    return [
        tested(
            "O3a",
            "Fig. 4a",
            "alpha = 6: fitted early, generalised later",
            every("t_test", large.t_test, ">=", times(3, "t_train", t_train)),
        ),
        tested(
            "O3a2",
            "Fig. 4a",
            "alpha = 6: the test accuracy rises after the fit",
            every("best - that at t_train", best - fitted, ">", 0.05),
            shown("best", best),
        ),
        tested(
            "O3b",
            "Fig. 4b",
            "alpha = 1 without weight decay: no delay (t_train = inf: the run ended "
            "before it)",
            every("t_test", usual.t_test, "<=", in_time),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    title = "α = {:g}, γ = {weight_decay:g}"
    alphas = panels(results, "init_scale", title, plot.accuracies)
    return sheet(*alphas, ("", norms, results))
