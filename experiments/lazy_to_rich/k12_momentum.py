"""K12 (Kumar et al. 2024, Fig. 13a): gradient descent with momentum 0.95.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_momentum.py \
        --workdir=runs/k12_momentum

The committee machine with heavy-ball momentum, its linearisation at step 0 beside it.
The arm without momentum, at the same learning rate, is ours: it fits up to twenty times
later, and is run for long enough to do so. epsilon = 0.1 and the learning rate are ours
too: of 0.2, 1 and 3 it is the smallest at which the loss bumps with momentum and not
without, on other seeds. `paper` has the paper's sizes and the epsilon of the authors'
script for Fig. 1.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    along,
    at,
    by_loss,
    grid,
    late,
    presets,
    rise,
    share,
    tested,
    typical,
)

get_config = presets(
    dict(
        name="K12 momentum",
        description="the same story with heavy-ball momentum",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.1),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=20_000, records=120),
        sweep=dict(
            momentum=(0.0, 0.95),
            linearized=(False, True),
            seed=tuple(range(200, 210)),
        ),
    ),
    smoke=dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, train_size=550),
        model=dict(width=500, epsilon=0.02),
        train=dict(steps=60_000),
    ),
)


def bumps(losses: xr.DataArray) -> xr.DataArray:
    """The number of records at which the loss has risen by more than 1% of its start:
    [..., step] -> [...]."""
    return (losses.diff("step") > 0.01 * losses.isel(step=0, drop=True)).sum("step")


def claims(results: xr.Dataset) -> list[Claim]:
    timed = by_loss(results, "population_risk")
    plain, heavy = (timed.sel(momentum=m) for m in (0.0, 0.95))
    net, linear = (heavy.sel(linearized=flag) for flag in (False, True))
    risk, fit = net.population_risk, share(net, "train_loss").train_loss
    gap = abs(risk - linear.population_risk) / risk.isel(step=0, drop=True)
    parting = along("step", measures.first_step_reaching, gap, threshold=0.05)
    end = (risk / linear.population_risk).isel(step=-1)
    speed = (late(plain.t_train) / heavy.t_train).sel(linearized=False)
    more = bumps(net.train_loss) - bumps(plain.train_loss.sel(linearized=False))
    return [
        tested(
            "K12a-1",
            "Sec. 14, Fig. 13a",
            "with momentum 0.95 the network groks in the loss as without",
            typical("peak / start of the risk", rise(risk), ">", 1.02),
            typical("t_test / t_train", late(net.t_test) / net.t_train, ">=", 3),
            typical("t_test", late(net.t_test), "<", float("inf")),
        ),
        tested(
            "K12a-3",
            "Sec. 14, Fig. 13a",
            "the pattern is linear, then feature learning",
            typical("train loss / start where they part", at(fit, parting), "<", 0.8),
            typical("test loss at the end / linearisation's", end, "<", 0.25),
            less="they part where the test losses differ by 5% of the start",
        ),
        tested(
            "K12a-5",
            "Sec. 14, Fig. 13a",
            "there are more bumps in the learning curves than without momentum",
            typical("bumps of the train loss with - without", more, ">", 0),
        ),
        tested(
            "K12a-4",
            OURS,
            "momentum 0.95 is the same descent at up to 1 / (1 - 0.95) = 20 times the "
            "learning rate",
            typical("t_train without / with momentum", speed, ">", 2),
            typical("t_train without / with momentum", speed, "<=", 20),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    curves = dict(kind="population_risk", dashed="train_loss", share=True, each=True)
    both = partial(plot.family, over="linearized", symbol="linearised", **curves)
    first = results.isel(seed=slice(2))
    return grid(first, "momentum", "momentum {:g}", both)
