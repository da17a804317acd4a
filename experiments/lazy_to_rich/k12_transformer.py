"""K12 (Kumar et al. 2024, Fig. 13c and Sec. 14): the transformer and its linearisation.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_transformer.py \
        --workdir=runs/k12_transformer

The transformer of `k7_transformer.py` beside its linearisation at step 0, trained by
the same AdamW with weight decay. `paper` has the paper's modulus and share of the
pairs. Seeds from 100 on, because seeds 0-2 were seen when the claims were chosen.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    along,
    every,
    late,
    presets,
    relative,
    share,
    sheet,
    tested,
    typical,
)

get_config = presets(
    dict(
        name="K12 transformer",
        description="modular addition beside the linearised network",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98, weight_decay=1.0),
        observe=dict(norms={}),
        train=dict(steps=8000, records=100),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        sweep=dict(linearized=(False, True), seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=40, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(modulus=113, train_fraction=0.3),
        train=dict(steps=20_000),
        sweep=dict(seed=tuple(range(100, 105))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    net, linear = results.sel(linearized=False), results.sel(linearized=True)
    losses = share(results, "train_loss", "test_loss")
    losses = losses[["train_loss", "test_loss"]]
    gap = abs(losses.sel(linearized=False) - losses.sel(linearized=True))
    gap = gap.to_array().max("variable")
    parting = along("step", measures.first_step_reaching, gap, threshold=0.1)
    return [
        tested(
            "K12t1",
            "Sec. 14, Fig. 13c",
            "trained with AdamW the transformer groks",
            typical("t_test / t_train", late(net.t_test) / net.t_train, ">=", 5),
            typical("t_test", late(net.t_test), "<", float("inf")),
        ),
        tested(
            "K12t3",
            "Sec. 14, Fig. 13c",
            "due to weight decay its loss deviates quickly from that of the "
            "linearisation, in spite of the grokking",
            typical("parting / t_train", relative(parting, net.t_train), "<", 1),
            less="that weight decay is the cause; they part where a loss differs by "
            "10% of its start, and quickly is before the train pairs are fitted",
        ),
        tested(
            "K12t4",
            OURS,
            "the linearised network does not generalise",
            every("best test accuracy", linear.test_accuracy.max("step"), "<", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    accuracies = partial(plot.family, over="linearized", symbol="linearised")
    losses = partial(accuracies, kind="loss", log=True)
    early = results.sel(step=slice(0, 300))
    return sheet(
        ("", losses, results),
        ("the first steps", partial(accuracies, kind="loss"), early),
        ("", accuracies, results),
    )
