"""K13 (Kumar et al. 2024, Fig. 14): targets of several directions.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k13_multi_index.py \
        --workdir=runs/k13_multi_index

y = sum_k (beta_k . x)^2 / 2 over 1, 2 and 3 directions, more data for more directions.
`paper` has the paper's D and N.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import by_loss, every, grid, presets, tested, times

get_config = presets(
    dict(
        name="K13 multi-index",
        description="one, two and three directions",
        task=dict(name="polynomial", input_dim=50),
        model=dict(name="committee", width=300, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=80),
        sweep=dict(directions=(1, 2, 3), train_size=(220, 300, 400), seed=(0, 1, 2)),
        zip=("directions+train_size",),
    ),
    smoke=dict(
        task=dict(input_dim=8, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(train_size=(30, 40, 50), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(train_size=(450, 700, 900), seed=tuple(range(10))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    loss, timed = results.test_loss, by_loss(results)
    timed = timed.assign(end=loss.isel(step=-1) / loss.isel(step=0))
    runs = [timed.sel(directions=value) for value in results.directions.values]
    return [
        tested(
            f"K13{letter}",
            "Fig. 14",
            f"{run.directions:d} direction(s): the network groks in the loss",
            every("t_test", run.t_test, ">=", times(3, "t_train", run.t_train)),
            every("test loss, end / start", run.end, "<", 0.15),
        )
        for letter, run in zip("abc", runs, strict=True)
    ]


def figure(results: xr.Dataset) -> Figure:
    title = "{} direction(s), P = {train_size}"
    return grid(results, "directions", title, plot.losses)
