"""G6 (Xu et al. 2025, Figs. 8, 13, 15a and 16, Table 1): into a transformer.

    python -m grok_jax.launch --config=experiments/groktransfer/g6_transformer.py \
        --workdir=runs/g6_transformer

A transformer on the tokens (a, b) of modular addition: from scratch; with the embedding
of a two-layer FNN that was stopped at 30% test accuracy (Sec. 4.2); with that of an FNN
that has learned the rule, the best of eight on the train set; with GrokFast's amplified
slow gradient (EMA, decay 0.98, strength 2, as in Lee et al. 2024); and with A and B
both random. Time gap: steps between 95% train and 95% test accuracy.

`cpu` has the two-layer network of Fig. 8b, with the LayerNorm of Lee et al.'s, "the
model used" there: without it GrokFast's setting (0.01, 1.0) takes the network to zero.
The paper has no run from scratch at this size; it has the setting of Fig. 8a. `fig8a`
has the eight layers of Fig. 8a, without LayerNorm (App. A.3.3 follows Nanda et al.),
for an accelerator, and `fig13` the same on multiplication; `multiplication` is Fig. 16
(46 minutes on two cores).

The paper contradicts itself on the MLP, 512 (Sec. 4.2) or 128 (App. A.3.3, taken here),
and on the weak network: that of Fig. 6 (Sec. 4.2), of two layers and width 4 (App.
A.3.3), or of three layers (caption of Fig. 8). Width 16 is taken: one of width 4 does
not reach 30% here (`g1_weak.py`). The one that is moved is the best on the train set of
four that stop at 30%; all count. Weights are drawn as in Nanda et al., times the scale,
where App. A.3.3 says PyTorch's default.

Once the train set is fitted, the accuracies of most arms spike, from scratch too; why
is not told apart. Steps to 95% are those of the first record there, which a later spike
may lose again.
"""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    delay,
    late,
    operations,
    panels,
    presets,
    relative,
    sheet,
    shown,
    tested,
    typical,
)

SOLVED = "solved weak network"


def weak(**more: Any) -> dict[str, Any]:
    return dict(
        model=dict(embedding=4, width=16, layers=2, init_scale=0.15),
        optimizer=dict(learning_rate=0.01, weight_decay=0.3),
        **more,
    )


STOPPED = weak(accuracy=0.3, candidates=4, steps=4000, every=1)
PRODUCTS = dict(
    model=dict(init_scale=0.4), optimizer=dict(learning_rate=0.05, weight_decay=0.2)
)
"""What weak networks have on multiplication (`g1_weak.py`)."""


def arm(scale: float, rate: float, decay: float, **more: Any) -> dict[str, Any]:
    return dict(
        model=dict(init_scale=scale),
        optimizer=dict(learning_rate=rate, weight_decay=decay),
        **more,
    )


FIG8A: dict[str, Any] = dict(
    model=dict(layers=8, width=512, head_width=128, mlp_width=512, layer_norm=False),
    train=dict(steps=20_000, records=200),
    arms={
        "GrokTransfer": arm(0.7, 1e-3, 1.0),
        SOLVED: arm(0.7, 1e-3, 1.0),
        "GrokFast": None,
        "random A B": None,
    },
)

get_config = presets(
    dict(
        name="G6 transformer",
        description="a small FNN's embedding in a transformer",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="transformer", layers=2, mlp_width=128, layer_norm=True),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=6000, records=200, count_flops=True),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.2),
        arms={
            "scratch": arm(0.4, 5e-4, 1.0),
            "GrokTransfer": arm(0.6, 5e-3, 0.1, transfer=STOPPED),
            SOLVED: arm(0.6, 5e-3, 0.1, transfer=weak(candidates=8, steps=2000)),
            "GrokFast": arm(1.0, 1e-2, 1.0, gradient=dict(grokfast_ema={})),
            "random A B": {
                **arm(0.6, 5e-3, 0.1, transfer=weak(source="random")),
                "train": dict(steps=1300),
            },
        },
        sweep=dict(seed=(200, 201, 202)),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(layers=1, width=8, heads=2, head_width=4, mlp_width=8),
        arms={
            "GrokTransfer": dict(transfer=dict(candidates=2, steps=20)),
            SOLVED: None,
            "random A B": dict(train=dict(steps=20)),
        },
        train=dict(steps=20, records=5),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000, records=400),
        arms={
            "GrokTransfer": dict(transfer=dict(candidates=1)),
            SOLVED: dict(transfer=dict(candidates=1)),
            "random A B": dict(train=dict(steps=10_000)),
        },
        sweep=dict(seed=tuple(range(100, 105))),
    ),
    multiplication=dict(
        task=dict(operation="multiplication"),
        arms={"GrokTransfer": dict(transfer=PRODUCTS), SOLVED: dict(transfer=PRODUCTS)},
    ),
    fig8a=FIG8A,
    fig13={
        **FIG8A,
        "task": dict(operation="multiplication"),
        "arms": {
            **FIG8A["arms"],
            "GrokTransfer": arm(0.7, 1e-3, 1.0, transfer=PRODUCTS),
            SOLVED: arm(0.7, 1e-3, 1.0, transfer=PRODUCTS),
        },
    },
)


