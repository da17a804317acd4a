"""K11 (Kumar et al. 2024, Fig. 11): the same story with trained read-outs.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k11_readouts.py \
        --workdir=runs/k11

The committee machine with read-outs v_i ~ N(0, 1) trained as well; its population risk
in three terms from M = mean_i v_i w_i w_i^T and wbar = mean_i v_i w_i (eq. 22).

`cpu`: D = 50, N = 300 (the paper: 100, 500), P in {60, 150, 600}, 3 seeds, 6,000
steps; about a minute on two cores.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K11 trained read-outs",
        description="the decomposition with both layers trained",
        task=dict(name="polynomial", input_dim=50),
        model=dict(name="committee", width=300, epsilon=0.25, readout="trained"),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=6_000, records=80),
        sweep=dict(train_size=(60, 150, 600), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(input_dim=8, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(train_size=(10, 30, 60), seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=100),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(train_size=(120, 300, 2000), seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    few, some, many = results.train_size.values
    power, risk = results.linear_power, results.population_risk
    peak = power.max("step")
    kept, grown = power.isel(step=-1) / peak, peak / power.isel(step=0)
    bump, end = (
        risk.max("step") / risk.isel(step=0),
        risk.isel(step=-1) / risk.max("step"),
    )

    def at(values: xr.DataArray, size: int):
        return values.sel(train_size=size).values

    return [
        Claim(
            "K11a",
            "11",
            f"P = {some}: test loss rises, then falls, as linear power rises and falls",
            "risk peak > 1.02 start, end < 0.35 peak; linear power peak >= 5x "
            "start and end <= 0.35 of peak, every seed",
            {
                "risk peak / start": spread(at(bump, some)),
                "risk end / peak": spread(at(end, some)),
                "power peak / start": spread(at(grown, some)),
                "power end / peak": spread(at(kept, some)),
            },
            bool(
                (at(bump, some) > 1.02).all()
                and (at(end, some) < 0.35).all()
                and (at(grown, some) >= 5).all()
                and (at(kept, some) <= 0.35).all()
            ),
        ),
        Claim(
            "K11b",
            "11",
            f"P = {few}: linear power stays and nothing generalises",
            "linear power end >= 0.3 of peak and risk end >= 0.3 of peak, every seed",
            {
                "power end / peak": spread(at(kept, few)),
                "risk end / peak": spread(at(end, few)),
            },
            bool((at(kept, few) >= 0.3).all() and (at(end, few) >= 0.3).all()),
        ),
        Claim(
            "K11c",
            "11",
            f"P = {many}: linear power stays low and the risk vanishes",
            f"power peak <= 0.5 of that at P = {some}, risk end <= 0.1, every seed",
            {
                "power peak ratio": at(peak, many) / at(peak, some),
                "risk end / peak": spread(at(end, many)),
            },
            bool(
                (at(peak, many) <= 0.5 * at(peak, some)).all()
                and (at(end, many) <= 0.1).all()
            ),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    sizes = results.train_size.values
    drawing, axes = plot.panels(2, len(sizes), 3.4, 2.6)
    for column, size in enumerate(sizes):
        run = results.sel(train_size=size)
        top, bottom = axes[:, column]
        plot.losses(top, run, test="population_risk")
        plot.risk_terms(bottom, run)
        top.set_title(f"P = {size}")
    return drawing
