"""K9 (Kumar et al. 2024, Fig. 8): the output scale on Omnigrok's teacher-student task.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_teacher_student.py \
        --workdir=runs/k9_teacher_student

Omnigrok makes the student grok by doubling its initial weights
(`omnigrok/o1_weight_decay.py`). Here the initial norm stays doubled and the output
scale alpha alone moves the delay, both ways; alpha = 1 is Omnigrok's run. An example is
right where its mean squared error is below 0.001.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, presets, sheet, shown, tested, times

get_config = presets(
    dict(
        name="K9 teacher-student",
        description="the output scale moves the delay both ways",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh", init_scale=2.0),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.5),
        sweep=dict(output_scale=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(output_scale=(0.125, 1.0, 4.0), seed=(0, 1)),
    ),
    paper=dict(sweep=dict(seed=tuple(range(10)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    low, high = results.output_scale.values[[0, -1]]
    usual, longest = (results.sel(output_scale=alpha) for alpha in (1.0, high))
    delays = results.t_test - results.t_train
    least = longest.t_test.fillna(results.step.max()) - longest.t_train
    bar = "that at alpha = 1", delays.sel(output_scale=1.0)
    return [
        tested(
            "K9a",
            "Fig. 8",
            "alpha = 1 is Omnigrok's grokking",
            every("t_test", usual.t_test, ">=", times(10, "t_train", usual.t_train)),
        ),
        tested(
            "K9b",
            "Fig. 8",
            f"alpha = {low:g} removes the delay, at the same initial norm",
            every("delay", delays.sel(output_scale=low), "<", times(0.1, *bar)),
        ),
        tested(
            "K9c",
            "Fig. 8",
            f"alpha = {high:g} lengthens it; a run that never generalises counts with "
            "the steps that it had left",
            every("delay", least, ">", times(2, *bar)),
            shown("t_test", longest.t_test),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="output_scale", symbol="α")
    return sheet(
        ("", family, results),
        ("", partial(family, kind="loss", log=True), results),
        ("", partial(plot.times, over="output_scale"), results),
    )
