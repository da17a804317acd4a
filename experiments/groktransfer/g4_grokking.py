"""G4 (Xu et al. 2025, Fig. 4a): a wide network groks XOR clusters.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_grokking.py \
        --workdir=runs/g4_grokking

A two-layer ReLU network without biases on 400 examples of two coordinates of signal,
whose product is the label, and 79,998 of noise 0.05; exponential loss, full-batch
gradient descent, PyTorch's initialisation. r_W is the size of a weight on noise beside
one on signal.

The paper's weight decay is 0.1, and two readings are run and judged: that of PyTorch's
SGD, by which a step shrinks the weights by learning rate times decay (0.01), and that
of the paper's formula, theta <- (1 - lambda) theta - lr gradient (0.1). Under the
latter decay outruns the gradient and the weights go to zero.

`cpu`: width 256 (the paper: 2048), two runs at a time, which keeps it under 4 GiB.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, last, panels, presets, sheet, shown, tested, times

READINGS = {0.01: "learning rate times decay", 0.1: "decay as it is"}
"""Share of the weights that a step takes -> the reading of the paper's 0.1."""

get_config = presets(
    dict(
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
        sweep=dict(weight_decay=tuple(READINGS), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(dimension=200, train_size=20, test_size=20),
        model=dict(width=10),
        train=dict(steps=20, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        model=dict(width=2048),
        train=dict(steps=400, records=200),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        claim
        for note, (decay, reading) in zip(("", "2"), READINGS.items(), strict=True)
        for claim in claims_of(results.sel(weight_decay=decay), reading, note)
    ]


def claims_of(runs: xr.Dataset, reading: str, note: str) -> list[Claim]:
    """The claims under one reading of the decay."""
    t_train, accuracy = runs.t_train, runs.test_accuracy
    early = every("t_train", t_train, "<=", 10)
    late = every("t_test", runs.t_test, ">=", times(5, "t_train", t_train))
    end = every("test accuracy at the end", last(accuracy), ">=", 0.95)
    best = shown("best", accuracy.max("step"))
    fits, ends = "it overfits within a few steps", "and it ends generalised"
    return [
        tested(f"G4e{note}", "Fig. 4a", f"{reading}: {fits}", early),
        tested(f"G4f{note}", "Fig. 4a", f"{reading}: it generalises long after", late),
        tested(f"G4g{note}", "Fig. 4a", f"{reading}: {ends}", end, best),
    ]


def figure(results: xr.Dataset) -> Figure:
    readings = [READINGS[decay] for decay in results.weight_decay.values]
    named = results.assign_coords(reading=("weight_decay", readings))
    family = partial(plot.family, over="weight_decay", symbol="λ", log=True)
    ratio = partial(family, kind="norm_ratio", label="noise / signal, r_W")
    return sheet(
        *panels(named, "weight_decay", "{reading}: λ = {:g}", plot.accuracies),
        ("", ratio, results),
        ("", partial(family, kind="train_loss"), results),
    )
