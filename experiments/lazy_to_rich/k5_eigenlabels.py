"""K5 (Kumar et al. 2024, Figs. 5 and 19): labels as hard as one likes for the kernel.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k5_eigenlabels.py \
        --workdir=runs/k5

Labels are the j-th eigenvector of the initial NTK's Gram matrix over all examples,
train and test; the read-outs are trained (with read-outs fixed to 1 the quadratic form
that the network can learn is positive, and half of the eigenvectors cannot even be
fitted). j against the number P of training examples.

At D = 30, eigenvectors 1-30 are linear functions and 31-495 quadratic. At learning rate
1 the runs of j = 400 diverge there.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, ordered, panels, presets, rise, sheet, tested, times

get_config = presets(
    dict(
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
    ),
    smoke=dict(
        task=dict(input_dim=6, test_size=40),
        model=dict(width=20),
        train=dict(steps=100, records=15),
        sweep=dict(eigenvector=(1, 10, 30), train_size=(20, 40, 60), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, test_size=1000),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(
            eigenvector=(1, 70, 100, 400, 1000),
            train_size=(150, 550, 2000),
            seed=tuple(range(5)),
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    easy, hard, hardest = results.eigenvector.values[[0, 1, -1]]
    few, some, many = results.train_size.values[[0, 1, -1]]
    learned = results.sel(eigenvector=easy, train_size=some)
    loss, peak = results.test_loss, rise(results.test_loss.sel(train_size=some))
    end = loss.isel(step=-1) / loss.isel(step=0)
    groks, never = (end.sel(eigenvector=vector) for vector in (hard, hardest))
    return [
        tested(
            "K5a",
            "Fig. 5a",
            f"j = {easy}, P = {some}: train and test fall together",
            every("t_test", learned.t_test, "<=", times(2, "t_train", learned.t_train)),
            every("peak / start", peak.sel(eigenvector=easy), "<", 1.05),
        ),
        tested(
            "K5b",
            "Fig. 5b",
            f"j = {hard}, P = {some}: the network groks",
            every("peak / start", peak.sel(eigenvector=hard), ">", 1.05),
            every("end / start", groks.sel(train_size=some), "<", 0.5),
        ),
        tested(
            "K5c",
            "Fig. 5c",
            f"j = {hardest}, P = {some}: it never generalises",
            every("end / start", never.sel(train_size=some), ">=", 0.5),
        ),
        tested(
            "K5d",
            "Fig. 19",
            f"more data rescue j = {hardest}",
            ordered("end / start", never, "train_size", "falls"),
            every(f"that at P = {many}", never.sel(train_size=many), "<", 0.1),
        ),
        tested(
            "K5e",
            "Fig. 19",
            f"too few data (P = {few}) fail already at j = {hard}",
            every("end / start", groks.sel(train_size=few), ">=", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    rows = (results.sel(eigenvector=j) for j in results.eigenvector.values[[0, 1, -1]])
    title = "j = {eigenvector}, P = {}"
    parts = [part for row in rows for part in panels(row, "train_size", title, losses)]
    return sheet(*parts, columns=results.sizes["train_size"])


def losses(axis: Axes, runs: xr.Dataset) -> None:
    plot.losses(axis, runs)
    axis.set_ylim(0, 2)
