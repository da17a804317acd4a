"""K12 (Kumar et al. 2024, Sec. 14) for the polynomial task: AdamW.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_adamw.py \
        --workdir=runs/k12_adamw

The committee machine by AdamW at three weight decays, its linearisation at step 0
trained by the same AdamW beside it (there is no closed form). The claims are about no
weight decay. `paper` has the paper's sizes.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import by_loss, every, grid, presets, rise, tested, times

get_config = presets(
    dict(
        name="K12 AdamW",
        description="the same story with an adaptive optimiser",
        task=dict(name="polynomial", input_dim=50, train_size=220),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="adamw", learning_rate=0.01),
        observe=dict(population_risk={}, norms={}),
        train=dict(steps=6_000, records=80),
        sweep=dict(
            weight_decay=(0.0, 0.01, 0.1), linearized=(False, True), seed=(0, 1, 2)
        ),
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


def claims(results: xr.Dataset) -> list[Claim]:
    free = by_loss(results.sel(weight_decay=0.0), "population_risk")
    net, linear = free.sel(linearized=False), free.sel(linearized=True)
    start = net.train_loss.isel(step=0)
    gap = abs(net.train_loss - linear.train_loss) / start
    early = gap.where(net.train_loss > 0.8 * start).max("step")
    end = (net.population_risk / linear.population_risk).isel(step=-1)
    return [
        tested(
            "K12b1",
            "Fig. 13",
            "AdamW without decay: the network groks in the loss",
            every("t_test", net.t_test, ">=", times(3, "t_train", net.t_train)),
        ),
        tested(
            "K12b2",
            "Fig. 13",
            "the test loss rises before it falls",
            every("peak / start", rise(net.population_risk), ">", 1.02),
        ),
        tested(
            "K12b3",
            "Fig. 13",
            "the linearisation is tracked until the train loss has lost 20%",
            every("gap of the train losses until then / start", early, "<", 0.05),
        ),
        tested(
            "K12b4",
            "Fig. 13",
            "the network leaves its linearisation far behind",
            every("test loss at the end / that of the linearisation", end, "<", 0.25),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    curves = dict(kind="population_risk", dashed="train_loss")
    both = partial(plot.family, over="linearized", symbol="linearised", **curves)
    return grid(results, "weight_decay", "weight decay {:g}", both)
