"""O1 (Liu et al. 2023, Figs. 2b and 2c): weight decay sets the delay.

    python -m grok_jax.launch --config=experiments/omnigrok/o1_weight_decay.py \
        --workdir=runs/o1_weight_decay

The teacher-student network of `o1_landscape.py`, initialised at alpha times PyTorch's
scale and trained freely by AdamW with weight decay gamma. An example is right where its
mean squared error is below 0.001 (the authors' code; the text says 0.01). Beside the
times, Fig. 2c has the weight norms at which they are reached: by Sec. 2 a network
generalises at a critical norm, whatever gamma. Sizes and steps of `cpu` are the
paper's; what "fails", "slowly" and "fast" mean in numbers is ours.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, late, panels, presets, sheet, slopes, tested, typical

RATE = 3e-4

get_config = presets(
    dict(
        name="O1 weight decay",
        description="teacher-student: delay against weight decay",
        task=dict(name="teacher_student"),
        model=dict(name="mlp", width=100, activation="tanh"),
        loss=dict(name="squared_error", tolerance=0.001, outputs="mean"),
        optimizer=dict(name="adamw", learning_rate=RATE),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=150),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.5),
        sweep=dict(
            init_scale=(0.5, 2.0),
            weight_decay=(0.0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
            seed=tuple(range(100, 110)),
        ),
    ),
    smoke=dict(
        task=dict(train_size=10, test_size=10),
        model=dict(width=8),
        train=dict(steps=100, records=10),
        sweep=dict(weight_decay=(0.0, 0.03, 1.0), seed=(0, 1)),
    ),
    paper=dict(),
)


def claims(results: xr.Dataset) -> list[Claim]:
    small, large = (results.sel(init_scale=alpha) for alpha in (0.5, 2.0))
    free, weak, strong = (large.sel(weight_decay=gamma) for gamma in (0.0, 0.03, 1.0))
    swept = large.sel(weight_decay=slice(0.03, None))
    t_train, t_test = swept.t_train, swept.t_test
    slope = slopes(t_test, "weight_decay").where(t_test.notnull().all("weight_decay"))
    spread = t_train.max("weight_decay") / t_train.min("weight_decay", skipna=False)
    slow, end = late(weak.t_test), float(results.step[-1])
    norm = at(swept.weight_norm, t_test) / swept.weight_norm.isel(step=0)
    alike = norm.max("weight_decay", skipna=False) / norm.min("weight_decay")
    decayed = -np.log(norm) / (t_test * t_test.weight_decay * RATE)
    early = late(small.t_test).max("weight_decay") / slow
    return [
        tested(
            "O1b",
            "Sec. 3, Fig. 2b (top)",
            "alpha = 2: without weight decay it fails to generalise, with little of it "
            "it generalises slowly, with much of it faster",
            typical("t_test at gamma = 0 (inf: never)", late(free.t_test), ">", end),
            typical("t_test / t_train at 0.03", slow / weak.t_train, ">=", 10),
            typical("t_test at 0.03 / at 1", slow / strong.t_test, ">=", 10),
        ),
        tested(
            "O1b2",
            "Sec. 3, Fig. 2b (bottom)",
            "alpha = 0.5: it generalises fast whatever the weight decay",
            typical("latest t_test / that at alpha = 2, gamma = 0.03", early, "<", 0.1),
        ),
        tested(
            "O1c",
            "Sec. 3, Fig. 2c",
            "alpha = 2: the time to generalise is inversely proportional to gamma",
            typical("slope of log t_test on log gamma", slope, ">=", -1.15),
            typical("slope of log t_test on log gamma", slope, "<=", -0.85),
        ),
        tested(
            "O1c2",
            "Sec. 3, Fig. 2c",
            "alpha = 2: the time to fit does not depend on gamma",
            typical("longest t_train / shortest", spread, "<", 2),
        ),
        tested(
            "O1d",
            "Sec. 2",
            "alpha = 2: once it has fitted, the norm decays as exp(-gamma t) down to "
            "w_c, where it generalises",
            typical("norm at t_test, largest / smallest over gamma", alike, "<", 1.5),
            typical("ln(w0 / w) / (gamma rate t) at t_test", decayed, ">", 0.5),
            typical("ln(w0 / w) / (gamma rate t) at t_test", decayed, "<", 1.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="weight_decay", symbol="γ", each=True)
    law = partial(plot.times, over="weight_decay", law=-1)
    three = results.sel(weight_decay=[0.0, 0.03, 1.0])
    swept = results.sel(init_scale=2.0, weight_decay=slice(0.03, None))
    return sheet(
        *panels(three, "init_scale", "α = {:g}", family),
        ("α = 2", law, swept),
        ("α = 2: weight norm there", norms, swept),
        columns=2,
    )


def norms(axis: Axes, swept: xr.Dataset) -> None:
    """The weight norm / start of each run at t_train and at t_test."""
    share = swept.weight_norm / swept.weight_norm.isel(step=0)
    for name, color in plot.SPLITS:
        there = at(share, swept[f"t_{name}"]).transpose("weight_decay", "seed")
        axis.plot(there.weight_decay, there, "o", ms=3, color=color)
        axis.plot(there.weight_decay, there.median("seed"), color=color, label=name)
    axis.set_xscale("log")
    axis.set_xlabel("weight decay")
    axis.set_ylabel("weight norm / start")
    axis.legend(fontsize=7)
