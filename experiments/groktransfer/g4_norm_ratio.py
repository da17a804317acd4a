"""G4 (Xu et al. 2025, Figs. 5b and 5c): how much noise three neurons keep.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_norm_ratio.py \
        --workdir=runs/g4_norm_ratio

The three-neuron networks of `g4_weak.py` over the size n of the train set, the noise
eps and the dimension p. r_W, the root mean square of a weight on noise over that of one
on signal, goes as eps / sqrt(n), whatever p is. It is read at the last step and its
median taken over seeds: a network that has found fewer directions keeps more noise.

`cpu`: n = 400..1,600 (the paper: 400..3,200), p = 20,000 and 40,000 (the paper: 40,000
to 160,000), 3 seeds, 800 steps; about thirteen minutes on two cores. On smaller
networks the law is blurred at either end: n eps^-2 / p far above 1,000 leaves more
noise of the examples' uneven weights, and below 8 they are memorised by their noise.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

EXPONENTS = {"train_size": -0.5, "noise": 1.0, "dimension": 0.0}
SYMBOLS = {"train_size": "n", "noise": "ε", "dimension": "p"}


def get_config(preset: str = "cpu"):
    base = dict(
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
    )
    smoke = dict(
        task=dict(test_size=10),
        train=dict(steps=20, records=4),
        sweep=dict(
            train_size=(10, 20),
            dimension=(50, 100),
            noise=(1 / 80, 1 / 40),
            seed=(0, 1),
        ),
    )
    paper = dict(
        train=dict(steps=2000),
        sweep=dict(
            train_size=(400, 800, 1600, 3200),
            dimension=(40_000, 80_000, 160_000),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def ratios(results: xr.Dataset) -> xr.DataArray:
    """r_W at the last step, median over seeds, [train_size, noise, dimension]."""
    last = results.norm_ratio.isel(step=-1, drop=True)
    return last.median("seed", skipna=False).transpose(*EXPONENTS)


def along(ratio: xr.DataArray, name: str) -> xr.DataArray:
    """The geometric mean of r_W over the other two settings, [values of `name`]."""
    return np.exp(np.log(ratio).mean([other for other in EXPONENTS if other != name]))


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = ratios(results)
    accuracy = results.test_accuracy.isel(step=-1)
    out = []
    for letter, (name, exponent) in zip("hij", EXPONENTS.items(), strict=True):
        fit = measures.power_law(ratio[name].values, along(ratio, name).values)
        held = bool(abs(fit.slope - exponent) <= 0.1)
        symbol = SYMBOLS[name]
        out.append(
            Claim(
                f"G4{letter}",
                "5b, 5c",
                f"r_W goes as {symbol} to the power {exponent:g}"
                if exponent
                else f"r_W does not depend on {symbol}",
                f"slope of log r_W on log {symbol} = {exponent:g} +- 0.1 (geometric "
                "mean over the grid, median over seeds)",
                {
                    "slope": float(fit.slope),
                    "95% margin": float(fit.slope_margin),
                    "runs above 70% test accuracy": float((accuracy > 0.7).mean()),
                },
                held,
            )
        )
    return out


def figure(results: xr.Dataset) -> Figure:
    ratio = ratios(results)
    drawing, axes = plot.panels(1, 3, 3.7, 3.0)
    for axis, name in zip(axes[0], EXPONENTS, strict=True):
        x, other = ratio[name].values, "noise" if name != "noise" else "train_size"
        values = ratio[other].values
        for value, color in zip(values, plot.family_colors(len(values)), strict=True):
            lines = ratio.sel({other: value}).transpose(name, ...).values
            axis.plot(x, lines.reshape(len(x), -1), "o-", color=color, ms=3, lw=1)
            axis.lines[-1].set_label(f"{SYMBOLS[other]} = {value:.3g}")
        middle = float(along(ratio, name)[0])
        law = middle * (x / x[0]) ** EXPONENTS[name]
        axis.plot(x, law, ":", color="0.3", lw=2, label=f"slope {EXPONENTS[name]:g}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks([], minor=True)
        axis.set_xticks(x, [f"{v:.3g}" if v < 1 else f"{v:,.0f}" for v in x])
        axis.set_xlabel(SYMBOLS[name])
        axis.set_ylabel("r_W at the end")
        axis.legend(fontsize=7)
    return drawing
