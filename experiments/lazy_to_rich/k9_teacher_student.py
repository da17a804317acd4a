"""K9 (Kumar et al. 2024, Fig. 8): the output scale on Omnigrok's teacher-student task.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_teacher_student.py \
        --workdir=runs/k9_teacher_student

Omnigrok makes the student grok by doubling its initial weights (AdamW at 3e-4, weight
decay 0.03; `omnigrok/o1_weight_decay.py`). Here the initial norm stays doubled and the
output scale alpha alone moves the delay, both ways; alpha = 1 is Omnigrok's run. Right
is a mean squared error below 0.001.

`cpu`: alpha 1/8..4, 3 seeds, at most 100,000 steps; about two minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K9 teacher-student",
        description="the output scale moves the delay both ways",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh", init_scale=2.0),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.5),
        sweep=dict(output_scale=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(output_scale=(0.125, 1.0, 4.0), seed=(0, 1)),
    )
    paper = dict(sweep=dict(seed=tuple(range(10))))
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    steps, scales = results.step.values[-1], results.output_scale.values
    t_train, t_test = (
        results[name].transpose("output_scale", "seed").values
        for name in ("t_train", "t_test")
    )
    gap = t_test - t_train
    least = np.where(np.isnan(t_test), steps - t_train, gap)  # a censored one is longer
    (usual,) = np.flatnonzero(scales == 1.0)
    return [
        Claim(
            "K9a",
            "8",
            "alpha = 1 is Omnigrok's grokking",
            "t_test >= 10 t_train, every seed",
            {"t_train": t_train[usual], "t_test": t_test[usual]},
            bool((t_test[usual] >= 10 * t_train[usual]).all()),
        ),
        Claim(
            "K9b",
            "8",
            "a small output scale removes the delay, at the same initial norm",
            "smallest alpha: t_test - t_train < 1/10 of that at alpha = 1, every seed",
            {"t_train": t_train[0], "t_test": t_test[0]},
            bool((gap[0] < gap[usual] / 10).all()),
        ),
        Claim(
            "K9c",
            "8",
            "a large output scale lengthens it",
            "largest alpha: t_test - t_train > twice that at alpha = 1, every seed (a "
            "run that never gets there counts with what was left of it)",
            {"t_train": t_train[-1], "t_test": t_test[-1], "at least": least[-1]},
            bool((least[-1] > 2 * gap[usual]).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.1)
    for axis, kind in zip(axes[0], ("accuracy", "loss"), strict=False):
        plot.family(axis, results, "output_scale", "α", kind)
    axes[0, 1].set_yscale("log")
    plot.times(axes[0, 2], results, "output_scale")
    return drawing
