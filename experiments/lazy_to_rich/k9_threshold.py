"""K9 (Kumar et al. 2024, Figs. 17 and 18): the threshold of an accuracy is a choice.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_threshold.py \
        --workdir=runs/k9_threshold

The runs of `k9_teacher_student.py` at alpha = 1, an example counting as right below one
of several thresholds: how long the accuracies lie apart depends on it (a mirage, after
Schaeffer et al. 2023), the delay of the loss curves does not.

`cpu`: thresholds 1e-4..1e-1, 3 seeds, 60,000 steps; about a minute on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K9 threshold",
        description="accuracy groks with the threshold, the loss does not",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh", init_scale=2.0),
        loss=dict(name="squared_error", outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(tolerance=(1e-3, 1e-2, 1e-1), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        sweep=dict(tolerance=(1e-4, 1e-3, 1e-2, 1e-1), seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    order = ("tolerance", "seed")
    gap = (results.t_test - results.t_train).transpose(*order).values
    losses = results[["train_loss", "test_loss"]].transpose(*order, "step")
    apart = max(
        float(np.nanmax(np.abs(losses[name] - losses[name].isel(tolerance=0))))
        for name in losses
    )
    t_train, t_test = measures.grokking_times(
        results.step.values, losses.train_loss.values[0], losses.test_loss.values[0]
    )
    lag = np.asarray(t_test) / np.asarray(t_train)
    names = [f"threshold {v:g}" for v in results.tolerance.values]
    return [
        Claim(
            "K9d",
            "17, 18",
            "the delay in accuracy depends on the threshold",
            "t_test - t_train falls as the threshold grows, >= 10x in all, every seed",
            dict(zip(names, gap, strict=True)),
            bool((np.diff(gap, axis=0) < 0).all() and (gap[0] >= 10 * gap[-1]).all()),
        ),
        Claim(
            "K9e",
            "17, 18",
            "the loss curves do not depend on it",
            "largest difference of a loss between thresholds is 0 (map mode: the same "
            "bits)",
            apart,
            apart == 0,
        ),
        Claim(
            "K9f",
            "17, 18",
            "and they lie apart by themselves",
            "test loss below 10% of its peak at >= 10x the step where the train loss "
            "is below 5% of its start, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((lag >= 10).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    tolerances = results.tolerance.values
    drawing, axes = plot.panels(1, 1 + len(tolerances), 3.4, 3.0)
    plot.losses(axes[0, 0], results.isel(tolerance=0))
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_title("loss, at every threshold")
    for i, (axis, tolerance) in enumerate(zip(axes[0, 1:], tolerances, strict=True)):
        plot.accuracies(axis, results.isel(tolerance=i))
        axis.set_title(f"threshold {tolerance:g}")
    return drawing
