"""K11 (Kumar et al. 2024, Fig. 11): the same story with trained read-outs.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k11_readouts.py \
        --workdir=runs/k11

The committee machine with read-outs v_i ~ N(0, 1) trained as well; its population risk
in three terms from M = mean_i v_i w_i w_i^T and wbar = mean_i v_i w_i (eq. 22). `paper`
has the paper's sizes.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, grid, presets, rise, tested, times

get_config = presets(
    dict(
        name="K11 trained read-outs",
        description="the decomposition with both layers trained",
        task=dict(name="polynomial", input_dim=50),
        model=dict(name="committee", width=300, epsilon=0.25, readout="trained"),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=6_000, records=80),
        sweep=dict(train_size=(60, 150, 600), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(input_dim=8, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(train_size=(10, 30, 60), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(train_size=(120, 300, 2000), seed=tuple(range(10))),
    ),
)


def left(curve: xr.DataArray) -> xr.DataArray:
    """End over peak of each run; NaN, which is no success, if it diverged."""
    return curve.isel(step=-1) / curve.max("step")


def claims(results: xr.Dataset) -> list[Claim]:
    few, some, many = (results.sel(train_size=size) for size in results.train_size)
    sizes = [f"P = {size}" for size in results.train_size.values]
    return [
        tested(
            "K11a",
            "Fig. 11",
            f"{sizes[1]}: test loss rises, then falls, as linear power does",
            every("risk peak / start", rise(some.population_risk), ">", 1.02),
            every("risk end / peak", left(some.population_risk), "<", 0.35),
            every("power peak / start", rise(some.linear_power), ">=", 5),
            every("power end / peak", left(some.linear_power), "<=", 0.35),
        ),
        tested(
            "K11b",
            "Fig. 11",
            f"{sizes[0]}: linear power stays and nothing generalises",
            every("power end / peak", left(few.linear_power), ">=", 0.3),
            every("risk end / peak", left(few.population_risk), ">=", 0.3),
        ),
        tested(
            "K11c",
            "Fig. 11",
            f"{sizes[2]}: linear power stays low and the risk vanishes",
            every(
                "power peak",
                many.linear_power.max("step"),
                "<=",
                times(0.5, f"that at {sizes[1]}", some.linear_power.max("step")),
            ),
            every("risk end / peak", left(many.population_risk), "<=", 0.1),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, test="population_risk")
    return grid(results, "train_size", "P = {}", losses, plot.risk_terms)
