"""K8 (Kumar et al. 2024, Fig. 7): init scale and output scale are one laziness.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k8_collapse.py \
        --workdir=runs/k8

Centred committee machine; init scale sigma against output scale alpha, learning rate
eta0 / (alpha sigma)^2. Relative parameter change and final test loss as functions of
sigma^2 alpha alone. The activation has a linear part, so that the collapse is not
exact; cells of one sigma^2 alpha are compared.

`cpu`: D = 30, N = 100, P = 150 (the paper: 100, 500, 550); sigma 1/2..2 by alpha
1/4..16, 3 seeds, 10,000 steps; under a minute on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

SIGMAS = (0.5, 1.0, 2.0)


def get_config(preset: str = "cpu"):
    base = dict(
        name="K8 collapse",
        description="init scale against output scale",
        task=dict(name="polynomial", input_dim=30, train_size=150),
        model=dict(name="committee", width=100, epsilon=0.25, centered=True),
        optimizer=dict(name="gradient_descent", rule="lazy"),
        observe=dict(norms={}, population_risk={}),
        train=dict(steps=10_000, records=80),
        sweep=dict(
            init_scale=SIGMAS,
            learning_rate=tuple(1 / s**2 for s in SIGMAS),
            output_scale=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
            seed=(0, 1, 2),
        ),
        zip=("init_scale+learning_rate",),
    )
    smoke = dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=10),
        sweep=dict(output_scale=(0.25, 1.0, 4.0), seed=(0, 1)),
    )
    paper_sigmas = (0.125, 0.25, 0.5, 1.0, 2.0)
    paper = dict(
        task=dict(input_dim=100, train_size=550),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(
            init_scale=paper_sigmas,
            learning_rate=tuple(0.5 / s**2 for s in paper_sigmas),
            output_scale=tuple(2.0**k for k in range(-4, 7)),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def cells(results: xr.Dataset, variable: str) -> tuple[np.ndarray, np.ndarray]:
    """(sigma^2 alpha [cells], last value [cells, seed])."""
    values = results[variable].transpose("init_scale", "output_scale", "seed", "step")
    last = np.asarray(measures.last_recorded(values.values))
    last = np.where(results.diverged.transpose(*values.dims[:3]).values, np.nan, last)
    laziness = np.outer(results.init_scale.values**2, results.output_scale.values)
    return laziness.ravel(), last.reshape(laziness.size, -1)


def claims(results: xr.Dataset) -> list[Claim]:
    out = []
    for letter, variable, name in (
        ("a", "relative_displacement", "relative parameter change |w - w0| / |w0|"),
        ("b", "population_risk", "final test loss"),
    ):
        laziness, last = cells(results, variable)
        shared = [v for v in np.unique(laziness) if np.sum(laziness == v) > 1]
        ratios = {}
        for value in shared:
            group = last[laziness == value]
            ratios[f"sigma^2 alpha {value:g}"] = float(
                np.max(group.max(axis=0) / group.min(axis=0))
            )
        middle = np.nanmedian(last, axis=1)
        worst = max(ratios.values())
        order = np.argsort(laziness)
        trend = float(measures.spearman(laziness[order], middle[order]))
        sign = -1 if letter == "a" else 1
        out.append(
            Claim(
                f"K8{letter}",
                "7d-f",
                f"{name} is a function of sigma^2 alpha",
                "cells of one sigma^2 alpha within a factor 1.25, every seed; rank "
                f"correlation with it {'<= -0.9' if sign < 0 else '>= 0.9'}",
                {"largest ratio": worst, "rank correlation": trend, **ratios},
                bool(worst <= 1.25 and sign * trend >= 0.9),
            )
        )
    return out


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.2)
    sigmas, alphas = results.init_scale.values, results.output_scale.values
    one = results.sel(init_scale=1.0)
    for alpha, color in zip(alphas, plot.family_colors(len(alphas)), strict=True):
        run = one.sel(output_scale=alpha)
        plot.curves(axes[0, 0], run, "train_loss", color=color, style="--")
        plot.curves(
            axes[0, 0], run, "population_risk", color=color, label=f"α = {alpha:g}"
        )
    plot.log_steps(axes[0, 0])
    axes[0, 0].set_title("(a) output scale at σ = 1")
    axes[0, 0].set_ylabel("loss (dashed: train)")
    axes[0, 0].legend(fontsize=6)
    for axis, variable, label in (
        (axes[0, 1], "relative_displacement", "|w - w0| / |w0| at the end"),
        (axes[0, 2], "population_risk", "test loss at the end"),
    ):
        laziness, last = cells(results, variable)
        count = len(alphas)
        for row, sigma in enumerate(sigmas):
            part = slice(row * count, (row + 1) * count)
            axis.plot(laziness[part], np.median(last[part], axis=1), "o-", ms=4)
            axis.lines[-1].set_label(f"σ = {sigma:g}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("σ² α")
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    axes[0, 1].set_title("(b) collapse of the movement")
    axes[0, 2].set_title("(c) collapse of the test loss")
    return drawing
