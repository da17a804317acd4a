"""K12 (Kumar et al. 2024, Fig. 13a): gradient descent with momentum 0.95.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_momentum.py \
        --workdir=runs/k12_momentum

The committee machine with and without heavy-ball momentum at one learning rate, its
linearised twin beside it.

`cpu`: D = 50, N = 300, P = 220 (the paper: 100, 500, 450), 3 seeds, 20,000 steps, so
that plain descent, twenty times slower, has the time too; about two minutes on two
cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K12 momentum",
        description="the same story with heavy-ball momentum",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=0.2, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=20_000, records=80),
        sweep=dict(momentum=(0.0, 0.95), linearized=(False, True), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=100, train_size=450),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def tracked_until(results: xr.Dataset) -> xr.DataArray:
    """The train loss over its start when network and twin first differ in test loss by
    more than 5% of the start."""
    net, twin = results.sel(linearized=False), results.sel(linearized=True)
    risk = net.population_risk.transpose("seed", "step")
    gap = abs(risk - twin.population_risk.transpose("seed", "step"))
    gap = gap / risk.isel(step=0)
    step = measures.first_step_reaching(results.step.values, gap.values, 0.05)
    train = net.train_loss / net.train_loss.isel(step=0)
    when = risk.isel(step=0, drop=True).copy(data=step)
    return train.sel(step=when.fillna(0).astype(int))


def claims_for(results: xr.Dataset, letter: str, figure: str) -> list[Claim]:
    """The claims of Fig. 13 for one optimiser."""
    net, twin = results.sel(linearized=False), results.sel(linearized=True)
    risk = net.population_risk
    bump = (risk.max("step") / risk.isel(step=0)).values
    t_train, t_test = measures.grokking_times(
        results.step.values,
        net.train_loss.transpose("seed", "step").values,
        risk.transpose("seed", "step").values,
    )
    lag = np.asarray(t_test) / np.asarray(t_train)
    end = (risk.isel(step=-1) / twin.population_risk.isel(step=-1)).values
    early = tracked_until(results).values
    return [
        Claim(
            f"K12{letter}1",
            figure,
            "the network groks in the loss",
            "t_test >= 3 t_train, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((lag >= 3).all()),
        ),
        Claim(
            f"K12{letter}2",
            figure,
            "the test loss rises before it falls",
            "peak > 1.02 of start, every seed",
            spread(bump),
            bool((bump > 1.02).all()),
        ),
        Claim(
            f"K12{letter}3",
            figure,
            "the linearisation is tracked early and left behind later",
            "twin and network part (5% of the start) only after the train loss has "
            "lost 20%; the network ends < 0.25 of the twin, every seed",
            {"train loss at parting / start": spread(early), "end ratio": spread(end)},
            bool((early < 0.8).all() and (end < 0.25).all()),
        ),
    ]


def claims(results: xr.Dataset) -> list[Claim]:
    plain = claims_for(results.sel(momentum=0.0), "a-plain-", "13a")
    heavy = claims_for(results.sel(momentum=0.95), "a-", "13a")
    times = [
        results.t_train.sel(linearized=False, momentum=m).values for m in (0.0, 0.95)
    ]
    speed = times[0] / times[1]
    faster = Claim(
        "K12a-4",
        "13a",
        "momentum 0.95 is the same descent at up to 1 / (1 - 0.95) = 20 times the rate",
        "t_train without / with momentum between 2 and 25, every seed",
        speed,
        bool(((speed > 2) & (speed < 25)).all()),
    )
    return [*plain, *heavy, faster]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 2, 4.2, 3.2)
    for axis, momentum in zip(axes[0], (0.0, 0.95), strict=True):
        for linearized, style, suffix in (
            (False, "-", ""),
            (True, "--", ", linearised"),
        ):
            run = results.sel(momentum=momentum, linearized=linearized)
            plot.losses(axis, run, test="population_risk", style=style, suffix=suffix)
        axis.set_title(f"momentum {momentum:g}")
    return drawing
