"""K9 (Kumar et al. 2024, Figs. 17 and 18): the threshold of an accuracy is a choice.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_threshold.py \
        --workdir=runs/k9_threshold

The runs of `k9_teacher_student.py` at alpha = 1, an example counting as right below one
of several thresholds: how long the accuracies lie apart depends on it (a mirage, after
Schaeffer et al. 2023), the delay of the loss curves does not.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    by_loss,
    every,
    ordered,
    panels,
    presets,
    sheet,
    tested,
    times,
)

get_config = presets(
    dict(
        name="K9 threshold",
        description="accuracy groks with the threshold, the loss does not",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh", init_scale=2.0),
        loss=dict(name="squared_error", outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(tolerance=(1e-3, 1e-2, 1e-1), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        sweep=dict(tolerance=(1e-4, 1e-3, 1e-2, 1e-1), seed=tuple(range(10))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = results.t_test - results.t_train
    strict, lenient = (gap.isel(tolerance=place) for place in (0, -1))
    one = results.isel(tolerance=0, drop=True)
    losses = ["train_loss", "test_loss"]
    apart = abs(results[losses] - one[losses]).to_array().max()
    loss = by_loss(one)
    return [
        tested(
            "K9d",
            "Fig. 17, 18",
            "the delay in accuracy depends on the threshold",
            ordered("delay", gap, "tolerance", "falls"),
            every("at the least", strict, ">=", times(10, "at the largest", lenient)),
        ),
        tested(
            "K9e",
            "Fig. 17, 18",
            "the loss curves do not depend on it, to the bit",
            every("largest difference of a loss between thresholds", apart, "<=", 0),
        ),
        tested(
            "K9f",
            "Fig. 17, 18",
            "and they lie apart by themselves (t_train and t_test by the losses)",
            every("t_test", loss.t_test, ">=", times(10, "t_train", loss.t_train)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, log=True)
    return sheet(
        ("loss, at every threshold", losses, results.isel(tolerance=0)),
        *panels(results, "tolerance", "threshold {:g}", plot.accuracies),
    )
