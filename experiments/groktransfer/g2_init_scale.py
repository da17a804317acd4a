"""G2 (Xu et al. 2025, Sec. 2.1): grokking at every initialisation scale.

    python -m grok_jax.launch --config=experiments/groktransfer/g2_init_scale.py \
        --workdir=runs/g2_init_scale

Tuning the initialisation scale does not take grokking away, the paper says: the FNN of
`g2_embeddings.py` on one-hot a and b, at its learning rate and decay, over the range of
scales of App. A.3.1. Its own scale, 0.2, is an arm of that page. One-hot rows are given
as tokens here, which is the same network. `cpu` has the paper's sizes and three seeds
at four of its scales.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, presets, relative, sheet, shown, tested, typically

get_config = presets(
    dict(
        name="G2 initialisation",
        description="one-hot embeddings over the initialisation scale",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", embedding=0),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=0.01, weight_decay=5.0),
        train=dict(steps=1500, records=120),
        grok=dict(kind="accuracy", train=0.95, test=0.9),
        stop=dict(metric="test_accuracy", threshold=0.9, above=True, patience=0.1),
        sweep=dict(init_scale=(0.1, 0.4, 0.8, 1.5), seed=(200, 201, 202)),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(width=8),
        train=dict(steps=20, records=10),
        sweep=dict(init_scale=(0.1, 1.5), seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000, records=400),
        sweep=dict(
            init_scale=tuple(i / 10 for i in range(1, 16)), seed=(100, 101, 102)
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = relative(results.t_test, results.t_train)
    return [
        tested(
            "G2f",
            "Sec. 2.1",
            "grokking persists at every initialisation scale (never is late)",
            typically(every, "t_test / t_train", ratio, ">=", 5),
            shown("best test accuracy", results.test_accuracy.max("step")),
        )
    ]


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="init_scale", symbol="scale", each=True)
    times_ = partial(plot.times, over="init_scale")
    return sheet(("one-hot", family, results), ("", times_, results))
