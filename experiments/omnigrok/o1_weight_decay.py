"""O1 (Liu et al. 2023, Figs. 2b and 2c): weight decay sets the delay.

    python -m grok_jax.launch --config=experiments/omnigrok/o1_weight_decay.py \
        --workdir=runs/o1_weight_decay

The teacher-student network of `o1_landscape.py`, initialised at alpha times PyTorch's
scale and trained freely by AdamW with weight decay gamma. An example is right where its
mean squared error is below 0.001 (the authors' code; the text says 0.01). Sizes and
steps of `cpu` are the paper's.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, panels, power_law, presets, sheet, tested, times

get_config = presets(
    dict(
        name="O1 weight decay",
        description="teacher-student: delay against weight decay",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh"),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=3e-4),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.5),
        sweep=dict(
            init_scale=(0.5, 2.0),
            weight_decay=(0.0, 0.03, 0.1, 0.3, 1.0),
            seed=(0, 1, 2),
        ),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(weight_decay=(0.0, 0.03, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        sweep=dict(
            weight_decay=(0.0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
            seed=tuple(range(10)),
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    small, large = (results.sel(init_scale=alpha) for alpha in (0.5, 2.0))
    free, weak, strong = (large.sel(weight_decay=gamma) for gamma in (0.0, 0.03, 1.0))
    decayed = large.sel(weight_decay=large.weight_decay > 0)
    t_train, t_test = decayed.t_train, decayed.t_test
    shortest = t_train.min("weight_decay", skipna=False)
    longest = t_train.max("weight_decay", skipna=False)
    late, bar = weak.t_test, "that at alpha = 2, gamma = 0.03"
    return [
        tested(
            "O1b",
            "Fig. 2b",
            "alpha = 2: without weight decay it never generalises, with little late, "
            "with much early",
            every("runs that generalise at gamma = 0", free.t_test.count(), "<", 1),
            every("t_test at 0.03", late, ">=", times(10, "t_train", weak.t_train)),
            every("t_test at 0.03", late, ">=", times(10, "that at 1", strong.t_test)),
        ),
        tested(
            "O1b2",
            "Fig. 2b",
            "alpha = 0.5: it generalises early whatever the weight decay",
            every("t_test", small.t_test, "<", times(0.1, bar, late)),
        ),
        tested(
            "O1c",
            "Fig. 2c",
            "alpha = 2: the time to generalise goes as 1 / gamma",
            power_law("t_test", t_test, "weight_decay", exponent=-1, within=0.15),
        ),
        tested(
            "O1c2",
            "Fig. 2c",
            "alpha = 2: the time to fit does not depend on gamma",
            every("longest t_train", longest, "<", times(2, "shortest", shortest)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="weight_decay", symbol="γ")
    law = partial(plot.times, over="weight_decay", law=-1)
    decayed = results.sel(init_scale=2.0, weight_decay=results.weight_decay > 0)
    return sheet(
        *panels(results, "init_scale", "α = {:g}", family), ("α = 2", law, decayed)
    )
