"""K5 (Kumar et al. 2024, Figs. 5 and 19): labels as hard as one likes for the kernel.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k5_eigenlabels.py \
        --workdir=runs/k5

Labels are the j-th eigenvector of the initial NTK's Gram matrix over all examples,
train and test; the read-outs are trained (with read-outs fixed to 1 the quadratic form
that the network can learn is positive, and half of the eigenvectors cannot even be
fitted). j against the number P of training examples.

The paper has j = 1, 70, 100 and states neither D nor P. At D = 100, where the rest of
the paper is, eigenvectors 1-100 are linear and all three would be easy. At our D = 30,
1-30 are linear functions and 31-495 quadratic, and j = 400 stands for the hardest; j =
100 is listed. A quadratic function of 30 inputs has 495 coefficients: more examples
determine it for any learner, fewer for none if it has no structure.

At learning rate 1 the runs of j = 400 diverge. Seeds from 100 on, because seeds 0-2
were seen when the claims were chosen.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    change,
    every,
    late,
    panels,
    presets,
    rise,
    sheet,
    shown,
    tested,
    typical,
    typically,
)

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
            eigenvector=(1, 70, 100, 400),
            train_size=(100, 300, 450, 800),
            seed=tuple(range(100, 110)),
        ),
    ),
    smoke=dict(
        task=dict(input_dim=6, test_size=40),
        model=dict(width=20),
        train=dict(steps=100, records=15),
        sweep=dict(
            eigenvector=(1, 10, 20, 30), train_size=(20, 40, 50, 60), seed=(0, 1)
        ),
    ),
    paper=dict(
        model=dict(width=500),
        train=dict(steps=60_000),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    few, some, short, many = results.train_size.values
    easy, middle, listed, top = results.eigenvector.values
    results = results.assign(
        end=change(results.test_loss),
        peak=rise(results.test_loss),
        ratio=late(results.t_test) / results.t_train,
    )

    def at(eigenvector: int, train_size: int) -> xr.Dataset:
        return results.sel(eigenvector=eigenvector, train_size=train_size)

    fast, groks, never = (at(j, some) for j in (easy, middle, top))
    unlearned = results.end.sel(eigenvector=top, train_size=[few, some])
    rescued = at(top, many)
    return [
        tested(
            "K5a",
            "Sec. 6.1, Fig. 5a",
            f"j = {easy} (P = {some}): the network generalises at once, the learning "
            "curves move together",
            typical("t_test / t_train", fast.ratio, "<=", 2),
            typical("peak / start", fast.peak, "<", 1.05),
        ),
        tested(
            "K5b",
            "Sec. 6.1, Fig. 5b",
            f"j = {middle} (P = {some}): the network groks",
            typical("peak / start", groks.peak, ">", 1.05),
            typical("end / start", groks.end, "<", 0.5),
        ),
        tested(
            "K5c",
            "Sec. 6.1, Fig. 5c",
            f"large j ({top}, P = {some}): the network cannot generalise",
            typical("end / start", never.end, ">=", 0.5),
            typically(shown, f"end / start of j = {listed}", at(listed, some).end),
            less="the paper's j is 100",
        ),
        tested(
            "K5d",
            "App. 17, Fig. 19",
            "more data rescue a task that failed, and the learning curves move "
            f"together then (j = {top})",
            typically(every, "end / start", unlearned, ">=", 0.5),
            typical(f"end / start at P = {many}", rescued.end, "<", 0.1),
            typical("t_test / t_train", rescued.ratio, "<=", 2),
        ),
        tested(
            "K5e",
            "App. 17, Fig. 19",
            f"going down the column of few data (P = {few}), the harder task fails",
            typical(f"end / start of j = {middle}", at(middle, few).end, ">=", 0.5),
            typical(f"end / start of j = {easy}", at(easy, few).end, "<", 0.5),
        ),
        tested(
            "K5f",
            OURS,
            f"it is the data that rescue it, not features: below 495 examples (P = "
            f"{short}) j = {top} is not learned",
            typical("end / start", at(top, short).end, ">=", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawn = results.isel(train_size=[0, 1, 3], seed=slice(3))
    title = "j = {eigenvector}, P = {}"
    rows = (drawn.sel(eigenvector=j) for j in results.eigenvector.values)
    parts = [part for row in rows for part in panels(row, "train_size", title, losses)]
    return sheet(*parts, columns=drawn.sizes["train_size"])


def losses(axis: Axes, runs: xr.Dataset) -> None:
    plot.losses(axis, runs, each=True)
    axis.set_ylim(0, 2)
