"""K13 (Kumar et al. 2024, Fig. 15): Hermite targets of degree 2, 3 and 4.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k13_hermite.py \
        --workdir=runs/k13_hermite

y = He_k(beta . x) / 2 with |beta|^2 = D and phi(z) = z + (epsilon / 2) He_k(z). For
even k the constant terms of target and network agree where alpha epsilon = 1 (elsewhere
the test loss keeps a floor: a network of 500 units without bias cannot make one up).

`cpu`: D = 10, N = 500 (the paper: 100, 500), alpha = 2, 3 seeds, 40,000 steps; P and
the rates from trials on seeds 10 and 11: fewer data lengthen the delay, too few leave
no generalisation; at a rate of 0.02 one run of degree 4 diverges. About six minutes on
two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K13 Hermite",
        description="target and activation of degree 2, 3 and 4",
        task=dict(name="polynomial", input_dim=10),
        model=dict(name="committee", width=500, output_scale=2.0),
        optimizer=dict(name="gradient_descent", rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=40_000, records=80),
        sweep=dict(
            task=dict(degree=(2, 3, 4), train_size=(50, 600, 250)),
            model=dict(degree=(2, 3, 4), epsilon=(0.5, 1.0, 0.5)),
            learning_rate=(0.2, 0.05, 0.005),
            seed=(0, 1, 2),
        ),
        zip=("task.degree+model.degree+train_size+epsilon+learning_rate",),
    )
    smoke = dict(
        task=dict(input_dim=4, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(task=dict(train_size=(20, 30, 40)), seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=30),
        train=dict(steps=100_000),
        sweep=dict(task=dict(train_size=(200, 4000, 8000)), seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    out = []
    for letter, count in zip("def", results.task_degree.values, strict=True):
        run = results.sel(task_degree=count).transpose("seed", ...)
        t_train, t_test = measures.grokking_times(
            results.step.values, run.train_loss.values, run.test_loss.values
        )
        lag = np.asarray(t_test) / np.asarray(t_train)
        end = run.test_loss.isel(step=-1) / run.test_loss.isel(step=0)
        out.append(
            Claim(
                f"K13{letter}",
                "15",
                f"degree {count}: the network groks in the loss",
                "t_test >= 3 t_train, test loss ends < 0.15 of start, every seed",
                {"t_train": t_train, "t_test": t_test, "end / start": spread(end)},
                bool((lag >= 3).all() and (end < 0.15).all()),
            )
        )
    return out


def figure(results: xr.Dataset) -> Figure:
    counts = results.task_degree.values
    drawing, axes = plot.panels(1, len(counts), 3.6, 3.0)
    for axis, count in zip(axes[0], counts, strict=True):
        run = results.sel(task_degree=count)
        plot.losses(axis, run)
        axis.set_title(f"degree {count}, P = {run.train_size.item()}")
    return drawing
