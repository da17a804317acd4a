"""G0 (Xu et al. 2025, App. A): a search for the settings of a weak network.

    python -m grok_jax.launch --config=experiments/groktransfer/search_weak.py \
        --workdir=runs/search_weak

The paper gives neither initialisation nor learning rate nor decay of its weak networks,
and the repository that App. A.3 names has no code. What decides is named first: the
share of seeds that reach 90% test accuracy, then the median step at which they do.
Initialisation x rate x decay of a two-layer FNN of width 16 on modular addition, with
an embedding of 4 (Fig. 6, and every page that transfers one) and of 128 (Fig. 15c,
`g7_ablations.py`).

The settings used were chosen on other seeds, before; those of multiplication, found in
the same way, are not searched here. Few of these networks generalise at any setting (19
of 216 runs), which is why pages that transfer an embedding take the best on the train
set of several. `cpu` has 36 settings and 5,000 steps, `paper` more of each.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import among_the_best, presets, sheet

NARROW = dict(init_scale=0.15, learning_rate=0.01, weight_decay=0.3)
WIDE = dict(init_scale=0.3, learning_rate=0.01, weight_decay=3.0)

get_config = presets(
    dict(
        name="G0 weak networks",
        description="a search for a weak network's settings",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", width=16, layers=2),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=5000, records=200, spacing="linear"),
        grok=dict(kind="accuracy", train=0.9, test=0.9),
        stop=dict(metric="test_accuracy", threshold=0.9, above=True),
        sweep={
            "model.embedding": (4, 128),
            "model.init_scale": (0.15, 0.3, 0.6),
            "optimizer.learning_rate": (0.005, 0.01, 0.03),
            "optimizer.weight_decay": (0.1, 0.3, 1.0, 3.0),
            "seed": (110, 111, 112),
        },
    ),
    smoke=dict(
        task=dict(modulus=7),
        train=dict(steps=20, records=5),
        sweep={"model.embedding": (4, 8), "seed": (0,)},
    ),
    paper=dict(
        train=dict(steps=10_000),
        sweep={
            "model.init_scale": (0.15, 0.3, 0.4, 0.6, 1.0),
            "optimizer.learning_rate": (0.005, 0.01, 0.02, 0.05),
            "optimizer.weight_decay": (0.1, 0.2, 0.3, 0.5, 1.0, 3.0),
        },
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    narrow, wide = (results.t_test.isel(embedding=place) for place in (0, -1))
    return [
        among_the_best("G0w", "a weak network's embedding of 4", narrow, NARROW),
        among_the_best("G0w2", "one of 128, as wide as the target's", wide, WIDE),
    ]


def figure(results: xr.Dataset) -> Figure:
    parts = (
        (f"embedding {width}, init scale {scale:g}", cells, runs)
        for width in results.embedding.values
        for scale in results.init_scale.values
        for runs in [results.sel(embedding=width, init_scale=scale)]
    )
    return sheet(*parts, columns=results.sizes["init_scale"])


def cells(axis: Axes, runs: xr.Dataset) -> None:
    came = np.isfinite(runs.t_test).sum("seed")
    seeds = runs.sizes["seed"]
    label = f"of {seeds} seeds"
    norm = Normalize(0, seeds)
    plot.cells(axis, came, "learning_rate", "weight_decay", label=label, norm=norm)
