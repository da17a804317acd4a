"""K12 (Kumar et al. 2024, Fig. 13 and Sec. 14): the transformer and its linearisation.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k12_transformer.py \
        --workdir=runs/k12_transformer

The transformer of `k7_transformer.py` beside its linearisation at step 0, trained by
the same AdamW: where the two curves agree the network is lazy, and what the
linearisation never learns has needed features. `paper` has the paper's modulus and
share of the pairs.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, presets, rise, sheet, tested, times

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
        sweep=dict(linearized=(False, True), seed=(0, 1, 2)),
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
        sweep=dict(seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    net, linear = results.sel(linearized=False), results.sel(linearized=True)
    start = net.train_loss.isel(step=0)
    gap = abs(net.train_loss - linear.train_loss) / start
    early = gap.where(net.train_loss > 0.9 * start, 0).max("step", skipna=False)
    return [
        tested(
            "K12t1",
            "Fig. 13",
            "the transformer fits early and generalises late",
            every("t_test", net.t_test, ">=", times(5, "t_train", net.t_train)),
        ),
        tested(
            "K12t2",
            "Fig. 13",
            "its test loss has a bump",
            every("peak / start", rise(net.test_loss), ">", 1.02),
        ),
        tested(
            "K12t3",
            "Fig. 13",
            "the linearised network does the same until the train loss has lost 10%",
            every("gap of the train losses until then / start", early, "<", 0.05),
        ),
        tested(
            "K12t4",
            "Fig. 13",
            "the linearised network does not generalise",
            every("best test accuracy", linear.test_accuracy.max("step"), "<", 0.5),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    accuracies = partial(plot.family, over="linearized", symbol="linearised")
    losses = partial(accuracies, kind="loss", log=True)
    return sheet(("", accuracies, results), ("", losses, results))
