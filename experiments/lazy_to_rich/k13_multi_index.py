"""K13 (Kumar et al. 2024, Fig. 14): targets of several directions.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k13_multi_index.py \
        --workdir=runs/k13_multi_index

y = sum_k (beta_k . x)^2 / 2 over 2 and 3 directions. The paper's Sec. 15.1 writes the
targets without squares, beta_1 . x + beta_2 . x, which would be one linear function,
and the caption of Fig. 14 is about polynomials of higher degree; its setup is that of
the quadratic task. P, epsilon = 0.1 and eta = N are ours. `paper` has the paper's D and
N. Seeds from 100 on, because seeds 0-2 were seen when epsilon was chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    by_loss,
    change,
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
        name="K13 multi-index",
        description="two and three directions",
        task=dict(name="polynomial", input_dim=50, train_size=300),
        model=dict(name="committee", width=300, epsilon=0.1),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=80),
        sweep=dict(directions=(2, 3), seed=tuple(range(100, 110))),
    ),
    smoke=dict(
        task=dict(input_dim=8, train_size=40, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, train_size=700),
        model=dict(width=500),
        train=dict(steps=60_000),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    timed = by_loss(results)
    timed = timed.assign(ratio=late(timed.t_test) / timed.t_train)
    return [
        tested(
            f"K13{letter}",
            f"Sec. 15.1, Fig. 14{panel}",
            f"grokking persists with {run.directions:d} directions",
            typical("peak / start", rise(run.test_loss), ">", 1.02),
            typical("t_test / t_train", run.ratio, ">=", 3),
            typical("test loss, end / start", change(run.test_loss), "<", 0.15),
        )
        for letter, panel, run in (
            ("b", "a", timed.isel(directions=0)),
            ("c", "b", timed.isel(directions=1)),
        )
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, each=True)
    first = share(results.isel(seed=slice(3)), "train_loss", "test_loss")
    return grid(first, "directions", "{} directions", losses)
