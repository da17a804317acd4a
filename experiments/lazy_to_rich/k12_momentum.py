"""K12 (Kumar et al. 2024, Fig. 13a): gradient descent with momentum 0.95.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_momentum.py \
        --workdir=runs/k12_momentum

The committee machine with and without heavy-ball momentum at one learning rate, its
linearisation at step 0 beside it. The steps are enough for plain gradient descent to
fit too, which is up to twenty times slower. `paper` has the paper's sizes.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    along,
    at,
    by_loss,
    every,
    grid,
    presets,
    rise,
    tested,
    times,
)

get_config = presets(
    dict(
        name="K12 momentum",
        description="the same story with heavy-ball momentum",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=0.2, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=20_000, records=80),
        sweep=dict(momentum=(0.0, 0.95), linearized=(False, True), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, train_size=450),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(seed=tuple(range(10))),
    ),
)


def story(results: xr.Dataset, id: str) -> list[Claim]:
    """The claims of Fig. 13 for one optimiser."""
    results = by_loss(results, "population_risk")
    net, linear = results.sel(linearized=False), results.sel(linearized=True)
    risk, fit = net.population_risk, net.train_loss / net.train_loss.isel(step=0)
    gap = abs(risk - linear.population_risk) / risk.isel(step=0)
    parting = along("step", measures.first_step_reaching, gap, threshold=0.05)
    end = (risk / linear.population_risk).isel(step=-1)
    return [
        tested(
            f"{id}1",
            "Fig. 13a",
            "the network groks in the loss",
            every("t_test", net.t_test, ">=", times(3, "t_train", net.t_train)),
        ),
        tested(
            f"{id}2",
            "Fig. 13a",
            "the test loss rises before it falls",
            every("peak / start", rise(risk), ">", 1.02),
        ),
        tested(
            f"{id}3",
            "Fig. 13a",
            "the linearisation is tracked early and left behind later (they part where "
            "the test losses differ by 5% of the start)",
            every("train loss at parting / start", at(fit, parting), "<", 0.8),
            every("test loss at the end / that of the linearisation", end, "<", 0.25),
        ),
    ]


def claims(results: xr.Dataset) -> list[Claim]:
    plain, heavy = (results.sel(momentum=m) for m in (0.0, 0.95))
    speed = (plain.t_train / heavy.t_train).sel(linearized=False)
    faster = tested(
        "K12a-4",
        "Fig. 13a",
        "momentum 0.95 is the same descent at up to 1 / (1 - 0.95) = 20 times the "
        "learning rate",
        every("t_train without / with momentum", speed, ">", 2),
        every("t_train without / with momentum", speed, "<", 25),
    )
    return [*story(plain, "K12a-plain-"), *story(heavy, "K12a-"), faster]


def figure(results: xr.Dataset) -> Figure:
    curves = dict(kind="population_risk", dashed="train_loss")
    both = partial(plot.family, over="linearized", symbol="linearised", **curves)
    return grid(results, "momentum", "momentum {:g}", both)
