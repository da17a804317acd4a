"""O1 (Liu et al. 2023, Fig. 2a): the L and the U of a teacher-student network.

    python -m grok_jax.launch --config=experiments/omnigrok/o1_landscape.py \
        --workdir=runs/o1_landscape

A tanh student 5-100-100-5 learns 100 Gaussian examples of a teacher of its own kind by
Adam, every parameter held on the sphere of norm alpha times that of PyTorch's
initialisation: the loss reached is the reduced loss at that norm (the last one, as in
the text; the least one of the run is drawn too). The norm counts every parameter once.
Sizes, steps and norms of `cpu` are the paper's. The thresholds were set when four seeds
had been seen; those of this page are others. The authors' notebook prints the losses of
its one seed, which are drawn too; its norm counts the first weights twice.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import (
    OURS,
    along,
    every,
    ordered,
    presets,
    sheet,
    tested,
    typical,
    typically,
)

ALPHAS = logspace(0.1, 10, 11)
NOTEBOOK = (
    *(0.016421, 0.011689, 0.002266, 0.000333, 0.000086, 0.000078),
    *(0.001471, 0.040637, 0.429469, 2.439299, 9.624020),
)
"""The test losses at `ALPHAS` that teacher-student-landscape.ipynb prints."""

get_config = presets(
    dict(
        name="O1 landscape",
        description="teacher-student: reduced loss against the norm",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh"),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, norm="fixed"),
        train=dict(steps=10_000, records=40),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(init_scale=ALPHAS, seed=tuple(range(100, 110))),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), seed=(0, 1)),
    ),
    paper=dict(),
)


def claims(results: xr.Dataset) -> list[Claim]:
    last = results.isel(step=-1)
    train, test = last.train_loss, last.test_loss
    best, above = test.idxmin("init_scale"), test / test.min("init_scale", skipna=False)
    usual = train.sel(init_scale=slice(1.01))
    left = train.isel(init_scale=0)
    flat = train.sel(init_scale=slice(1.01, None)).max("init_scale")
    mismatch = along("init_scale", measures.lu_mismatch, train, test, floor=1e-12)
    small = (test / train).isel(init_scale=0)
    theirs = xr.DataArray(list(NOTEBOOK), {"init_scale": list(ALPHAS)}, "init_scale")
    ratio = (test.median("seed") / theirs).sel(init_scale=slice(0.99, None))
    return [
        tested(
            "O1a",
            "Fig. 2a",
            "the test loss falls and then rises with the norm, a U with its minimum "
            "near alpha = 1",
            typical("minimum at", best, ">=", 0.5),
            typical("minimum at", best, "<=", 2),
            typical("left end / minimum", above.isel(init_scale=0), ">=", 10),
            typical("right end / minimum", above.isel(init_scale=-1), ">=", 10),
        ),
        tested(
            "O1a2",
            "Fig. 2a",
            "the train loss falls up to alpha = 1 and stays near zero from there: an L",
            typically(ordered, "up to 1", usual, "init_scale", "never rises"),
            typical("highest beyond 1 / left end", flat / left, "<", 1e-4),
        ),
        tested(
            "O1a3",
            "Sec. 2, Fig. 1b",
            "L and U differ on the side of large norms; on that of small ones both "
            "losses are high",
            typical("mismatch in decades beyond the minimum", mismatch, ">", 2),
            typical("test / train at the smallest norm", small, "<", 2),
        ),
        tested(
            "O1e",
            OURS,
            "from alpha = 1 on the test losses are those that the authors' notebook "
            "prints, within a factor 2 (medians over seeds)",
            every("ours / theirs", ratio, ">=", 0.5),
            every("ours / theirs", ratio, "<=", 2),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return sheet(
        ("reduced loss, last step", beside, results.isel(step=-1)),
        ("least along the run", plot.landscape, results.min("step")),
    )


def beside(axis: Axes, losses: xr.Dataset) -> None:
    """The losses, and the test losses of the authors' notebook."""
    axis.plot(ALPHAS, NOTEBOOK, "kx", ms=4, label="test, authors")
    plot.landscape(axis, losses)
