"""K2 (Kumar et al. 2024, Sec. 8.3): other moduli grok in the same way.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k2_moduli.py \
        --workdir=runs/k2_moduli

`k2_modular.py` at alpha = 1 for the primes that the paper names, all at its learning
rate of 100. Of the smallest, 10% of the pairs are 17, so that 95% means all of them.
"In the same way": at least 1.5 times later, the lower end of what Sec. 16.1 says of
modulus 23. Seeds from 200 on: others were seen when that was 2.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    change,
    every,
    grid,
    late,
    presets,
    tested,
    typically,
)

get_config = presets(
    dict(
        name="K2 moduli",
        description="modular addition for six primes",
        task=dict(name="modular", train_fraction=0.9),
        model=dict(name="quadratic", width=100, init_scale=0.7),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=20_000, records=120),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(modulus=(13, 17, 19, 23, 29, 31), seed=tuple(range(200, 205))),
    ),
    smoke=dict(
        model=dict(width=30),
        train=dict(steps=200, records=20),
        sweep=dict(modulus=(5, 7), seed=(0, 1)),
    ),
    paper=dict(train=dict(steps=40_000), sweep=dict(seed=tuple(range(200, 210)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = late(results.t_test) / results.t_train
    norm = change(results.weight_norm)
    return [
        tested(
            "K2g",
            "Sec. 8.3",
            "any of the primes 13, 17, 19, 23, 29 and 31 groks in the same way, "
            "without weight decay",
            typically(every, "t_test / t_train", ratio, ">=", 1.5),
            typically(every, "t_test / t_train", ratio, "<", float("inf")),
        ),
        tested(
            "K2h",
            "Secs. 3, 8.3",
            "and its weight norm increases",
            typically(every, "end / start", norm, ">", 1),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return grid(results, "modulus", "p = {}", plot.accuracies, plot.losses)
