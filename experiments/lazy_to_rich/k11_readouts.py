"""K11 (Kumar et al. 2024, Fig. 11): the same story with trained read-outs.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k11_readouts.py \
        --workdir=runs/k11

The committee machine with read-outs v_i ~ N(0, 1) trained as well; its population risk
in three terms from M = mean_i v_i w_i w_i^T and wbar = mean_i v_i w_i (eq. 22). The
paper states neither P nor epsilon nor eta; P, epsilon = 0.1 and eta = N are ours, and
so are the claims for few and many data. `paper` has the paper's sizes. Seeds from 100
on, because seeds 0-2 were seen when epsilon was chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import OURS, grid, presets, rise, share, tested, typical

get_config = presets(
    dict(
        name="K11 trained read-outs",
        description="the decomposition with both layers trained",
        task=dict(name="polynomial", input_dim=50),
        model=dict(name="committee", width=300, epsilon=0.1, readout="trained"),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=6_000, records=80),
        sweep=dict(train_size=(60, 200, 600), seed=tuple(range(100, 110))),
    ),
    smoke=dict(
        task=dict(input_dim=8, test_size=30),
        model=dict(width=20),
        optimizer=dict(learning_rate=0.2),
        train=dict(steps=100, records=20),
        sweep=dict(train_size=(10, 30, 60), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(train_size=(120, 450, 2000)),
    ),
)


def left(curve: xr.DataArray) -> xr.DataArray:
    """End over peak of each run; NaN, which is no success, if it diverged."""
    return curve.isel(step=-1) / curve.max("step")


def claims(results: xr.Dataset) -> list[Claim]:
    few, some, many = (results.sel(train_size=size) for size in results.train_size)
    sizes = [f"P = {size}" for size in results.train_size.values]
    power = many.linear_power.max("step") / some.linear_power.max("step")
    return [
        tested(
            "K11a",
            "Sec. 12, Fig. 11",
            f"the same mechanism with read-outs ({sizes[1]}): test loss rises, then "
            "falls, as linear power does",
            typical("risk peak / start", rise(some.population_risk), ">", 1.02),
            typical("risk end / peak", left(some.population_risk), "<=", 0.1),
            typical("power peak / start", rise(some.linear_power), ">=", 5),
            typical("power end / peak", left(some.linear_power), "<=", 0.1),
        ),
        tested(
            "K11b",
            OURS,
            f"{sizes[0]}: linear power stays and nothing generalises",
            typical("power end / peak", left(few.linear_power), ">=", 0.3),
            typical("risk end / peak", left(few.population_risk), ">=", 0.3),
        ),
        tested(
            "K11c",
            OURS,
            f"{sizes[2]}: linear power stays low and the risk vanishes",
            typical(f"power peak / that at {sizes[1]}", power, "<=", 0.5),
            typical("risk end / peak", left(many.population_risk), "<=", 0.1),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, test="population_risk", each=True)
    terms = partial(plot.risk_terms, each=True)
    first = share(results.isel(seed=slice(3)), "train_loss", "population_risk")
    return grid(first, "train_size", "P = {}", losses, terms)
