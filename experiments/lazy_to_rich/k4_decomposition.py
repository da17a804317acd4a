"""K4 (Kumar et al. 2024, Figs. 4 and 9): the terms of the loss for four sizes of data.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k4_decomposition.py \
        --workdir=runs/k4

The population risk in its three terms (eq. 6) along the exact dynamics of the
committee. Fig. 4 is of the main task, D = 100 (P = 550 is ours). Fig. 9 has P = 50, 120
and 500 and states no D: at D = 100, 120 examples do not determine the target and
nothing generalises, while 450 to 550 grok in Figs. 1 and 3, so that 500 were not too
many; D = 25 is ours. Seeds from 100 on, because seeds 0-2 were seen when the claims
were chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    along,
    at,
    grid,
    left,
    presets,
    rise,
    share,
    shown,
    tested,
    typical,
    typically,
)

get_config = presets(
    dict(
        name="K4 decomposition",
        description="the three terms of the risk for four sizes of data",
        task=dict(name="polynomial"),
        model=dict(name="committee_dynamics", width=500, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}),
        train=dict(steps=30_000, records=120),
        stop=dict(metric="population_risk", threshold=1e-3),
        sweep=dict(
            train_size=(50, 120, 500, 550),
            input_dim=(25, 25, 25, 100),
            seed=tuple(range(100, 110)),
        ),
        zip=("train_size+input_dim",),
    ),
    smoke=dict(
        task=dict(test_size=50),
        model=dict(width=30),
        train=dict(steps=200, records=20),
        sweep=dict(
            train_size=(20, 40, 80, 90), input_dim=(12, 12, 12, 20), seed=(0, 1)
        ),
    ),
    paper=dict(train=dict(steps=60_000)),
)


def claims(results: xr.Dataset) -> list[Claim]:
    few, some, many, main = (results.isel(train_size=place) for place in range(4))
    start = main.isel(step=0)
    peak = along("step", measures.peak, main.population_risk).step
    linear = at(main.linear_power, peak) - start.linear_power
    bump = at(main.population_risk, peak) - start.population_risk
    aligned = at(main.misalignment_error, peak) / start.misalignment_error
    power = many.linear_power.max("step") / some.linear_power.max("step")
    shares = left(many.linear_power) * rise(many.linear_power)
    return [
        tested(
            "K4f",
            "Sec. 5.3, Fig. 4",
            "the peak in test loss comes from power in the linear component, before "
            "the alignment improves and the linear power falls",
            typical("rise of the linear power / of the risk", linear / bump, ">=", 1),
            typical("misalignment at the peak / start", aligned, ">=", 0.75),
            typical(
                "misalignment end / start", left(main.misalignment_error), "<", 0.25
            ),
            typical("linear power end / peak", left(main.linear_power), "<=", 0.25),
        ),
        tested(
            "K4a1",
            "Figs. 9b, 9e",
            "P = 120: linear power rises, then falls as the network groks",
            typical("power peak / start", rise(some.linear_power), ">=", 5),
            typical("power end / peak", left(some.linear_power), "<=", 0.25),
            typical("risk end / peak", left(some.population_risk), "<=", 0.1),
        ),
        tested(
            "K4a2",
            "Figs. 9a, 9d, Sec. 8.3.2",
            "P = 50: linear power stays, nothing generalises, and the test loss gets "
            "worse than that of the initial network",
            typical("power end / peak", left(few.linear_power), ">=", 0.3),
            typical("risk end / peak", left(few.population_risk), ">=", 0.3),
            typical("risk peak / start", rise(few.population_risk), ">", 1),
        ),
        tested(
            "K4a3",
            "Figs. 9c, 9f",
            "P = 500: full generalisation comes with low power in linear modes "
            "throughout",
            typical("power peak / that at P = 120", power, "<=", 0.5),
            typical("risk end / peak", left(many.population_risk), "<=", 0.1),
            typically(shown, "power end / start", shares),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, test="population_risk", each=True)
    terms = partial(plot.risk_terms, each=True)
    first = share(results.isel(seed=slice(3)), "train_loss", "population_risk")
    title = "P = {}, D = {input_dim}"
    return grid(first, "train_size", title, losses, terms)
