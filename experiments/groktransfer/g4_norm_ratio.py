"""G4 (Xu et al. 2025, Figs. 5b and 5c): how much noise three neurons keep.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_norm_ratio.py \
        --workdir=runs/g4_norm_ratio

The three-neuron networks of `g4_weak.py` over the size n of the train set, the noise
eps and the dimension p. r_W, the root mean square of a weight on noise over that of one
on signal, goes as eps / sqrt(n), whatever p is. It is read at the last step and its
median taken over seeds: a network that has found fewer directions keeps more noise. The
exponent of a setting is that of the geometric mean of r_W over the other two.

`cpu`: n up to 1,600 (the paper: 3,200), p = 20,000 and 40,000 (40,000 to 160,000). On
smaller networks the law is blurred at either end: n eps^-2 / p far above 1,000 leaves
more noise of the examples' uneven weights, and below 8 they are memorised by their
noise.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import median, power_law, presets, sheet, shown, tested

get_config = presets(
    dict(
        name="G4 norm ratio",
        description="XOR clusters: noise that three neurons keep",
        task=dict(name="xor_clusters", test_size=200),
        model=dict(name="cluster_net", width=3, init="gaussian"),
        loss=dict(name="exponential"),
        optimizer=dict(name="gradient_descent", learning_rate=0.1, weight_decay=0.01),
        observe=dict(xor_norms={}),
        train=dict(steps=800, records=10, spacing="linear"),
        grok=dict(kind="accuracy", train=0.7, test=0.7),
        sweep=dict(
            train_size=(400, 800, 1600),
            dimension=(20_000, 40_000),
            noise=(1 / 160, 1 / 80, 1 / 40),
            seed=(0, 1, 2),
        ),
    ),
    smoke=dict(
        task=dict(test_size=10),
        train=dict(steps=20, records=4),
        sweep=dict(
            train_size=(10, 20),
            dimension=(50, 100),
            noise=(1 / 80, 1 / 40),
            seed=(0, 1),
        ),
    ),
    paper=dict(
        train=dict(steps=2000),
        sweep=dict(
            train_size=(400, 800, 1600, 3200),
            dimension=(40_000, 80_000, 160_000),
            seed=tuple(range(5)),
        ),
    ),
)
LAWS = {"train_size": ("n", -0.5), "noise": ("ε", 1.0), "dimension": ("p", 0.0)}
"""setting -> its symbol and the exponent of r_W"""


def ratios(results: xr.Dataset) -> xr.DataArray:
    """r_W at the last step, median over seeds."""
    return median(results.norm_ratio.isel(step=-1))


def mean(ratio: xr.DataArray, name: str) -> xr.DataArray:
    """The geometric mean of r_W over the other two settings, [values of `name`]."""
    others = [other for other in LAWS if other != name]
    return xr.apply_ufunc(np.exp, xr.apply_ufunc(np.log, ratio).mean(others))


def claims(results: xr.Dataset) -> list[Claim]:
    ratio, accuracy = ratios(results), results.test_accuracy.isel(step=-1)
    learned = shown("runs above 70% test accuracy", (accuracy > 0.7).mean())
    out = []
    for letter, (name, (symbol, exponent)) in zip("hij", LAWS.items(), strict=True):
        goes = f"goes as {symbol} to the power {exponent:g}"
        said = f"r_W {goes if exponent else f'does not depend on {symbol}'}"
        law = power_law("r_W", mean(ratio, name), name, exponent=exponent, within=0.1)
        out.append(tested(f"G4{letter}", "Fig. 5b, 5c", said, law, learned))
    return out


def figure(results: xr.Dataset) -> Figure:
    ratio = ratios(results).to_dataset(name="ratio")
    return sheet(*(("", partial(law, over=name), ratio) for name in LAWS))


def law(axis: Axes, runs: xr.Dataset, over: str) -> None:
    """r_W over a setting, a line for each pair of the other two, and its law."""
    other = "noise" if over != "noise" else "train_size"
    x, values = runs[over].values, runs[other].values
    for value, color in zip(values, plot.family_colors(len(values)), strict=True):
        lines = runs.ratio.sel({other: value}).transpose(over, ...)
        drawn = axis.plot(x, lines, "o-", color=color, ms=3, lw=1)
        drawn[0].set_label(f"{LAWS[other][0]} = {value:.3g}")
    plot.slope(axis, mean(runs.ratio, over), over, LAWS[over][1])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([], minor=True)
    axis.set_xticks(x, [f"{v:.3g}" if v < 1 else f"{v:,.0f}" for v in x])
    axis.set_xlabel(LAWS[over][0])
    axis.set_ylabel("r_W at the end")
    axis.legend(fontsize=7)
