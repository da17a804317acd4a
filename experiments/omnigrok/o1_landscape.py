"""O1 (Liu et al. 2023, Fig. 2a): the L and the U of a teacher-student network.

    python -m grok_jax.launch --config=experiments/omnigrok/o1_landscape.py \
        --workdir=runs/o1_landscape

A tanh student 5-100-100-5 learns 100 Gaussian examples of a teacher of its own kind by
Adam, every parameter held on the sphere of norm alpha times that of PyTorch's
initialisation: the loss reached is the reduced loss at that norm (the last one; the
least one of the run is drawn too). The norm counts every parameter once. Sizes, steps
and norms of `cpu` are the paper's.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import OURS, along, every, median, ordered, presets, sheet, tested

get_config = presets(
    dict(
        name="O1 landscape",
        description="teacher-student: reduced loss against the norm",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh"),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, norm="fixed"),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=40),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(init_scale=logspace(0.1, 10, 11), seed=(0, 1, 2, 3)),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), seed=(0, 1)),
    ),
    paper=dict(sweep=dict(seed=tuple(range(10)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    alpha, last = results.init_scale, results.isel(step=-1)
    best = last.test_loss.idxmin("init_scale")
    above = last.test_loss / last.test_loss.min("init_scale", skipna=False)
    train = last.train_loss.median("seed")  # of the runs that did not diverge
    usual, beyond = (train.sel(init_scale=v) for v in (alpha <= 1.01, alpha > 1.01))
    test = median(last.test_loss)
    mismatch = along("init_scale", measures.lu_mismatch, train, test, floor=1e-12)
    bottom = along("init_scale", measures.goldilocks, test).norm
    held = abs(results.weight_norm / results.weight_norm.isel(step=0) - 1)
    return [
        tested(
            "O1a",
            "Fig. 2a",
            "the test loss is a U: lowest near the usual norm, far higher at both ends",
            every("minimum at", best, ">=", 0.5),
            every("minimum at", best, "<=", 2),
            every("left end / minimum", above.isel(init_scale=0), ">=", 10),
            every("right end / minimum", above.isel(init_scale=-1), ">=", 10),
        ),
        tested(
            "O1a2",
            "Fig. 2a",
            "the train loss is an L: it falls up to alpha = 1 and stays low from there",
            ordered("median up to 1", usual, "init_scale", "never rises"),
            every("median beyond / left end", beyond / train[0], "<", 1e-4),
        ),
        tested(
            "O1a3",
            "Fig. 2a",
            "L and U (of medians) differ on the side of large norms alone",
            every("mismatch in decades", mismatch, ">", 2),
            every("Goldilocks norm", bottom, ">=", 0.5),
            every("Goldilocks norm", bottom, "<=", 2),
        ),
        tested(
            "O1a4",
            OURS,
            "the norm of all parameters stays where it began",
            every("|w / w0 - 1|", held, "<=", 1e-6),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return sheet(
        ("reduced loss, last step", plot.landscape, results.isel(step=-1)),
        ("least along the run", plot.landscape, results.min("step")),
    )
