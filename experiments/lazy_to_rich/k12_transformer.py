"""K12 (Kumar et al. 2024, Fig. 13 and Sec. 14): the transformer and its linearisation.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_transformer.py \
        --workdir=runs/k12_transformer

The transformer of `k7_transformer.py` beside its linearisation at step 0, trained by
the same AdamW: where the two curves agree the network is lazy, and what the
linearisation never learns has needed features.

`cpu`: addition modulo 59 on 40% of the pairs (the paper: 113, 30%), alpha = 1, weight
decay 1, 3 seeds, 8,000 steps; about six minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K12 transformer",
        description="modular addition beside the linearised network",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98, weight_decay=1.0),
        observe=dict(norms={}),
        train=dict(steps=8000, records=100),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        sweep=dict(linearized=(False, True), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=40, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(modulus=113, train_fraction=0.3),
        train=dict(steps=20_000),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    full, lazy = (
        results.isel(linearized=i).transpose("seed", "step", ...) for i in (0, 1)
    )
    t_train, t_test = full.t_train.values, full.t_test.values
    start = full.train_loss.isel(step=0).values
    early = full.train_loss.values > 0.9 * start[:, None]
    gap = np.abs(full.train_loss - lazy.train_loss).values / start[:, None]
    apart = np.where(early, gap, 0).max(axis=1)
    peak = full.test_loss.max("step").values / full.test_loss.isel(step=0).values
    best = lazy.test_accuracy.max("step").values
    return [
        Claim(
            "K12t1",
            "13",
            "the transformer fits early and generalises late",
            "t_test >= 5 t_train, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((t_test >= 5 * t_train).all()),
        ),
        Claim(
            "K12t2",
            "13",
            "its test loss has a bump",
            "peak > 1.02 of the start, every seed",
            spread(peak),
            bool((peak > 1.02).all()),
        ),
        Claim(
            "K12t3",
            "13",
            "early on the linearised network does the same",
            "train losses within 5% of the start while the network is above 90% "
            "of it, every seed",
            spread(apart),
            bool((apart < 0.05).all()),
        ),
        Claim(
            "K12t4",
            "13",
            "the linearised network does not generalise",
            "best test accuracy < 50%, every seed",
            spread(best),
            bool((best < 0.5).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 2, 4.2, 3.1)
    for i, (style, name) in enumerate((("-", ""), ("--", ", linearised"))):
        run = results.isel(linearized=i)
        for split, color in (("train", plot.TRAIN), ("test", plot.TEST)):
            for axis, kind in zip(axes[0], ("accuracy", "loss"), strict=True):
                plot.curves(
                    axis,
                    run,
                    f"{split}_{kind}",
                    color=color,
                    style=style,
                    label=f"{split}{name}",
                )
    for axis, kind in zip(axes[0], ("accuracy", "loss"), strict=True):
        plot.log_steps(axis)
        axis.set_ylabel(kind)
        axis.legend(fontsize=7)
    axes[0, 1].set_yscale("log")
    return drawing
