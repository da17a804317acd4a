"""O3 (Liu et al. 2023, Fig. 4d): grokking on film reviews.

    python -m grok_jax.launch --config=experiments/omnigrok/o3_reviews.py \
        --workdir=runs/o3_reviews

A two-layer LSTM tells good from bad reviews of IMDb (the 1,000 most frequent words of
the train split): at a multiple alpha of PyTorch's initialisation with weight decay
gamma, beside the usual one without. The text calls the figure 4c, its caption 4d. The
data: `GROK_JAX_DATA/imdb`, `task.folder`, or `grok_jax.tasks.reading.fetch("imdb")`.
The level of 70% and what counts as much are ours.

`cpu`: as many reviews as in the paper, but fewer words of each in a smaller network.
`paper` has the sizes and the rate of App. A, `script` those of the authors' script,
which differ (hidden 256, rate 3e-4, gradients clipped at 5); the steps of both are the
script's.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, late, panels, presets, sheet, tested, typical

PAPER = dict(
    task=dict(length=500),
    model=dict(embedding=64, hidden=128),
    train=dict(steps=75_000),
    sweep=dict(seed=tuple(range(100, 105))),
)

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
        sweep=dict(
            init_scale=(1.0, 6.0), weight_decay=(0.0, 1.0), seed=(100, 101, 102)
        ),
        zip=("init_scale+weight_decay",),
    ),
    smoke=dict(
        task=dict(train_size=20, test_size=10, length=8),
        model=dict(embedding=4, hidden=5),
        train=dict(steps=20, records=5, batch_size=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=PAPER,
    script=dict(
        PAPER,
        model=dict(embedding=64, hidden=256),
        optimizer=dict(learning_rate=3e-4, clip_norm=5.0),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    best = results.test_accuracy.max("step")
    more = best - at(results.test_accuracy, results.t_train)
    large, usual = (more.sel(init_scale=alpha) for alpha in (6.0, 1.0))
    grokked = results.sel(init_scale=6.0)
    ratio = late(grokked.t_test) / grokked.t_train
    return [
        tested(
            "O3a",
            "Sec. 4, Fig. 4d",
            "alpha = 6 with weight decay 1: overfitted early, generalised later",
            typical("t_test / t_train", ratio, ">=", 3),
            typical("best test accuracy - at t_train", large, ">", 0.05),
            less="the fit at some 100 steps, the rise from some 1,000",
        ),
        tested(
            "O3b",
            "Sec. 4, Fig. 4d",
            "alpha = 1 without weight decay: the test accuracy hardly improves once "
            "the reviews are overfitted",
            typical("best test accuracy - at t_train", usual, "<=", 0.1),
            typical("that / that at alpha = 6", usual / large, "<=", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    title = "α = {:g}, γ = {weight_decay:g}"
    draw = partial(plot.accuracies, each=True)
    alphas = panels(results, "init_scale", title, draw)
    return sheet(*alphas, ("", partial(norms, each=True), results))
