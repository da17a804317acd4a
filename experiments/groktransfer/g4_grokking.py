"""G4 (Xu et al. 2025, Fig. 4a): a wide network groks XOR clusters.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_grokking.py \
        --workdir=runs/g4_grokking

A two-layer ReLU network without biases on 400 examples of two coordinates of signal,
whose product is the label, and 79,998 of noise 0.05; exponential loss, full-batch
gradient descent at rate 0.1, PyTorch's initialisation. The size of a weight on noise
beside one on signal is recorded.

The paper's weight decay is 0.1, and two readings are run and judged: that of PyTorch's
SGD, by which a step shrinks the weights by rate times decay (0.01), and that of the
paper's formula, theta <- (1 - lambda) theta - lr gradient (0.1). Under the latter decay
outruns the gradient and the weights go to zero.

`cpu`: width 256 (the paper: 2048), 3 seeds, 200 steps, two runs at a time, which keeps
it under 4 GiB; about four minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

READINGS = {0.01: "rate times decay", 0.1: "decay as it is"}
"""Share of the weights that a step takes -> the reading of the paper's 0.1."""


def get_config(preset: str = "cpu"):
    base = dict(
        name="G4 grokking",
        description="XOR clusters: a wide network",
        task=dict(name="xor_clusters", dimension=80_000, train_size=400),
        model=dict(name="cluster_net", width=256, noise=0.05),
        loss=dict(name="exponential"),
        optimizer=dict(name="gradient_descent", learning_rate=0.1),
        observe=dict(norms={}, xor_norms={}),
        train=dict(steps=200, records=100, spacing="linear"),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        engine=dict(runs_per_chunk=2),
        sweep={"optimizer.weight_decay": tuple(READINGS), "seed": (0, 1, 2)},
    )
    smoke = dict(
        task=dict(dimension=200, train_size=20, test_size=20),
        model=dict(width=10),
        train=dict(steps=20, records=10),
        sweep={"seed": (0, 1)},
    )
    paper = dict(
        model=dict(width=2048),
        train=dict(steps=400, records=200),
        sweep={"seed": tuple(range(5))},
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        claim
        for (decay, reading), note in zip(READINGS.items(), ("", "2"), strict=True)
        for claim in claims_of(results.sel(weight_decay=decay), reading, note)
    ]


def claims_of(runs: xr.Dataset, reading: str, note: str) -> list[Claim]:
    """The claims from the runs [seed, step] under one reading of the decay."""
    t_train, t_test = runs.t_train.values, runs.t_test.values
    accuracy = runs.test_accuracy.transpose("seed", "step").values
    end = np.asarray(measures.last_recorded(accuracy))
    return [
        Claim(
            f"G4e{note}",
            "4a",
            f"{reading}: it overfits within a few steps",
            "99% train accuracy at t_train <= 10, every seed",
            t_train,
            bool((t_train <= 10).all()),
        ),
        Claim(
            f"G4f{note}",
            "4a",
            f"{reading}: it generalises long after",
            "95% test accuracy at t_test >= 5 t_train, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((t_test >= 5 * t_train).all()),
        ),
        Claim(
            f"G4g{note}",
            "4a",
            f"{reading}: and it ends generalised",
            "test accuracy at the last step >= 95%, every seed",
            {"last": end, "best": accuracy.max(axis=1)},
            bool((end >= 0.95).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 4, 3.5, 2.9)
    colors = plot.family_colors(len(READINGS))
    for axis, (decay, reading), color in zip(
        axes[0], READINGS.items(), colors, strict=False
    ):
        run = results.sel(weight_decay=decay)
        plot.accuracies(axis, run)
        axis.set_title(f"{reading}: λ = {decay:g}")
        for other, variable in ((axes[0, 2], "norm_ratio"), (axes[0, 3], "train_loss")):
            label = f"λ = {decay:g}"
            plot.curves(other, run, variable, color=color, label=label)
    for axis, label in (
        (axes[0, 2], "noise / signal, r_W"),
        (axes[0, 3], "train loss"),
    ):
        axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    return drawing
