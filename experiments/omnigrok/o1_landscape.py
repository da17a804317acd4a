"""O1 (Liu et al. 2023, Fig. 2a): the L and the U of a teacher-student network.

    python -m grok_jax.launch --config=experiments/omnigrok/o1_landscape.py \
        --workdir=runs/o1_landscape

A tanh student 5-100-100-5 learns 100 Gaussian examples of a teacher of its own kind by
Adam at 3e-4, every parameter held on the sphere of norm alpha times that of PyTorch's
initialisation: the loss reached is the reduced loss at that norm (the last one; the
least one of the run is in `results.nc` too). The norm counts every parameter once.

`cpu`: 11 norms, 4 seeds, 10,000 steps, the paper's; about half a minute on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O1 landscape",
        description="teacher-student: reduced loss against the norm",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh"),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, norm="fixed"),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=40),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(
            init_scale=logspace(0.1, 10, 11),
            seed=(0, 1, 2, 3),
        ),
    )
    smoke = dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), seed=(0, 1)),
    )
    paper = dict(sweep=dict(seed=tuple(range(10))))
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    alphas = results.init_scale.values
    last = results.isel(step=-1).transpose("init_scale", "seed", ...)
    test, train = last.test_loss.values, last.train_loss.median("seed").values
    best = alphas[np.argmin(test, axis=0)]
    ends = test[[0, -1]] / test.min(axis=0)[None]
    rising = train[alphas <= 1.01]
    flat = train[alphas > 1.01] / train[0]
    held = results.weight_norm / results.weight_norm.isel(step=0)
    middle = np.median(test, axis=1)
    return [
        Claim(
            "O1a",
            "2a",
            "the test loss is a U: lowest near the usual norm, far higher at both ends",
            "minimum at 0.5 <= alpha <= 2 and >= 10x higher at both ends, every seed",
            {"minimum at": best, "ends / minimum": ends.min(axis=0)},
            bool(((best >= 0.5) & (best <= 2)).all() and (ends >= 10).all()),
        ),
        Claim(
            "O1a2",
            "2a",
            "the train loss is an L: it falls up to alpha = 1 and stays low from there",
            "median over seeds non-increasing up to 1, then < 1e-4 of its left end",
            {"up to 1": rising, "highest beyond / left end": float(flat.max())},
            bool((np.diff(rising) <= 0).all() and (flat < 1e-4).all()),
        ),
        Claim(
            "O1a3",
            "2a",
            "L and U differ on the side of large norms alone",
            "mismatch > 2 decades; Goldilocks norm between 0.5 and 2 (medians)",
            {
                "mismatch": float(measures.lu_mismatch(alphas, train, middle, 1e-12)),
                "Goldilocks norm": float(measures.goldilocks(alphas, middle).norm),
            },
            bool(
                measures.lu_mismatch(alphas, train, middle, 1e-12) > 2
                and 0.5 <= measures.goldilocks(alphas, middle).norm <= 2
            ),
        ),
        Claim(
            "O1a4",
            "-",
            "the norm of all parameters stays where it began",
            "|w / w0 - 1| <= 1e-6 at every record of every run",
            float(np.abs(held - 1).max()),
            bool((np.abs(held - 1) <= 1e-6).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 2, 4.2, 3.2)
    plot.landscape(axes[0, 0], results.isel(step=-1))
    axes[0, 0].set_title("reduced loss, last step")
    plot.landscape(axes[0, 1], results.min("step"))
    axes[0, 1].set_title("least along the run")
    return drawing
