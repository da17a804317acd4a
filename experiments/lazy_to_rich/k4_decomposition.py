"""K4 (Kumar et al. 2024, Figs. 4 and 9): three sizes of data, three fates of the loss.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k4_decomposition.py \
        --workdir=runs/k4

The population risk in its three terms along the exact dynamics of the committee. The
paper's text fixes D = 100, but there 120 examples do not determine the target and
nothing can generalise; its curves are those of a smaller D. Both are run: the claims
are tested at D = 25 (K4a) and reported at D = 100 (K4b).
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, grid, left, presets, rise, tested, times

get_config = presets(
    dict(
        name="K4 decomposition",
        description="the three terms of the risk for three sizes of data",
        task=dict(name="polynomial"),
        model=dict(name="committee_dynamics", width=500, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}),
        train=dict(steps=30_000, records=120),
        stop=dict(metric="population_risk", threshold=1e-3),
        sweep=dict(input_dim=(25, 100), train_size=(50, 120, 500), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(test_size=50),
        model=dict(width=30),
        train=dict(steps=200, records=20),
        sweep=dict(input_dim=(12,), train_size=(20, 40, 80), seed=(0, 1)),
    ),
    paper=dict(train=dict(steps=60_000), sweep=dict(seed=tuple(range(10)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        claim
        for dim, letter in zip(results.input_dim.values, "ab", strict=False)
        for claim in claims_at(results.sel(input_dim=dim), f"K4{letter}", f"D = {dim}")
    ]


def claims_at(results: xr.Dataset, id: str, dim: str) -> list[Claim]:
    few, some, many = (results.sel(train_size=size) for size in results.train_size)
    sizes = [f"P = {size}" for size in results.train_size.values]
    peak, usual = (runs.linear_power.max("step") for runs in (many, some))
    return [
        tested(
            f"{id}1",
            "Fig. 9b, 9e",
            f"{dim}, {sizes[1]}: linear power rises, then falls as it groks",
            every("power peak / start", rise(some.linear_power), ">=", 5),
            every("power end / peak", left(some.linear_power), "<=", 0.25),
            every("risk end / peak", left(some.population_risk), "<=", 0.1),
        ),
        tested(
            f"{id}2",
            "Fig. 9a, 9d",
            f"{dim}, {sizes[0]}: linear power stays high and nothing generalises",
            every("power end / peak", left(few.linear_power), ">=", 0.3),
            every("risk end / peak", left(few.population_risk), ">=", 0.3),
        ),
        tested(
            f"{id}3",
            "Fig. 9c, 9f",
            f"{dim}, {sizes[2]}: linear power stays low throughout",
            every("power peak", peak, "<=", times(0.5, f"that at {sizes[1]}", usual)),
            every("risk end / peak", left(many.population_risk), "<=", 0.1),
        ),
    ]


def figure(results: xr.Dataset) -> dict[str, Figure]:
    losses = partial(plot.losses, test="population_risk")
    draw, title = (losses, plot.risk_terms), "P = {}, D = {input_dim}"
    return {
        f"figure_D{dim}": grid(results.sel(input_dim=dim), "train_size", title, *draw)
        for dim in results.input_dim.values
    }
