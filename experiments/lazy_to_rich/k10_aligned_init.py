"""K10 (Kumar et al. 2024, Fig. 10): a partly aligned start removes the bump.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k10_aligned_init.py \
        --workdir=runs/k10

The committee machine from random weights plus a share c of an exact solution
(w_i +- beta / sqrt(alpha epsilon) in turn: wbar = 0, M = beta beta^T / (alpha
epsilon)), alpha = 1.

`cpu`: D = 50, N = 300, P = 220 (the paper: 100, 500, 550), c 0..0.4, 3 seeds, 6,000
steps; under a minute on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K10 aligned initialisation",
        description="a share of the solution in the initial weights",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(population_risk={}, kernel_alignment=dict(every=10, points=300)),
        train=dict(steps=6_000, records=80),
        sweep=dict(aligned_share=(0.0, 0.02, 0.05, 0.1, 0.2, 0.4), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(aligned_share=(0.0, 0.2), seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=100, train_size=550),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def bumps(results: xr.Dataset) -> xr.DataArray:
    """Rise of the risk above its start, as a share of the start."""
    risk = results.population_risk
    return risk.max("step") / risk.isel(step=0) - 1


def claims(results: xr.Dataset) -> list[Claim]:
    bump = bumps(results).transpose("aligned_share", "seed")
    shares = results.aligned_share.values
    cka = results.cka_centered_test.isel(step=0).transpose("aligned_share", "seed")
    small = float(shares[-1])
    return [
        Claim(
            "K10a",
            "10",
            "without an aligned part the test loss rises first",
            "rise > 2% of the start, every seed",
            spread(bump.values[0]),
            bool((bump.values[0] > 0.02).all()),
        ),
        Claim(
            "K10b",
            "10",
            "the rise shrinks with every larger aligned part",
            "non-increasing in the share, every seed",
            {
                f"share {s:g}": v
                for s, v in zip(shares, bump.median("seed").values, strict=True)
            },
            bool((np.diff(bump.values, axis=0) <= 1e-3).all()),
        ),
        Claim(
            "K10c",
            "10",
            f"and vanishes with a small one (share <= {small:g})",
            "rise < 0.5% at the largest share, every seed",
            spread(bump.values[-1]),
            bool((bump.values[-1] < 0.005).all()),
        ),
        Claim(
            "K10d",
            "10",
            "the aligned part raises the initial kernel-task alignment",
            "centred CKA at step 0 grows with the share, every seed",
            {
                f"share {s:g}": v
                for s, v in zip(shares, cka.median("seed").values, strict=True)
            },
            bool((np.diff(cka.values, axis=0) > 0).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 2, 4.2, 3.2)
    shares = results.aligned_share.values
    for share, color in zip(shares, plot.family_colors(len(shares)), strict=True):
        run = results.sel(aligned_share=share)
        run = run / run.isel(step=0)
        plot.curves(
            axes[0, 0], run, "population_risk", color=color, label=f"share {share:g}"
        )
    plot.log_steps(axes[0, 0])
    axes[0, 0].set_ylabel("test loss / test loss at step 0")
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_title("(a) test loss")
    bump = 100 * bumps(results).transpose("aligned_share", "seed")
    axes[0, 1].plot(shares, bump.values, "o", color="0.6", ms=4)
    axes[0, 1].plot(shares, bump.median("seed"), color="tab:red")
    axes[0, 1].set_xlabel("aligned share")
    axes[0, 1].set_ylabel("rise of the test loss above its start (%)")
    axes[0, 1].set_title("(b) the bump")
    return drawing
