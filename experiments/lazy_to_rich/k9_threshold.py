"""K9 (Kumar et al. 2024, Figs. 17 and 18): the threshold of an accuracy is a choice.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_threshold.py \
        --workdir=runs/k9_threshold

The runs of `k9_teacher_student.py` at alpha = 1, an example counting as right below one
of several thresholds: how long the accuracies lie apart depends on it (a mirage, after
Schaeffer et al. 2023), while train and test loss fall together. Seeds from 100 on,
because seeds 0-2 were seen when the claims were chosen.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    by_loss,
    late,
    ordered,
    panels,
    presets,
    sheet,
    shown,
    tested,
    typical,
    typically,
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
        sweep=dict(tolerance=(1e-3, 1e-2, 1e-1), seed=tuple(range(100, 110))),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(sweep=dict(tolerance=(1e-4, 1e-3, 1e-2, 1e-1))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = late(results.t_test) - results.t_train
    strict, lenient = (gap.isel(tolerance=place) for place in (0, -1))
    loss = by_loss(results.isel(tolerance=0, drop=True))
    apart = abs(loss.test_loss - loss.train_loss).max("step")
    apart = apart / loss.test_loss.isel(step=0, drop=True)
    return [
        tested(
            "K9d",
            "Sec. 16.2, Fig. 17",
            "grokking in accuracy depends on the threshold, in the same runs",
            typically(ordered, "delay", gap, "tolerance", "falls"),
            typical(
                "at the least / at the largest", strict / lenient.clip(1), ">=", 10
            ),
        ),
        tested(
            "K9f",
            "Sec. 16.3, Fig. 18",
            "in the loss nothing groks: the train loss tracks the test loss throughout",
            typical(
                "t_test / t_train by the loss",
                late(loss.t_test) / loss.t_train,
                "<=",
                2,
            ),
            typically(shown, "largest difference of the losses / start", apart),
            less="how near it stays",
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawn = results.isel(seed=slice(3))
    return sheet(
        ("loss, at every threshold", plot.losses, drawn.isel(tolerance=0)),
        *panels(drawn, "tolerance", "threshold {:g}", plot.accuracies),
    )
