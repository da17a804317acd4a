"""G1 (Xu et al. 2025, Figs. 6a, 6b, first row, and 12): the weak networks.

    python -m grok_jax.launch --config=experiments/groktransfer/g1_weak.py \
        --workdir=runs/g1_weak

Two-layer FNNs with an embedding of 4 on modular addition and multiplication, 10,000
steps of AdamW, full batch: of width 16, as for Fig. 6 (App. A.3.1), and of width 4, as
App. A.3.3 has the weak network of Fig. 8. (Fig. 8's caption calls it a three-layer FNN,
and Sec. 4.2 takes it to be that of Fig. 6.) The embedding of the first seed is drawn on
two of its principal axes.

The paper gives neither initialisation nor rate nor decay of a weak network. They are
ours, from trials on other seeds; `search_weak.py` has them on a grid.

`cpu` has the paper's sizes.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot, spectra
from grok_jax.claims import Claim
from grok_jax.pages import along, every, late, presets, sheet, shown, tested, typical

LEVEL = {"addition": (0.15, 0.01, 0.3), "multiplication": (0.4, 0.05, 0.2)}
"""operation -> initialisation, learning rate and weight decay of its weak networks"""
SCALES, RATES, DECAYS = zip(*LEVEL.values(), strict=True)

get_config = presets(
    dict(
        name="G1 weak networks",
        description="small networks on modular arithmetic",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", embedding=4, layers=2),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        observe=dict(parameter_snapshots=dict(every=200)),
        train=dict(steps=10_000, records=200, spacing="linear"),
        grok=dict(kind="accuracy", train=0.9, test=0.9),
        sweep={
            "operation": tuple(LEVEL),
            "init_scale": SCALES,
            "learning_rate": RATES,
            "weight_decay": DECAYS,
            "width": (4, 16),
            "seed": tuple(range(100, 106)),
        },
        zip=("operation+init_scale+learning_rate+weight_decay",),
    ),
    smoke=dict(
        task=dict(modulus=7),
        train=dict(steps=20, records=10),
        observe=dict(parameter_snapshots=dict(every=10)),
        sweep=dict(width=(4,), seed=(0, 1)),
    ),
    paper=dict(sweep=dict(seed=tuple(range(100, 120)))),
)


def reached(runs: xr.Dataset, level: float) -> xr.DataArray:
    """The first step at a test accuracy; infinite if never."""
    curve = runs.test_accuracy
    return late(along("step", measures.first_step_reaching, curve, threshold=level))


def claims(results: xr.Dataset) -> list[Claim]:
    large, small = (results.isel(width=place) for place in (-1, 0))
    step, came = reached(large, 0.9), reached(small, 0.3) < float("inf")
    return [
        tested(
            "G1w",
            "App. A.4.1",
            "a two-layer FNN takes around 2,000 epochs to generalise",
            typical("step of 90% test accuracy", step, ">=", 1000),
            typical("step of 90% test accuracy", step, "<=", 4000),
            less="said of the FNN of width 4; here it is that of Fig. 6, width 16",
        ),
        tested(
            "G1w2",
            "Sec. 4.2, App. A.3.3",
            "the FNN of width 4 reaches 30% test accuracy",
            every("share of runs", came.mean(), ">", 0.5),
            shown("best test accuracy", small.test_accuracy.max("step")),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    parts = []
    for runs in (results.isel(operation=place) for place in (0, -1)):
        named = runs.operation.item()
        family = partial(plot.family, over="width", symbol="width", each=True)
        flat = runs.isel(
            {
                d: 0
                for d in runs.dims
                if d not in ("width", "seed", "step")
                and not str(d).startswith("parameter")
            }
        )
        parts += [(named, family, flat), ("12: its embedding", circle, flat)]
    return sheet(*parts, columns=2)


def circle(axis: Axes, runs: xr.Dataset) -> None:
    """The first seed's embedding on its first two principal axes, token by token."""
    table = runs.parameter.isel(width=-1, seed=0, step=-1)
    flat, _ = spectra.principal_components(table.values, 2)
    flat = np.asarray(flat)
    axis.plot(*flat.T, "-", color="0.8", lw=0.4)
    for token, place in enumerate(flat):
        axis.text(place[0], place[1], str(token), fontsize=4, color=plot.TEST)
    axis.set_xlabel("first principal axis")
    axis.set_ylabel("second")
