"""G1c (Xu et al. 2025, Fig. 6c): sparse parity: the weak network generalises late, the
target network does not.

    python -m grok_jax.launch --config=experiments/groktransfer/g1_parity.py \
        --workdir=runs/g1_parity

The parity of 3 of 40 bits from 1,000 examples, logistic loss, AdamW, full batch: a
three-layer FNN of width 16; one of width 512 behind a linear map to 128 features, from
scratch; and the same with that map begun as A B, A the first layer of the small network
when it had 70% test accuracy. The paper does not give the small network's learning rate
and decay: these are those, of two dozen tried on seeds 10 to 17, with which it always
generalised within 1,000 steps.

`cpu` has the paper's sizes; a run ends when its test accuracy has been 0.99 for half as
long again.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import delay, every, grid, presets, shown, tested, times

get_config = presets(
    dict(
        name="G1 parity",
        description="a weak network's first layer on sparse parity",
        task=dict(name="sparse_parity"),
        model=dict(name="fnn"),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name="adamw"),
        train=dict(steps=3000, records=300),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=0.5),
        arms=dict(
            weak=dict(
                model=dict(embedding=0, width=16),
                optimizer=dict(learning_rate=0.1, weight_decay=0.5),
            ),
            scratch=dict(optimizer=dict(learning_rate=1e-2, weight_decay=1.0)),
            GrokTransfer=dict(
                optimizer=dict(learning_rate=1e-3, weight_decay=1e-3),
                transfer=dict(
                    model=dict(embedding=0, width=16, layers=3),
                    optimizer=dict(learning_rate=0.1, weight_decay=0.5),
                    leaf="layer_0",
                    accuracy=0.7,
                    steps=10_000,
                ),
            ),
        ),
        sweep=dict(seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(bits=6, support=2, train_size=30, test_size=30),
        model=dict(embedding=4, width=8),
        train=dict(steps=20, records=10),
        arms=dict(
            weak=dict(model=dict(width=4)),
            GrokTransfer=dict(transfer=dict(model=dict(width=4), steps=20)),
        ),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=10_000),
        train=dict(steps=20_000),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    weak, moved = results.sel(arm="weak"), results.sel(arm="GrokTransfer")
    late = every("time gap", delay(weak), ">=", times(1, "t_train", weak.t_train))
    return [
        tested("G1c", "Fig. 6c", "the weak network generalises late", late),
        tested(
            "G1c2",
            "Fig. 6c",
            "the large one with its first layer generalises as it fits",
            every("t_test", moved.t_test, "<", times(2, "t_train", moved.t_train)),
            shown("weak network stopped at", moved.weak_steps_taken.isel(step=0)),
            shown("with test accuracy", moved.weak_test_accuracy.isel(step=0)),
        ),
        shorter(results, "G1c3", "weak", "the weak network"),
        shorter(results, "G1c4", "scratch", "the large network from scratch"),
    ]


def shorter(results: xr.Dataset, id: str, arm: str, whose: str) -> Claim:
    """The claim on the delay of another arm; one that has no end is the longest."""
    gap, other = delay(results.sel(arm="GrokTransfer")), delay(results.sel(arm=arm))
    a_fifth = every("time gap", gap, "<=", times(0.2, f"gap of {arm}", other))
    some = every(f"gap of {arm}", other, ">", 0)
    return tested(id, "Fig. 6c", f"its delay is not that of {whose}", a_fifth, some)


def figure(results: xr.Dataset) -> Figure:
    return grid(results, "arm", "{}", accuracies)


def accuracies(axis: Axes, runs: xr.Dataset) -> None:
    plot.accuracies(axis, runs)
    plot.levels(axis, runs.weak_test_accuracy.isel(step=0), label="weak network")
