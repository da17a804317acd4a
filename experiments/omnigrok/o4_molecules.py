"""O4 (Liu et al. 2023, Fig. 5a, b): grokking on molecules.

    python -m grok_jax.launch --config=experiments/omnigrok/o4_molecules.py \
        --workdir=runs/o4_molecules

A graph network predicts the isotropic polarizability of QM9's molecules (bohr^3), mean
squared error, Adam at 1e-3 in batches of 32, no weight decay: at 3 times PyTorch's
initialisation the test loss falls long after the train loss, at the usual one with it.
The molecules are those of `qm9pack` (`pip install grok_jax[qm9]`) or of a data folder.

`cpu`: 100 molecules for training and 100 for testing of the first 1,000, 3 seeds,
50,000 steps (within 20,000 two of three seeds have not come down); about five minutes
on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O4 molecules",
        description="QM9: large initialisation, no weight decay",
        task=dict(name="qm9", molecules=1000, train_size=100, test_size=100),
        model=dict(name="gcn"),
        loss=dict(name="squared_error", tolerance=1.0),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=50_000, records=100, batch_size=32),
        sweep=dict(init_scale=(1.0, 3.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(molecules=100, train_size=12, test_size=8),
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
        train=dict(steps=30, records=8, batch_size=6),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(molecules=100_000),
        train=dict(steps=100_000),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def times(results: xr.Dataset, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(t_train, t_test) [seed]: the first step with the loss below 1% of what the usual
    network has at step 0, which is about the mean square of the targets."""
    order = ("seed", "step")
    level = 0.01 * results.train_loss.sel(init_scale=1.0).isel(step=0).values
    train, test = (
        results[name].sel(init_scale=alpha).transpose(*order).values / level[:, None]
        for name in ("train_loss", "test_loss")
    )
    steps = results.step.values
    return tuple(
        np.asarray(measures.first_step_falling(steps, curve, 1.0))
        for curve in (train, test)
    )


def claims(results: xr.Dataset) -> list[Claim]:
    t_train, t_test = times(results, 3.0)
    u_train, u_test = times(results, 1.0)
    return [
        Claim(
            "O4a",
            "5a",
            "alpha = 3: the test loss falls long after the train loss",
            "below 1% of the targets' mean square at t_test >= 3 t_train, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((t_test >= 3 * t_train).all()),
        ),
        Claim(
            "O4b",
            "5b",
            "alpha = 1: with it",
            "t_test <= 2 t_train, every seed",
            {"t_train": u_train, "t_test": u_test},
            bool((u_test <= 2 * u_train).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 3, 3.8, 3.0)
    for axis, alpha in zip(axes[0], (1.0, 3.0), strict=False):
        plot.losses(axis, results.sel(init_scale=alpha))
        axis.set_yscale("log")
        axis.set_title(f"α = {alpha:g}")
    for alpha, color in ((1.0, "0.4"), (3.0, "tab:orange")):
        run = results.sel(init_scale=alpha)
        label = f"α = {alpha:g}"
        plot.curves(axes[0, 2], run, "weight_norm", color=color, label=label)
    plot.log_steps(axes[0, 2])
    axes[0, 2].set_ylabel("weight norm")
    axes[0, 2].legend(fontsize=7)
    return drawing
