"""K9 (Kumar et al. 2024, Fig. 8): the output scale on Omnigrok's teacher-student task.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k9_teacher_student.py \
        --workdir=runs/k9_teacher_student

Omnigrok makes the student grok by doubling its initial weights
(`omnigrok/o1_weight_decay.py`). Here the initial norm stays doubled and the output
scale alpha alone moves the delay, both ways; alpha = 1 is Omnigrok's run. An example is
right where its mean squared error is below 0.001, as in Omnigrok's code (the paper's
text: within 0.001 of the label). The scales are ours, and AdamW's rate is the same at
all of them: App. 8.1's 1 / alpha^2 is judged in `k7_transformer.py`. Seeds from 100 on,
because seeds 0-2 were seen when the smallest was chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    late,
    most,
    ordered,
    presets,
    sheet,
    shown,
    tested,
    times,
    typical,
    typically,
)

get_config = presets(
    dict(
        name="K9 teacher-student",
        description="the output scale moves the delay both ways",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh", init_scale=2.0),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=250),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.5),
        sweep=dict(
            output_scale=(0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0),
            seed=tuple(range(100, 110)),
        ),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(output_scale=(0.125, 1.0, 4.0), seed=(0, 1)),
    ),
    paper={},
)


def claims(results: xr.Dataset) -> list[Claim]:
    alphas = results.output_scale
    delays = late(results.t_test) - results.t_train
    usual = delays.sel(output_scale=1.0)
    low, high = (delays.isel(output_scale=place) for place in (0, -1))
    lazier = delays.sel(output_scale=alphas >= 1)
    one = results.sel(output_scale=1.0)
    return [
        tested(
            "K9a",
            "Sec. 8.3.1, Fig. 8",
            "alpha = 1 groks as Omnigrok's run does",
            typical("t_test / t_train", late(one.t_test) / one.t_train, ">=", 10),
            typical("t_test", late(one.t_test), "<", float("inf")),
        ),
        tested(
            "K9b",
            "Sec. 8.3.1, Fig. 8",
            f"a smaller alpha ({alphas.values[0]:g}) makes the grokking vanish at the "
            "same initial norm",
            typical("delay / that at alpha = 1", low / usual, "<", 0.1),
        ),
        tested(
            "K9c",
            "Sec. 8.3.1, Fig. 8",
            "a larger alpha makes it more pronounced",
            typically(ordered, "delay", lazier, "output_scale", "rises"),
            most("delay at the largest", high, ">", times(1, "at 1", usual), share=0.9),
            typically(shown, "delay at all scales", delays),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="output_scale", symbol="α")
    return sheet(
        ("", family, results),
        ("", partial(family, kind="loss", log=True), results),
        ("", partial(plot.times, over="output_scale"), results),
    )
