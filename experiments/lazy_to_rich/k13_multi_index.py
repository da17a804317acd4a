"""K13 (Kumar et al. 2024, Fig. 14): targets of several directions.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k13_multi_index.py \
        --workdir=runs/k13_multi_index

y = sum_k (beta_k . x)^2 / 2 over 1, 2 and 3 directions, more data for more directions.

`cpu`: D = 50, N = 300 (the paper: 100, 500), P = 220, 300, 400, 3 seeds, 10,000 steps;
about two minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K13 multi-index",
        description="one, two and three directions",
        task=dict(name="polynomial", input_dim=50),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=80),
        sweep=dict(directions=(1, 2, 3), train_size=(220, 300, 400), seed=(0, 1, 2)),
        zip=("directions+train_size",),
    )
    smoke = dict(
        task=dict(input_dim=8, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(train_size=(30, 40, 50), seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=100),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(train_size=(450, 700, 900), seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    out = []
    for letter, count in zip("abc", results.directions.values, strict=True):
        run = results.sel(directions=count).transpose("seed", ...)
        t_train, t_test = measures.grokking_times(
            results.step.values, run.train_loss.values, run.test_loss.values
        )
        lag = np.asarray(t_test) / np.asarray(t_train)
        end = run.test_loss.isel(step=-1) / run.test_loss.isel(step=0)
        out.append(
            Claim(
                f"K13{letter}",
                "14",
                f"{count} direction(s): the network groks in the loss",
                "t_test >= 3 t_train, test loss ends < 0.15 of start, every seed",
                {"t_train": t_train, "t_test": t_test, "end / start": spread(end)},
                bool((lag >= 3).all() and (end < 0.15).all()),
            )
        )
    return out


def figure(results: xr.Dataset) -> Figure:
    counts = results.directions.values
    drawing, axes = plot.panels(1, len(counts), 3.6, 3.0)
    for axis, count in zip(axes[0], counts, strict=True):
        run = results.sel(directions=count)
        plot.losses(axis, run)
        axis.set_title(f"{count} direction(s), P = {run.train_size.item()}")
    return drawing
