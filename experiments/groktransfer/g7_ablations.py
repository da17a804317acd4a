"""G7 (Xu et al. 2025, Fig. 15): which parts of GrokTransfer are needed.

    python -m grok_jax.launch --config=experiments/groktransfer/g7_ablations.py \
        --workdir=runs/g7_ablations

The target network of `g1_modular.py` on addition: from scratch; with the embedding A B
of GrokTransfer; with A and B both random (Fig. 15a), at the setting of the run from
scratch, as at GrokTransfer's own no run from scratch generalises either; with A B
merged into one table, at step 100 (15b) and at step 20, when the network has not yet
generalised; and with a weak network of width 16 whose embedding is as wide as that of
the target network (15c). Weak networks are the best on the train set of eight; the wide
one has an initialisation and a decay of its own (`search_weak.py`). Time
gap: steps between 95% train and 95% test accuracy.

The captions say what was run and not what follows, so that the claims are ours. `cpu`
has the paper's sizes; a run ends when its test accuracy has been 0.99 for four times
as long again. The seeds are new (100 to 102 were seen when both merges were judged).
"""

from functools import partial

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    delay,
    last,
    late,
    operations,
    presets,
    relative,
    sheet,
    shown,
    tested,
    typical,
)

EARLY = "merged at step 20"
MERGED = {"merged at step 100": 100, EARLY: 20}
"""arm -> the step at which its A and B become one table; at 100 a network that
generalises at once has done so, and its gap is that of GrokTransfer"""
WIDE = "d_W = d_T"
SCRATCH = dict(learning_rate=5e-3, weight_decay=3.0)

get_config = presets(
    dict(
        name="G7 ablations",
        description="random, merged and wide embeddings",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", init_scale=0.3),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0),
        transfer=dict(
            model=dict(embedding=4, width=16, layers=2, init_scale=0.15),
            optimizer=dict(learning_rate=0.01, weight_decay=0.3),
            candidates=8,
            steps=2000,
        ),
        train=dict(steps=1500, records=200, count_flops=True),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=4.0),
        arms={
            "scratch": dict(optimizer=SCRATCH, transfer=None),
            "GrokTransfer": {},
            "random A B": dict(optimizer=SCRATCH, transfer=dict(source="random")),
            **{name: dict(transfer=dict(merge_at=at)) for name, at in MERGED.items()},
            WIDE: dict(
                transfer=dict(
                    model=dict(embedding=128, init_scale=0.3),
                    optimizer=dict(weight_decay=3.0),
                )
            ),
        },
        sweep=dict(seed=(200, 201, 202)),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        train=dict(steps=10, records=5),
        transfer=dict(steps=10, candidates=2),
        arms={
            **{name: dict(transfer=dict(merge_at=5)) for name in MERGED},
            WIDE: dict(transfer=dict(model=dict(embedding=8))),
        },
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000, records=400),
        transfer=dict(candidates=1, steps=10_000),
        sweep=dict(seed=tuple(range(100, 105))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = late(delay(results))
    scratch, random = gap.sel(arm="scratch"), gap.sel(arm="random A B")
    some = typical("gap from scratch", scratch, ">", 0)
    cost = operations(results, results.t_test) / 1e12

    def kept(id: str, statement: str, arm: str) -> Claim:
        own = gap.sel(arm=arm).clip(min=0)
        weak = results.weak_test_accuracy.sel(arm=arm).isel(step=0)
        return tested(
            *(id, OURS, statement),
            typical("gap / that from scratch", relative(own, scratch), "<=", 0.1),
            some,
            shown("with GrokTransfer", gap.sel(arm="GrokTransfer")),
            shown("weak network's test accuracy", weak),
            shown("TFLOP until t_test, weak networks included", cost.sel(arm=arm)),
        )

    return [
        tested(
            "G7a",
            OURS,
            "A and B both random do not help (Fig. 15a)",
            typical("gap / that from scratch", relative(random, scratch), ">", 0.5),
            some,
            shown("train accuracy", last(results.train_accuracy.sel(arm="random A B"))),
        ),
        kept("G7b3", f"A B {EARLY} keep the gain (Fig. 15b)", EARLY),
        tested(
            "G7b2",
            OURS,
            "and what was learned stays after the merge",
            *(
                typical(f"least accuracy, {name}", stays(results, name, at), ">=", 0.95)
                for name, at in MERGED.items()
            ),
        ),
        kept(
            "G7c",
            "so does a weak embedding of the target network's width (Fig. 15c)",
            WIDE,
        ),
    ]


def stays(results: xr.Dataset, arm: str, merged_at: int) -> xr.DataArray:
    """The least test accuracy after the merge and after t_test; 0 if never."""
    run = results.sel(arm=arm)
    since = (run.step > merged_at) & (run.step >= run.t_test)
    return run.test_accuracy.where(since).min("step").fillna(0)


def figure(results: xr.Dataset) -> Figure:
    family = partial(plot.family, over="arm", each=True)
    parts = {
        "15a": ["scratch", "random A B"],
        "15b": ["GrokTransfer", *MERGED],
        "15c": ["GrokTransfer", WIDE],
    }
    overlays = ((name, family, results.sel(arm=arms)) for name, arms in parts.items())
    return sheet(*overlays, ("", gaps, results), columns=2)


def gaps(axis: Axes, runs: xr.Dataset) -> None:
    plot.censored(axis, delay(runs), runs.step.values[-1], label="time gap")
