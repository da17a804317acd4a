"""G4 (Xu et al. 2025, Figs. 5b and 5c): how much noise three neurons keep.

    python -m grok_jax.launch --config=experiments/groktransfer/g4_norm_ratio.py \
        --workdir=runs/g4_norm_ratio

The three-neuron networks of `g4_weak.py`: over the dimension p at n = 1,000 (Fig. 5b),
over the size n of the train set at p = 80,000 (Fig. 5c), for three sizes of the noise
eps. r_W, the root mean square of a weight on noise over that of one on signal, is read
after 1,500 steps, when what the weights began with has decayed to less than a
thousandth of it ("till convergence", Sec. 3.2). The paper's law is one of networks with
about 75% test accuracy, which have found three of the four directions: the others are
left out, with their number told. Exponents are fits to all networks that are kept.

`cpu` has the paper's sizes but for n = 3,200.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import Check, every, presets, sheet, shown, tested
from grok_jax.theory import xor

SETTINGS = ((400, 80_000), (800, 80_000), (1600, 80_000), (1000, 40_000))
SETTINGS = (*SETTINGS, (1000, 80_000), (1000, 160_000))
"""(n, p) of the runs."""


def sizes(*pairs: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    n, p = zip(*pairs, strict=True)
    return {"train_size": n, "task.dimension": p, "model.dimension": p}


get_config = presets(
    dict(
        name="G4 norm ratio",
        description="XOR clusters: noise that three neurons keep",
        task=dict(name="xor_clusters", test_size=100, compact=True),
        model=dict(name="cluster_net", width=3, init="gaussian"),
        loss=dict(name="exponential"),
        optimizer=dict(name="gradient_descent", learning_rate=0.1, weight_decay=0.01),
        observe=dict(xor_norms={}, parameter_snapshots=dict(leaf="signal")),
        train=dict(steps=1500, records=10, spacing="linear"),
        grok=dict(kind="accuracy", train=0.7, test=0.7),
        sweep=dict(
            **sizes(*SETTINGS),
            noise=(1 / 160, 1 / 80, 1 / 40),
            seed=tuple(range(100, 110)),
        ),
        zip=("train_size+task.dimension+model.dimension",),
    ),
    smoke=dict(
        task=dict(test_size=10),
        train=dict(steps=20, records=4),
        sweep=dict(
            **sizes((10, 100), (20, 100), (1000, 2000), (1000, 3000)),
            noise=(1 / 80, 1 / 40),
            seed=(0, 1),
        ),
    ),
    paper=dict(
        train=dict(steps=4000),
        sweep=dict(**sizes(*SETTINGS, (3200, 80_000)), seed=tuple(range(100, 120))),
    ),
)


def kept(results: xr.Dataset) -> xr.DataArray:
    """r_W at the end where three directions are found, NaN elsewhere."""
    end, axes = results.isel(step=-1), [["parameter_0", "parameter_1"]]
    found = xr.apply_ufunc(xor.directions_found, end.parameter, input_core_dims=axes)
    return end.norm_ratio.where(found == 3)


def over_n(ratio: xr.DataArray) -> xr.DataArray:
    """The runs of Fig. 5c, all at its p; n is the coordinate `train_size`."""
    at_p = ratio.task_dimension == ratio.task_dimension.values[0]
    return ratio.isel(train_size=at_p.values)


def over_p(ratio: xr.DataArray) -> xr.DataArray:
    """The runs of Fig. 5b, at n = 1,000, over the coordinate `task_dimension`."""
    at_n = ratio.isel(train_size=(ratio.train_size == 1000).values)
    return at_n.swap_dims(train_size="task_dimension").drop_vars("train_size")


def exponent(ratio: xr.DataArray, name: str, law: float) -> tuple[Check, ...]:
    """That the fit of r_W on the axis `name` is the power `law`, up to 0.1."""
    x, y = xr.broadcast(ratio[name], ratio)
    fit = measures.power_law(x.values, y.values)
    others = {n: c.item() for n, c in ratio.coords.items() if not c.ndim}
    at = f", eps = 1/{1 / others['noise']:.0f}" if "noise" in others else ""
    slope, margin = float(fit.slope), float(fit.slope_margin)
    return (
        every(f"distance of the slope from {law:g}{at}", abs(slope - law), "<=", 0.1),
        shown(f"slope and 95% margin{at}", [slope, margin]),
    )


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = kept(results)
    networks = shown("share of networks with three directions", ratio.notnull().mean())
    each = [ratio.sel(noise=noise) for noise in ratio.noise.values]
    n, p = (
        [check for one in each for check in exponent(of(one), *law)]
        for of, law in ((over_n, ("train_size", -0.5)), (over_p, ("task_dimension", 0)))
    )
    scaled = ratio * np.sqrt(ratio.train_size)  # the law in n is judged by itself
    return [
        tested(
            "G4h",
            "Fig. 5c, caption",
            "for each eps the slope on n is around -1/2",
            *n,
            networks,
        ),
        tested(
            "G4i",
            "Sec. 3.2, Figs. 5b, 5c",
            "r_W is proportional to eps",
            *exponent(scaled, "noise", 1),
            networks,
        ),
        tested("G4j", "Fig. 5b, caption", "r_W does not depend on p", *p, networks),
    ]


def figure(results: xr.Dataset) -> Figure:
    ratio = kept(results).to_dataset(name="ratio")
    return sheet(
        ("5b: n = 1,000", partial(lines, over="task_dimension", label="p"), ratio),
        (
            "5c: p = 80,000 (dotted: slope -1/2)",
            partial(lines, over="train_size", label="n"),
            ratio,
        ),
    )


def lines(axis: Axes, runs: xr.Dataset, over: str, label: str) -> None:
    """Each network as a dot, the median as a line, for each eps."""
    chosen = over_p(runs.ratio) if over == "task_dimension" else over_n(runs.ratio)
    chosen = chosen.sortby(over)
    colors = plot.family_colors(chosen.sizes["noise"])
    for noise, color in zip(chosen.noise.values, colors, strict=True):
        values = chosen.sel(noise=noise).transpose(over, "seed")
        axis.plot(values[over], values, "o", ms=2, color=color, alpha=0.5)
        middle = values.median("seed")
        axis.plot(values[over], middle, color=color, label=f"ε = 1/{1 / noise:.0f}")
        if over == "train_size":
            x = values[over].values
            law = float(middle[-1]) * (x / x[-1]) ** -0.5
            axis.plot(x, law, ":", color="0.4")
    axis.set_xscale("log")
    if chosen.notnull().any():
        axis.set_yscale("log")
    axis.set_xticks([], minor=True)
    axis.set_xticks(chosen[over].values, [f"{v:,}" for v in chosen[over].values])
    axis.set_xlabel(label)
    axis.set_ylabel("r_W at the end")
    axis.legend(fontsize=7)
