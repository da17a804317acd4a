"""G4 (Xu et al. 2025, Figs. 4b, 4c, 9 to 11): what few neurons learn of XOR clusters.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_weak.py \
        --workdir=runs/g4_weak

The data, loss and descent of `g4_grokking.py`, with networks of one to four neurons,
hidden weights from N(0, 0.01), outputs from N(0, 0.0001). Weight decay is 0.1 times the
learning rate, the reading under which the wide network keeps what it groks. Along
training, the accuracies, how close each neuron is to one of the four directions
(+-1, +-1), and what a network of width 2048 on those neurons (Theorem 3.2, weights
+-0.4) knows after one step: at the learning rate 2 of Fig. 9, and at the theorem's
largest, 0.4 sqrt(2048).

A network of m neurons is right on at most m of four clusters (Lemma 3.1), up to chance
on the test set: three standard deviations. Three neurons may find only two of the
directions; a claim that needs three of them is about the seeds that have three, and
says how many they are.

`cpu` has the paper's sizes.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, presets, sheet, shown, tested
from grok_jax.theory import xor

TESTED = 1000
STEP = {"": "at learning rate 2", "largest_": "at the largest learning rate"}
"""The one step: prefix of its variables -> its learning rate."""

get_config = presets(
    dict(
        name="G4 weak networks",
        description="XOR clusters: one to four neurons",
        task=dict(
            name="xor_clusters", dimension=80_000, train_size=400, test_size=TESTED
        ),
        model=dict(name="cluster_net", noise=0.05, init="gaussian"),
        loss=dict(name="exponential"),
        optimizer=dict(name="gradient_descent", learning_rate=0.1, weight_decay=0.01),
        observe=dict(
            xor_norms={},
            parameter_snapshots=dict(leaf="signal"),
            xor_one_step=dict(every=5),
        ),
        train=dict(steps=600, records=50, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(width=(1, 2, 3, 4), seed=tuple(range(5)), draw=tuple(range(5))),
        zip=("seed+draw",),
    ),
    smoke=dict(
        task=dict(dimension=50, train_size=20),
        observe=dict(xor_one_step=dict(target_width=64)),
        train=dict(steps=20, records=10),
        sweep=dict(width=(1, 2, 3), seed=(0, 1), draw=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=2000, records=200),
        sweep=dict(seed=tuple(range(20)), draw=tuple(range(20))),
    ),
)


def chance(share: float) -> float:
    """Three standard deviations of an accuracy `share` on the test set."""
    return 3 * float(np.sqrt(share * (1 - share) / TESTED))


def claims(results: xr.Dataset) -> list[Claim]:
    end, half = results.isel(step=-1), 0.5 + chance(0.5)
    one, three, bound = end.sel(width=1), end.sel(width=3), xor.best_accuracy(3)
    close = abs(three.test_accuracy - bound) <= chance(bound)
    about = every(
        f"share of seeds within {chance(bound):.1%} of it", close.mean(), ">", 0.5
    )
    nearest = three.directions.isel(directions_0=slice(3))
    near = every("cosine", nearest.min("directions_0", skipna=False), ">", 0.95)
    axes = [["parameter_0", "parameter_1"]]
    found = xr.apply_ufunc(xor.directions_found, three.parameter, input_core_dims=axes)
    share = every("share of seeds with three", (found == 3).mean(), ">", 0.5)
    whole = share, shown("directions", found)
    each, they = "three neurons: each ends", "three neurons: they end"
    return [
        at_most("G4a", "Fig. 4b", "three neurons", results.sel(width=3)),
        tested(
            "G4a2",
            "Fig. 4b",
            "three neurons reach about 75% test accuracy",
            about,
            shown("train", three.train_accuracy),
            shown("test", three.test_accuracy),
        ),
        tested("G4b", "Fig. 4c", f"{each} near one of the directions (+-1, +-1)", near),
        tested("G4b2", "Fig. 4c", f"{they} near three of the four directions", *whole),
        at_most("G4c", "Fig. 10", "one neuron", results.sel(width=1)),
        at_most("G4c2", "Fig. 11", "two neurons", results.sel(width=2)),
        *(after_one_step(three.sel(seed=found == 3), prefix) for prefix in STEP),
        tested(
            "G4d3",
            "Fig. 10",
            "on one neuron no step can: of four clusters two at most are right",
            every(
                "accuracy at learning rate 2", one.one_step_test_accuracy, "<=", half
            ),
            every("at the largest", one.largest_one_step_test_accuracy, "<=", half),
        ),
    ]


def at_most(id: str, place: str, who: str, runs: xr.Dataset) -> Claim:
    """Lemma 3.1 for the runs of one width."""
    share, highest = xor.best_accuracy(int(runs.width)), runs.test_accuracy.max("step")
    said = f"{who}: the test accuracy is never above {share:.0%} but by chance"
    below = every("highest", highest, "<=", share + chance(share))
    return tested(id, place, said, below)


def after_one_step(runs: xr.Dataset, prefix: str) -> Claim:
    """Theorem 3.2 for the runs that have three directions."""
    train, test = (runs[f"{prefix}one_step_{name}_accuracy"] for name, _ in plot.SPLITS)
    right = every("train", train, ">=", 0.99), every("test accuracy", test, ">=", 0.99)
    return tested(
        "G4d2" if prefix else "G4d",
        "Fig. 9",
        f"on three directions one step {STEP[prefix]} classifies train and test",
        every("seeds with three directions", runs.sizes["seed"], ">=", 1),
        *(right if runs.sizes["seed"] else ()),
    )


def figure(results: xr.Dataset) -> Figure:
    after = partial(
        plot.family,
        over="width",
        symbol="m",
        kind="largest_one_step_test_accuracy",
        dashed="one_step_test_accuracy",
        label="test accuracy after one step",
    )
    three = results.sel(width=3).transpose("seed", "step", ...)
    return sheet(
        ("m neurons (dotted: m / 4)", accuracies, results),
        ("three neurons", cosines, three),
        ("three neurons at the end, by seed", endings, three.isel(step=-1)),
        ("one step (dashed: learning rate 2)", after, results),
    )


def accuracies(axis: Axes, results: xr.Dataset) -> None:
    plot.family(axis, results, "width", "m")
    widths = results.width.values
    for width, color in zip(widths, plot.family_colors(len(widths)), strict=True):
        plot.levels(axis, xor.best_accuracy(int(width)), color=color)


def cosines(axis: Axes, runs: xr.Dataset) -> None:
    for lines in runs.directions:
        axis.plot(runs.step, lines, color=plot.TRAIN, lw=0.9)
    axis.set_xlabel("step")
    axis.set_ylabel("cosine with the nearest direction")


def endings(axis: Axes, runs: xr.Dataset) -> None:
    """The signal parts of the neurons, and the four directions."""
    size = float(abs(runs.parameter).max())
    for x in (-size, size):
        axis.plot([-x, x], [-size, size], ":", color="0.6")
    colors = plot.family_colors(runs.sizes["seed"])
    for signal, color in zip(runs.parameter, colors, strict=True):
        axis.plot(*signal.values, "o", color=color, ms=5)
    axis.set_xlabel("weight on x₁")
    axis.set_ylabel("weight on x₂")
