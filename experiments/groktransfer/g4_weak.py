"""G4 (Xu et al. 2025, Figs. 4b, 4c, 9 to 11): what few neurons learn of XOR clusters.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_weak.py \
        --workdir=runs/g4_weak

The data, loss and descent of `g4_grokking.py`, with networks of one to four neurons,
hidden weights from N(0, 0.01), outputs from N(0, 0.0001). Weight decay is 0.1 times the
rate, the reading under which the wide network keeps what it groks. Along training, the
accuracies, how close each neuron is to one of the four directions (+-1, +-1), and what
a network of width 2048 on those neurons (Theorem 3.2, weights +-0.4) knows after one
step: at the rate 2 of Fig. 9, and at the theorem's largest, 0.4 sqrt(2048).

A net of m neurons is right on at most m of four clusters (Lemma 3.1), up to chance on
the 1,000 examples of the test set: three standard deviations. Three neurons may find
only two of the directions; a claim that needs three of them is about the seeds that
have three, and says how many they are.

`cpu`: the paper's sizes, 5 seeds, 600 steps; about two minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.theory import xor

TESTED = 1000
STEP = {"": "at Fig. 9's rate", "largest_": "at the theorem's largest rate"}
"""The one step: prefix of its variables -> its rate."""


def get_config(preset: str = "cpu"):
    base = dict(
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
        sweep=dict(
            model=dict(width=(1, 2, 3, 4)),
            seed=tuple(range(5)),
            observe=dict(xor_one_step=dict(draw=tuple(range(5)))),
        ),
        zip=("seed+draw",),
    )
    smoke = dict(
        task=dict(dimension=50, train_size=20),
        observe=dict(xor_one_step=dict(target_width=64)),
        train=dict(steps=20, records=10),
        sweep=dict(
            model=dict(width=(1, 2, 3)),
            seed=(0, 1),
            observe=dict(xor_one_step=dict(draw=(0, 1))),
        ),
    )
    paper = dict(
        train=dict(steps=2000, records=200),
        sweep=dict(
            seed=tuple(range(20)),
            observe=dict(xor_one_step=dict(draw=tuple(range(20)))),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def chance(share: float) -> float:
    """Three standard deviations of an accuracy `share` on the test set."""
    return 3 * float(np.sqrt(share * (1 - share) / TESTED))


def claims(results: xr.Dataset) -> list[Claim]:
    three = results.sel(width=3).transpose("seed", "step", ...)
    end = three.test_accuracy.isel(step=-1).values
    bound = xor.best_accuracy(3)
    near = three.directions.isel(step=-1).values[:, :3]
    signal = three.parameter.isel(step=-1).values[..., :3]
    found = np.asarray(xor.directions_found(signal))
    return [
        at_most("G4a", "4b", "three neurons", results.sel(width=3)),
        Claim(
            "G4a2",
            "4b",
            "three neurons reach about 75%",
            f"test accuracy at the end within {chance(bound):.1%} of 75%, more than "
            "half of the seeds",
            {"train": three.train_accuracy.isel(step=-1).values, "test": end},
            bool(np.mean(np.abs(end - bound) <= chance(bound)) > 0.5),
        ),
        Claim(
            "G4b",
            "4c",
            "three neurons: each ends near one of the directions (+-1, +-1)",
            "cosine with the nearest > 0.95, every neuron of every seed",
            near.min(axis=1),
            bool((near > 0.95).all()),
        ),
        Claim(
            "G4b2",
            "4c",
            "three neurons: they end near three of the four directions",
            "three different ones in more than half of the seeds",
            found,
            bool(np.mean(found == 3) > 0.5),
        ),
        at_most("G4c", "10", "one neuron", results.sel(width=1)),
        at_most("G4c2", "11", "two neurons", results.sel(width=2)),
        *(after_one_step(three.isel(seed=found == 3), prefix) for prefix in STEP),
        not_after_one_step(results.sel(width=1)),
    ]


def at_most(name: str, number: str, who: str, runs: xr.Dataset) -> Claim:
    """Lemma 3.1 for the runs [seed, step] of one width."""
    share = xor.best_accuracy(int(runs.width))
    highest = runs.test_accuracy.max("step").values
    return Claim(
        name,
        number,
        f"{who}: the test accuracy is never above {share:.0%} but by chance",
        f"<= {share + chance(share):.1%} at every record, every seed",
        highest,
        bool((highest <= share + chance(share)).all()),
    )


def one_step(runs: xr.Dataset, prefix: str, split: str) -> np.ndarray:
    """Accuracy [seed] after one step on the neurons as they are at the end."""
    return runs[f"{prefix}one_step_{split}_accuracy"].isel(step=-1).values


def after_one_step(runs: xr.Dataset, prefix: str) -> Claim:
    """Theorem 3.2 for the runs [seed, step] that have three directions."""
    train, test = (one_step(runs, prefix, split) for split in ("train", "test"))
    return Claim(
        "G4d2" if prefix else "G4d",
        "9",
        f"on three directions one step {STEP[prefix]} classifies train and test",
        "both accuracies >= 99%, every seed with three directions (one at least)",
        {"seeds": runs.seed.values, "train": train, "test": test},
        bool(train.size and (train >= 0.99).all() and (test >= 0.99).all()),
    )


def not_after_one_step(runs: xr.Dataset) -> Claim:
    """On z = w . x alone f is right on one label, or on half of either."""
    limit = 0.5 + chance(0.5)
    tests = {rate: one_step(runs, prefix, "test") for prefix, rate in STEP.items()}
    return Claim(
        "G4d3",
        "10",
        "on one neuron no step can: of four clusters two at most are right",
        f"test accuracy <= {limit:.1%} at either rate, every seed",
        tests,
        bool(max(test.max() for test in tests.values()) <= limit),
    )


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 4, 3.6, 3.0)
    widths = [int(width) for width in results.width.values]
    for width, color in zip(widths, plot.family_colors(len(widths)), strict=True):
        run, label = results.sel(width=width), f"m = {width}"
        plot.curves(axes[0, 0], run, "train_accuracy", color=color, style="--")
        plot.curves(axes[0, 0], run, "test_accuracy", color=color, label=label)
        axes[0, 0].axhline(xor.best_accuracy(width), color=color, ls=":", lw=0.8)
        for prefix, style in zip(STEP, ("--", "-"), strict=True):
            variable = f"{prefix}one_step_test_accuracy"
            name = label if prefix else None
            plot.curves(axes[0, 3], run, variable, color=color, style=style, label=name)
    three = results.sel(width=3).transpose("seed", "step", ...)
    for cosines in three.directions.values[..., :3]:
        axes[0, 1].plot(results.step, cosines, color="tab:blue", lw=0.9)
    axes[0, 1].set_ylabel("cosine with the nearest direction")
    axes[0, 1].set_title("three neurons")
    endings(axes[0, 2], three.parameter.isel(step=-1).values[..., :3])
    for axis, label in (
        (axes[0, 0], "accuracy (dashed: train)"),
        (axes[0, 3], "test accuracy after one step"),
    ):
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    axes[0, 0].set_title("m neurons (dotted: m / 4)")
    axes[0, 3].set_title("one step (dashed: rate 2)")
    for axis in axes[0, [0, 1, 3]]:
        axis.set_xlabel("step")
    return drawing


def endings(axis: Axes, signals: np.ndarray) -> None:
    """The signal parts [seed, 2, 3] of the neurons at the end, and the directions."""
    size = np.nanmax(np.abs(signals))
    for x, y in ((1, 1), (1, -1)):
        axis.plot([-x * size, x * size], [-y * size, y * size], ":", color="0.6")
    colors = plot.family_colors(len(signals))
    for (first, second), color in zip(signals, colors, strict=True):
        axis.plot(first, second, "o", color=color, ms=5)
    axis.set_xlabel("weight on x₁")
    axis.set_ylabel("weight on x₂")
    axis.set_title("three neurons at the end, by seed")
