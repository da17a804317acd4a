"""K5 (Kumar et al. 2024, Figs. 5 and 19): labels as hard as one likes for the kernel.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k5_eigenlabels.py \
        --workdir=runs/k5

Labels are the j-th eigenvector of the initial NTK's Gram matrix over all examples,
train and test; the network is the two-layer one with trained read-outs (with read-outs
fixed to 1 the quadratic form it can learn is positive, and half of the eigenvectors
cannot even be fitted). j against the number P of training examples.

`cpu`: D = 30 (the paper: 100), where eigenvectors 1-30 are linear functions and
31-495 quadratic; j in {1, 70, 400}, P in {100, 300, 800}, 3 seeds, 12,000 steps at
eta0 = 0.25 (at 1 the runs of j = 400 diverge); about three minutes on two cores.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K5 eigenvector labels",
        description="difficulty of the labels against the size of the data",
        task=dict(name="eigenlabels", input_dim=30, test_size=300),
        model=dict(name="committee", width=300, epsilon=0.25, readout="trained"),
        optimizer=dict(name="gradient_descent", learning_rate=0.25, rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=12_000, records=80),
        sweep=dict(
            eigenvector=(1, 70, 400), train_size=(100, 300, 800), seed=(0, 1, 2)
        ),
    )
    smoke = dict(
        task=dict(input_dim=6, test_size=40),
        model=dict(width=20),
        train=dict(steps=100, records=15),
        sweep=dict(eigenvector=(1, 10, 30), train_size=(20, 40, 60), seed=(0, 1)),
    )
    paper = dict(
        task=dict(input_dim=100, test_size=1000),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(
            eigenvector=(1, 70, 100, 400, 1000),
            train_size=(150, 550, 2000),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    easy, hard, hardest = results.eigenvector.values[[0, 1, -1]]
    few, some, many = results.train_size.values[[0, 1, -1]]
    loss = results.test_loss
    start, end = loss.isel(step=0), loss.isel(step=-1)
    bump, rest = loss.max("step") / start, end / start
    lag = results.t_test / results.t_train

    def at(values: xr.DataArray, j: int, p: int):
        return values.sel(eigenvector=j, train_size=p).values

    rescued = (rest.sel(eigenvector=hardest).diff("train_size") < 0).all()
    return [
        Claim(
            "K5a",
            "5a",
            f"j = {easy}, P = {some}: train and test fall together",
            "t_test <= 2 t_train, test loss never 5% above its start, every seed",
            {"t_test / t_train": at(lag, easy, some), "peak": at(bump, easy, some)},
            bool(
                (at(lag, easy, some) <= 2).all() and (at(bump, easy, some) < 1.05).all()
            ),
        ),
        Claim(
            "K5b",
            "5b",
            f"j = {hard}, P = {some}: the network groks",
            "test loss rises > 5% above its start and ends < 0.5 of it, every seed",
            {
                "peak / start": at(bump, hard, some),
                "end / start": at(rest, hard, some),
            },
            bool(
                (at(bump, hard, some) > 1.05).all()
                and (at(rest, hard, some) < 0.5).all()
            ),
        ),
        Claim(
            "K5c",
            "5c",
            f"j = {hardest}, P = {some}: it never generalises",
            "test loss ends >= 0.5 of its start, every seed",
            spread(at(rest, hardest, some)),
            bool((at(rest, hardest, some) >= 0.5).all()),
        ),
        Claim(
            "K5d",
            "19",
            f"more data rescue j = {hardest}",
            f"end / start falls with P, and is < 0.1 at P = {many}, every seed",
            {f"P {p}": at(rest, hardest, p) for p in (few, some, many)},
            bool(rescued and (at(rest, hardest, many) < 0.1).all()),
        ),
        Claim(
            "K5e",
            "19",
            f"too few data (P = {few}) fail already at j = {hard}",
            "test loss ends >= 0.5 of its start, every seed",
            spread(at(rest, hard, few)),
            bool((at(rest, hard, few) >= 0.5).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    sizes, vectors = results.train_size.values, results.eigenvector.values
    drawing, axes = plot.panels(len(vectors), len(sizes), 3.4, 2.4)
    for row, vector in enumerate(vectors):
        for column, size in enumerate(sizes):
            axis = axes[row, column]
            run = results.sel(eigenvector=vector, train_size=size)
            plot.losses(axis, run)
            axis.set_ylim(0, 2)
            axis.set_title(f"j = {vector}, P = {size}")
    return drawing
