"""G4 (Xu et al. 2025, Sec. 3.3): one step on the train set of the weak network.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_one_step.py \
        --workdir=runs/g4_one_step

Theorem 3.2 takes a train set that the weak network has not seen (`g4_weak.py`); the
method trains the target network on the same one. Here the three-neuron networks of
`g4_weak.py` over the size n of that set, and one step of the target network on it, 12
draws of its weights: from what n on does one step do? It is judged at (A3) and (A4)
with C = 1, weights log(n)^(-3/2) and their largest rate, on the networks that have
found three directions; other weights and rates are drawn beside it.

Also r_W at the paper's own noise of 0.05, over n: Fig. 5 has the law eps / sqrt(n) for
noise of 1/40 and less.

`cpu` has the paper's p and eps.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import OURS, every, presets, sheet, shown, tested
from grok_jax.theory import xor

NOISE, RECORDS = 0.05, 10
STEPS = {
    "": "weights 0.4, rate 2",
    "largest_": "weights 0.4, largest rate",
    "small_": "weights log(n)^-3/2",
}
"""The one step: prefix of its variables -> what it is."""


def seeds(count: int) -> dict[str, tuple[int, ...]]:
    """Seeds from 100 on, each with draws of its own for the target networks."""
    own = tuple(range(100, 100 + count))
    return {"seed": own, "draw": own}


get_config = presets(
    dict(
        name="G4 one step",
        description="XOR clusters: one step on a weak network's train set",
        task=dict(name="xor_clusters", dimension=80_000, compact=True),
        model=dict(
            name="cluster_net",
            width=3,
            noise=NOISE,
            init="gaussian",
            dimension=80_000,
        ),
        loss=dict(name="exponential"),
        optimizer=dict(name="gradient_descent", learning_rate=0.1, weight_decay=0.01),
        observe=dict(
            xor_norms={},
            parameter_snapshots=dict(leaf="signal"),
            xor_one_step=dict(every=RECORDS),
        ),
        train=dict(steps=1000, records=RECORDS, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(train_size=(400, 800, 1600), **seeds(10)),
        zip=("seed+draw",),
    ),
    smoke=dict(
        task=dict(dimension=200, test_size=20),
        model=dict(dimension=200),
        observe=dict(xor_one_step=dict(target_width=64, draws=2)),
        train=dict(steps=20),
        sweep=dict(train_size=(20, 40), **seeds(2)),
    ),
    paper=dict(
        train=dict(steps=2000),
        sweep=dict(train_size=(400, 800, 1600, 3200), **seeds(20)),
    ),
)


def ends(results: xr.Dataset) -> xr.Dataset:
    """The last record, with NaN where fewer than three directions are found."""
    end, axes = results.isel(step=-1), [["parameter_0", "parameter_1"]]
    found = xr.apply_ufunc(xor.directions_found, end.parameter, input_core_dims=axes)
    return end.where(found == 3)


def known(end: xr.Dataset, prefix: str) -> xr.DataArray:
    """The share of a network's draws that know train and test examples after one step,
    [train_size, seed]."""
    pair = [
        end[f"{prefix}one_step_{split}_accuracy"].transpose("train_size", "seed", ...)
        for split, _ in plot.SPLITS
    ]
    lower = np.minimum(*(each.values for each in pair))
    axes = {name: end[name].values for name in ("train_size", "seed")}
    share = np.where(np.isnan(lower[..., 0]), np.nan, np.mean(lower >= 0.99, axis=-1))
    return xr.DataArray(share, axes, ("train_size", "seed"))


def claims(results: xr.Dataset) -> list[Claim]:
    end = ends(results)
    largest = known(end, "small_").isel(train_size=-1).dropna("seed")
    n, ratio = xr.broadcast(end.train_size, end.norm_ratio)
    law = measures.power_law(n.values, ratio.values)
    slope, margin = float(law.slope), float(law.slope_margin)
    some = every("networks with three directions", largest.size, ">=", 1)
    return [
        tested(
            "G4k",
            OURS,
            f"at n = {end.train_size[-1].item():,} one step on the weak network's own "
            "train set classifies train and test",
            some,
            every("share of all draws", largest.mean(), ">=", 0.95),
        ),
        tested(
            "G4l",
            "Sec. 3.2",
            "r_W goes as 1 / sqrt(n), at the noise of Sec. 3 (0.05)",
            every("distance of the slope from -1/2", abs(slope + 0.5), "<=", 0.1),
            shown("slope and 95% margin", [slope, margin]),
            less="Fig. 5 shows the law for noise of 1/40 and less",
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    end = ends(results)
    steps = (
        (name, partial(shares, prefix=prefix), end) for prefix, name in STEPS.items()
    )
    return sheet(*steps, ("", ratios_of, end))


def shares(axis: Axes, end: xr.Dataset, prefix: str) -> None:
    """The share of draws that one step suffices for over n, a dot for each network."""
    values = known(end, prefix)
    axis.plot(values.train_size, values, "o", color=plot.TEST, ms=4, alpha=0.6)
    axis.plot(values.train_size, values.mean("seed"), color=plot.TEST)
    axis.set_ylabel("share of draws: train and test known")
    axis.set_ylim(-0.03, 1.03)
    over_sizes(axis, end)


def ratios_of(axis: Axes, end: xr.Dataset) -> None:
    """r_W over n, a dot for each network."""
    values = end.norm_ratio.transpose("train_size", "seed")
    axis.plot(end.train_size, values, "o", color=plot.TEST, ms=4)
    law = 2 * NOISE / np.sqrt(end.train_size)
    axis.plot(end.train_size, law, ":", color="0.3", label="2 ε / √n")
    axis.set_yscale("log")
    axis.set_ylabel("r_W at the end")
    axis.legend(fontsize=7)
    over_sizes(axis, end)


def over_sizes(axis: Axes, end: xr.Dataset) -> None:
    sizes = end.train_size.values
    axis.set_xscale("log")
    axis.set_xticks([], minor=True)
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.set_xlabel("train set size n")
