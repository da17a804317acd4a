"""O3 (Liu et al. 2023, Fig. 4a, b): grokking on film reviews.

    python -m grok_jax.launch --config=experiments/omnigrok/o3_reviews.py \
        --workdir=runs/o3_reviews

A two-layer LSTM tells good from bad reviews of IMDb (the 1,000 most frequent words of
the train split), binary cross-entropy, AdamW at 1e-3 in batches of 50: at 6 times
PyTorch's initialisation with weight decay 1, beside the usual one without. The data:
`GROK_JAX_DATA/imdb`, `task.folder`, or `grok_jax.tasks.files.fetch("imdb")`.

`cpu`: 750 reviews for training and 250 for testing as in the paper, but 100 words of
each (the paper: 500), 32 numbers a word (64), 32 hidden units (128) and 3 seeds, 8,000
steps; about four minutes on two cores.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
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
    )
    smoke = dict(
        task=dict(train_size=20, test_size=10, length=8),
        model=dict(embedding=4, hidden=5),
        train=dict(steps=20, records=5, batch_size=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(length=500),
        model=dict(embedding=64, hidden=128),
        train=dict(steps=20_000),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = results.sel(init_scale=6.0), results.sel(init_scale=1.0)
    t_train, t_test = large.t_train.values, large.t_test.values
    fitted = large.test_accuracy.sel(step=large.t_train.fillna(0).astype(int)).values
    best = large.test_accuracy.max("step").values
    return [
        Claim(
            "O3a",
            "4a",
            "alpha = 6: fitted early, generalised later",
            "70% test accuracy at t_test >= 3 t_train (99% train accuracy), every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((t_test >= 3 * t_train).all()),
        ),
        Claim(
            "O3a2",
            "4a",
            "alpha = 6: the test accuracy rises after the fit",
            "best - at t_train > 0.05, every seed",
            {"at t_train": fitted, "best": best},
            bool((best - fitted > 0.05).all()),
        ),
        Claim(
            "O3b",
            "4b",
            "alpha = 1 without weight decay: no delay",
            "70% test accuracy before 99% train accuracy, every seed",
            {"t_train": usual.t_train.values, "t_test": usual.t_test.values},
            bool(measures.reached_by(usual.t_test.values, usual.t_train.values).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.0)
    for axis, alpha, decay in zip(axes[0], (1.0, 6.0), (0, 1), strict=False):
        plot.accuracies(axis, results.sel(init_scale=alpha))
        axis.set_title(f"α = {alpha:g}, γ = {decay}")
    for alpha, color in ((1.0, "0.4"), (6.0, "tab:orange")):
        run = results.sel(init_scale=alpha)
        label = f"α = {alpha:g}"
        plot.curves(axes[0, 2], run, "weight_norm", color=color, label=label)
    plot.log_steps(axes[0, 2])
    axes[0, 2].set_ylabel("weight norm")
    axes[0, 2].legend(fontsize=7)
    return drawing
