"""G5 (Xu et al. 2025, Fig. 7): the better the weak network, the better the target.

    python -m grok_jax.launch --config=experiments/groktransfer/g5_weak_accuracy.py \
        --workdir=runs/g5_weak_accuracy

The target network of `g1_modular.py` on addition, with the embedding of a weak network
that was stopped at four of the paper's epochs (100, 500, 1,000, 2,000), from before it
generalises until after, or at a test accuracy of 30, 50, 70 or 90%: weak networks that
are stopped at an epoch are at nearly 0, at a third or at all of it. Time gap: steps
between 95% train and 95% test accuracy. 1 / gap is 0 where the target network never
came to both, and infinite where it came to both at once. The paper contradicts itself:
here a grokked weak network "is essential", in Sec. 2.2 one that generalises in part is
enough.

`cpu` has the paper's sizes and 1,000 of its 10,000 steps; a run ends when its test
accuracy has been 0.99 for half as long again. The seeds are new.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, pages, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    every,
    last,
    presets,
    sheet,
    shown,
    tested,
    times,
    typically,
)

EPOCHS = (100, 500, 800, 900, 1000, 1100, 1500, 2000)
ACCURACIES = (0.3, 0.5, 0.7, 0.9)


def stops(epochs: Sequence[int], accuracies: Sequence[float]) -> dict[str, tuple]:
    """Where weak networks stop: at an epoch, or at an accuracy before 4,000 epochs."""
    late = tuple(4000 + place for place in range(len(accuracies)))  # all different
    never = (2.0,) * len(epochs)
    return {
        "transfer.steps": (*epochs, *late),
        "transfer.accuracy": (*never, *accuracies),
    }


get_config = presets(
    dict(
        name="G5 weak accuracy",
        description="weak networks stopped early, and what their heirs reach",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", init_scale=0.3),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0),
        transfer=dict(
            model=dict(embedding=4, width=16, layers=2, init_scale=0.15),
            optimizer=dict(learning_rate=0.01, weight_decay=0.3),
        ),
        train=dict(steps=1000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=0.5),
        sweep={**stops((100, 500, 1000, 2000), ACCURACIES), "seed": (100, 101, 102)},
        zip=("transfer.steps+transfer.accuracy",),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        train=dict(steps=20, records=5),
        sweep={**stops((5, 20), ()), "seed": (0, 1)},
    ),
    paper=dict(
        train=dict(steps=10_000, records=300),
        sweep={**stops(EPOCHS, ()), "seed": tuple(range(100, 110))},
    ),
)


def named(results: xr.Dataset) -> xr.Dataset:
    """The results with words for where a weak network stopped in place of its steps."""
    stops = zip(results.steps.values, results.accuracy.values, strict=True)
    names = [f"{n:,} steps" if stop > 1 else f"at {stop:.0%}" for n, stop in stops]
    return results.assign_coords(steps=names)


def reached(results: xr.Dataset) -> xr.Dataset:
    """[where the weak network stopped, seed]: its test accuracy, that of the target
    network at the end, and 1 / gap."""
    return xr.Dataset(
        {
            "weak": results.weak_test_accuracy.isel(step=0, drop=True),
            "target": last(results.test_accuracy),
            "1 / gap": 1 / pages.delay(results).fillna(np.inf).clip(min=0),
        }
    )


def claims(results: xr.Dataset) -> list[Claim]:
    runs = reached(named(results))
    good, bad = runs.where(runs.weak >= 0.9), runs.where(runs.weak < 0.5)
    worst, usual = bad["1 / gap"].max(), good["1 / gap"].median()

    def rank(name: str) -> pages.Check:
        correlation = measures.spearman(runs.weak.values, runs[name].values)
        return every("rank correlation over all runs", correlation, ">", 0.5)

    return [
        tested(
            "G5a",
            "Sec. 4.1, Fig. 7",
            "the target network's test accuracy is positively correlated with that of "
            "the weak network",
            rank("target"),
            typically(shown, "weak network", runs.weak),
            typically(shown, "target network", runs.target),
        ),
        tested("G5b", "Fig. 7", "and so is 1 / time gap", rank("1 / gap")),
        tested(
            "G5c",
            "Sec. 4.1",
            "a grokked weak network is essential for a minimal delay: largest 1 / gap "
            "where it is below 50%, median where it is 90% and more",
            every("largest", worst, "<", times(0.5, "median", usual)),
            shown("how many runs", [bad.weak.count(), good.weak.count()]),
            less="10,000 steps of the target network",
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    results = named(results)
    how = dict(over="steps", kind="test_accuracy", each=True)
    runs = reached(results)
    return sheet(
        ("target network", partial(plot.family, **how), results),
        ("target network, at the end", partial(dots, name="target"), runs),
        ("on top: no gap", partial(dots, name="1 / gap"), runs),
    )


def dots(axis: Axes, runs: xr.Dataset, name: str) -> None:
    """Each run, in the colour of the weak network's steps; what is infinite on top."""
    values = runs[name]
    top = 1.1 * values.where(np.isfinite(values), 0).max()
    values = values.where(~np.isinf(values), top)
    for color, at in zip(plot.family_colors(len(runs.steps)), runs.steps, strict=True):
        here = runs.weak.sel(steps=at), values.sel(steps=at)
        axis.plot(*here, "o", ms=4, color=color)
    axis.set_xlabel("weak network's test accuracy")
    axis.set_ylabel("test accuracy" if name == "target" else name)