def claims(results: xr.Dataset) -> list[Claim]:
    runs = results.assign(late=late(results.t_test), gap=late(delay(results)))
    arms = {str(name): runs.sel(arm=name) for name in runs.arm.values}
    scratch, moved = arms["scratch"], arms["GrokTransfer"]
    others = [
        shown(f"t_test, {name}", each.late)
        for name, each in arms.items()
        if name not in ("scratch", "GrokTransfer")
    ]
    cost = operations(moved, moved.t_test)
    horizon = scratch.step.where(scratch.train_loss.notnull()).max("step")
    spent = operations(scratch, scratch.t_test.fillna(horizon))
    own = moved.weak_flops_per_step * moved.weak_steps_taken.isel(step=0)
    place = "Sec. 4.2, Fig. 8a (13 on multiplication)"
    less = "there it has eight layers"
    out = [
        tested(
            "G6a",
            place,
            "GrokTransfer generalises much faster than training from scratch",
            typical("t_test / scratch", relative(moved.late, scratch.late), "<=", 0.5),
            shown("t_test", moved.late),
            shown("t_test, scratch", scratch.late),
            shown("weak networks' steps", moved.weak_steps_taken.isel(step=0)),
            shown("their test accuracy", moved.weak_test_accuracy.isel(step=0)),
            *others,
            less=f"half of the steps, for a tenth of the epochs; {less}",
        ),
        tested(
            "G6b",
            "Sec. 4.2, Table 1",
            "in all it is about five times cheaper, the weak networks included (from "
            "scratch: all steps where it never came)",
            typical("operations / scratch", relative(cost, spent), "<", 1 / 3),
            less=f"three times cheaper, in operations and not in seconds; {less}",
        ),
        tested(
            "G6b2",
            "Sec. 4.2, Table 1",
            "the cost of the weak network is negligible",
            typical("share of all operations", late(own / cost), "<=", 0.1),
            less=f"a tenth, for 4%; {less}",
        ),
    ]
    if "GrokFast" in arms:
        fast = arms["GrokFast"]
        out.append(
            tested(
                "G6c",
                "Sec. 4.2, Fig. 8b (16 on multiplication)",
                "its time gap is far below GrokFast's (46 and 1,119)",
                typical("gap of GrokFast", fast.gap, "<", np.inf),
                typical("gap / GrokFast's", relative(moved.gap, fast.gap), "<=", 0.2),
                shown("gap", moved.gap),
                shown("gap from scratch", scratch.gap),
            )
        )
    if {"random A B", SOLVED} <= set(arms):
        random, learned = arms["random A B"], arms[SOLVED]
        out.append(
            tested(
                "G6d",
                OURS,
                "it takes what the FNN has learned: random A and B take more than "
                "twice as long as a solved network's, if they come at all (15a)",
                typical(
                    "t_test, A and B random / learned",
                    relative(random.late, learned.late),
                    ">",
                    2,
                ),
            )
        )
    return out


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="arm", each=True)
    pairs = (
        ("Figs. 8a, 13", ["scratch", "GrokTransfer"]),
        ("Figs. 8b, 16", ["GrokTransfer", "GrokFast"]),
    )
    overlays = [
        (title, family, results.sel(arm=arms))
        for title, arms in pairs
        if set(arms) <= set(results.arm.values)
    ]
    each = panels(results, "arm", "{}", partial(plot.accuracies, each=True))
    return sheet(*overlays, *each)
