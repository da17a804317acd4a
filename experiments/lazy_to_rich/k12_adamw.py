"""K12 (Kumar et al. 2024, Sec. 14) for the polynomial task: AdamW.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_adamw.py \
        --workdir=runs/k12_adamw

The committee machine by AdamW at three weight decays, its linearised twin trained by
the same AdamW beside it (there is no closed form).

`cpu`: D = 50, N = 300, P = 220 (the paper: 100, 500, 450), 3 seeds, 6,000 steps; about
a minute on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config

DECAYS = (0.0, 0.01, 0.1)


def get_config(preset: str = "cpu"):
    base = dict(
        name="K12 AdamW",
        description="the same story with an adaptive optimiser",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="adamw", learning_rate=0.01),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=6_000, records=80),
        sweep=dict(weight_decay=DECAYS, linearized=(False, True), seed=(0, 1, 2)),
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


def claims(results: xr.Dataset) -> list[Claim]:
    free = results.sel(weight_decay=0.0)
    net, twin = free.sel(linearized=False), free.sel(linearized=True)
    risk = net.population_risk.transpose("seed", "step")
    t_train, t_test = measures.grokking_times(
        results.step.values,
        net.train_loss.transpose("seed", "step").values,
        risk.values,
    )
    bump = (risk.max("step") / risk.isel(step=0)).values
    end = (risk.isel(step=-1) / twin.population_risk.isel(step=-1)).values
    early = abs(net.train_loss - twin.train_loss) / net.train_loss.isel(step=0)
    tracked = early.where(net.train_loss > 0.8 * net.train_loss.isel(step=0)).max(
        "step"
    )
    return [
        Claim(
            "K12b1",
            "13",
            "AdamW without decay: the network groks in the loss",
            "t_test >= 3 t_train, every seed",
            {"t_train": t_train, "t_test": t_test},
            bool((np.asarray(t_test) >= 3 * np.asarray(t_train)).all()),
        ),
        Claim(
            "K12b2",
            "13",
            "the test loss rises before it falls",
            "peak > 1.02 of start, every seed",
            spread(bump),
            bool((bump > 1.02).all()),
        ),
        Claim(
            "K12b3",
            "13",
            "the linearisation is tracked until the train loss has lost 20%",
            "train losses apart by < 5% of the start until then, every seed",
            spread(tracked),
            bool((tracked < 0.05).all()),
        ),
        Claim(
            "K12b4",
            "13",
            "the network leaves its linearisation far behind",
            "test loss ends < 0.25 of the twin's, every seed",
            spread(end),
            bool((end < 0.25).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    decays = results.weight_decay.values
    drawing, axes = plot.panels(1, len(decays), 3.8, 3.2)
    for axis, decay in zip(axes[0], decays, strict=True):
        for linearized, style, suffix in (
            (False, "-", ""),
            (True, "--", ", linearised"),
        ):
            run = results.sel(weight_decay=decay, linearized=linearized)
            plot.losses(axis, run, test="population_risk", style=style, suffix=suffix)
        axis.set_title(f"weight decay {decay:g}")
    return drawing
