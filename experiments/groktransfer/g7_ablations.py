"""G7 (Xu et al. 2025, Fig. 15): which parts of GrokTransfer are needed.

    python -m grok_jax.launch --config=experiments/groktransfer/g7_ablations.py \
        --workdir=runs/g7_ablations

The target network of `g1_modular.py` on addition: from scratch; with the embedding A B
of GrokTransfer; with A and B both random (Fig. 15a); with A B merged into one table
during training (15b); and with a weak network's embedding as wide as the target
network's (15c). The weak network is the best of eight on the train set, as there, but
there is one wide one, with an initialisation and a weight decay of its own. Sizes are
the paper's, and a run goes on until well after the merge. Time gap: steps between 95%
train and 95% test accuracy.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import delay, every, panels, presets, sheet, shown, tested, times

MERGE_AT = 100
MERGED, WIDE = f"merged at step {MERGE_AT}", "d_W = d_T"

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
        train=dict(steps=1500, records=300, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=4.0),
        arms={
            "scratch": dict(
                optimizer=dict(learning_rate=5e-3, weight_decay=3.0), transfer=None
            ),
            "GrokTransfer": {},
            "random A B": dict(transfer=dict(source="random")),
            MERGED: dict(transfer=dict(merge_at=MERGE_AT)),
            WIDE: dict(
                transfer=dict(
                    model=dict(embedding=128, width=128, init_scale=0.3),
                    optimizer=dict(weight_decay=3.0),
                    candidates=1,
                )
            ),
        },
        sweep=dict(seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        train=dict(steps=10, records=5),
        transfer=dict(steps=10),
        arms={
            MERGED: dict(transfer=dict(merge_at=5)),
            WIDE: dict(transfer=dict(model=dict(embedding=8, width=8))),
        },
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000, records=2000), sweep=dict(seed=tuple(range(5)))
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = delay(results)
    scratch, random = gap.sel(arm="scratch"), gap.sel(arm="random A B")
    # one that never generalises is not shortened, whatever it is compared with
    ratio = (random / scratch).where(np.isfinite(random), np.inf)
    merged = results.test_accuracy.sel(arm=MERGED).where(results.step > MERGE_AT)
    some = every("that from scratch", scratch, ">", 0)

    def kept(id: str, place: str, statement: str, arm: str) -> Claim:
        own = gap.sel(arm=arm).clip(min=0)
        weak = results.weak_test_accuracy.sel(arm=arm).isel(step=0)
        return tested(
            *(id, place, statement),
            every("time gap", own, "<=", times(0.1, "that from scratch", scratch)),
            some,
            shown("with GrokTransfer", gap.sel(arm="GrokTransfer")),
            shown("weak network's test accuracy", weak),
        )

    return [
        tested(
            "G7a",
            "Fig. 15a",
            "A and B both random do not help",
            every("time gap / that from scratch", ratio, ">", 0.5),
            some,
            shown("with A and B random", random),
        ),
        kept("G7b", "Fig. 15b", "merging A B keeps the gain", MERGED),
        tested(
            "G7b2",
            "Fig. 15b",
            "and what was learned stays after the merge",
            every("least test accuracy", merged.min("step"), ">=", 0.95),
        ),
        kept(
            "G7c",
            "Fig. 15c",
            "so does a weak embedding of the target network's width",
            WIDE,
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    accuracies = panels(results, "arm", "{}", plot.accuracies)
    return sheet(*accuracies, ("", gaps, results), columns=3)


def gaps(axis: Axes, runs: xr.Dataset) -> None:
    plot.censored(axis, delay(runs), runs.step.values[-1], label="time gap")
