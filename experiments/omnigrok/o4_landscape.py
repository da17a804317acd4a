"""O4 (Liu et al. 2023, Fig. 5c): L and U on molecules.

    python -m grok_jax.launch --config=experiments/omnigrok/o4_landscape.py \
        --workdir=runs/o4_landscape

The network of `o4_molecules.py` trained by Adam at 1e-3 on the sphere of norm alpha
times that of its initialisation, for several numbers N of molecules; the reduced loss
is the least along the run.

`cpu`: 7 norms, N = 30, 100, 300 (the paper: up to 10,000), 3 seeds, 2,000 steps (the
paper: 10,000); about four minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O4 landscape",
        description="QM9: reduced loss against the norm",
        task=dict(name="qm9", molecules=1000, test_size=100),
        model=dict(name="gcn"),
        loss=dict(name="squared_error", tolerance=1.0),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=25, batch_size=30),
        sweep=dict(
            init_scale=logspace(0.1, 10, 7), train_size=(30, 100, 300), seed=(0, 1, 2)
        ),
    )
    smoke = dict(
        task=dict(molecules=100, test_size=8),
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
        train=dict(steps=20, records=5, batch_size=6),
        sweep=dict(init_scale=logspace(0.1, 10, 3), train_size=(12, 24), seed=(0, 1)),
    )
    paper = dict(
        task=dict(molecules=20_000, test_size=1000),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21), train_size=(10, 100, 1000, 10_000)
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run."""
    return results[["train_loss", "test_loss"]].min("step")


def claims(results: xr.Dataset) -> list[Claim]:
    alphas, sizes = results.init_scale.values, results.train_size.values
    losses = reduced(results).median("seed").transpose("train_size", "init_scale")
    train, test = losses.train_loss.values, losses.test_loss.values
    ends = test[:, [0, -1]] / test.min(axis=1, keepdims=True)
    gap = np.asarray(measures.lu_mismatch(alphas, train, test, floor=1e-2))
    return [
        Claim(
            "O4c",
            "5c",
            "the test loss is a U over the norm",
            "both ends >= 2x the minimum, every N (median over seeds)",
            {f"N = {n}": e for n, e in zip(sizes, ends, strict=True)},
            bool((ends >= 2).all()),
        ),
        Claim(
            "O4c2",
            "5c",
            "the gap between L and U shrinks as the data grow",
            "mismatch in decades falls with N (median over seeds)",
            {f"N = {n}": g for n, g in zip(sizes, gap, strict=True)},
            bool((np.diff(gap) < 0).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses, sizes = reduced(results), results.train_size.values
    drawing, axes = plot.panels(1, len(sizes), 3.5, 3.0)
    for axis, size in zip(axes[0], sizes, strict=True):
        plot.landscape(axis, losses.sel(train_size=size))
        axis.set_title(f"N = {size}")
    return drawing
