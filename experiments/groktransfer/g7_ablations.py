"""G7 (Xu et al. 2025, Fig. 15): what of GrokTransfer it takes.

    python -m grok_jax.launch --config=experiments/groktransfer/g7_ablations.py \
        --workdir=runs/g7_ablations

The target of `g1_modular.py` on addition: from scratch; with the embedding A B of
GrokTransfer; with A and B both random (Fig. 15a); with A B merged into one table at
step 100 (15b); and with a weak network's embedding as wide as the target's (15c). All
but the network from scratch have the same rate and decay. The weak network is the best
of eight on the train set, as there; the wide one, of width 128 too and with settings
of its own, is one. Time gap: steps between 95% train and 95% test accuracy.

`cpu`: the paper's sizes, 3 seeds, 1,500 steps; a run ends when its test accuracy has
been 0.99 for four times as long as it took to get there, which is after the merge.
About nine minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

MERGE_AT = 100
ARMS = (
    "scratch",
    "GrokTransfer",
    "random A B",
    f"merged at step {MERGE_AT}",
    "d_W = d_T",
)


def arms(wide: int = 128, merge_at: int = MERGE_AT, steps: int = 2000) -> dict:
    """The arms, in the order of ARMS."""

    def weak(
        width: int = 16, embedding: int = 4, scale: float = 0.15, decay: float = 0.3
    ) -> dict:
        return dict(
            model=dict(embedding=embedding, width=width, layers=2, init_scale=scale),
            optimizer=dict(learning_rate=0.01, weight_decay=decay),
            steps=steps,
        )

    target = dict(optimizer=dict(learning_rate=1e-3, weight_decay=1.0))
    best = dict(weak(), candidates=8)
    scratch, *others = ARMS
    forms = (
        best,
        dict(best, source="random"),
        dict(best, merge_at=merge_at),
        weak(wide, wide, 0.3, 3.0),
    )
    return {
        scratch: dict(optimizer=dict(learning_rate=5e-3, weight_decay=3.0)),
        **{
            arm: dict(target, transfer=form)
            for arm, form in zip(others, forms, strict=True)
        },
    }


def get_config(preset: str = "cpu"):
    base = dict(
        name="G7 ablations",
        description="random, merged and wide embeddings",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", init_scale=0.3),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=1500, records=300, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=4.0),
        arms=arms(),
        sweep=dict(seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        train=dict(steps=10, records=5),
        arms=arms(8, 5, steps=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        train=dict(steps=10_000, records=2000),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    runs = results.transpose("arm", "seed", "step")
    gap = np.asarray(measures.delay(runs.t_train.values, runs.t_test.values))
    scratch, moved, random, merged, wide = range(len(ARMS))
    weak = runs.weak_test_accuracy.isel(step=0).values
    after = runs.isel(arm=merged, step=runs.step.values > MERGE_AT)
    kept = after.test_accuracy.min("step").fillna(0).values

    def gain_kept(note: str, number: str, arm: int, statement: str) -> Claim:
        return Claim(
            f"G7{note}",
            number,
            statement,
            "time gap at most 1/10 of that from scratch (never is the longest, none is "
            "0), every seed",
            {
                **{ARMS[i]: gap[i] for i in (scratch, moved, arm)},
                "weak network's accuracy": weak[arm],
            },
            bool(measures.shortened(gap[arm], gap[scratch], 10).all()),
        )

    return [
        Claim(
            "G7a",
            "15a",
            "A and B both random do not help",
            "time gap above half of that from scratch (never is the longest), every "
            "seed",
            {ARMS[i]: gap[i] for i in (scratch, random)},
            bool(
                (gap[scratch] > 0).all()
                and not measures.shortened(gap[random], gap[scratch], 2).any()
            ),
        ),
        gain_kept("b", "15b", merged, "merging A B at step 100 keeps the gain"),
        Claim(
            "G7b2",
            "15b",
            "and what was learned stays through the merge",
            "test accuracy >= 95% at every record after the merge, every seed",
            kept,
            bool((kept >= 0.95).all()),
        ),
        gain_kept("c", "15c", wide, "so does a weak embedding of the target's width"),
    ]


def figure(results: xr.Dataset) -> Figure:
    runs = results.transpose("arm", "seed", "step")
    drawing, axes = plot.panels(2, 3, 3.6, 2.9)
    for i, (axis, arm) in enumerate(zip(axes.ravel(), ARMS, strict=False)):
        plot.accuracies(axis, runs.isel(arm=i))
        axis.set_title(arm)
    gaps(axes[1, 2], runs)
    return drawing


def gaps(axis: Axes, runs: xr.Dataset) -> None:
    """The time gap of every run; an open triangle at the last step where it fitted and
    never generalised."""
    last = float(runs.step.values[-1])
    gap = np.asarray(measures.delay(runs.t_train.values, runs.t_test.values))
    for i, values in enumerate(gap):
        done, late = values[np.isfinite(values)], int(np.isinf(values).sum())
        axis.plot(done, [i] * len(done), "o", ms=4, color=plot.TEST)
        axis.plot([last] * late, [i] * late, "^", ms=6, mfc="none", color=plot.TEST)
    axis.set_yticks(range(len(ARMS)), ARMS, fontsize=7)
    axis.set_xlabel("time gap")
    axis.invert_yaxis()
