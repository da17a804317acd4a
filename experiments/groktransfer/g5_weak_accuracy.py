"""G5 (Xu et al. 2025, Fig. 7): the better the weak network, the better its heir.

    python -m grok_jax.launch --config=experiments/groktransfer/g5_weak_accuracy.py \
        --workdir=runs/g5_weak_accuracy

The target of `g1_modular.py` on addition, with the embedding of a weak network that was
stopped after 100 to 2,000 steps, from before it generalises until after. Time gap:
steps between 95% train and 95% test accuracy; 1 / gap is 0 where the target fitted and
never generalised, and infinite where it generalised with the fit.

`cpu`: the paper's sizes and steps of the weak network, 3 seeds, 600 steps of the
target; about six minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

WEAK_STEPS = (100, 500, 800, 900, 1000, 1100, 1500, 2000)
GROKKED, IGNORANT = 0.9, 0.5


def get_config(preset: str = "cpu"):
    base = dict(
        name="G5 weak accuracy",
        description="weak networks stopped early, and what their heirs reach",
        task=dict(
            name="modular_tokens", modulus=113, train_fraction=0.25, equals=False
        ),
        model=dict(name="fnn", init_scale=0.3),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0),
        transfer=dict(
            model=dict(embedding=4, width=16, layers=2, init_scale=0.15),
            optimizer=dict(learning_rate=0.01, weight_decay=0.3),
        ),
        train=dict(steps=600, records=60, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep={"transfer.steps": WEAK_STEPS, "seed": (0, 1, 2)},
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        train=dict(steps=20, records=5),
        sweep={"transfer.steps": (5, 20), "seed": (0, 1)},
    )
    paper = dict(
        train=dict(steps=5000, records=500),
        sweep=dict(seed=tuple(range(10))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reached(results: xr.Dataset) -> dict[str, np.ndarray]:
    """[steps of the weak network, seed]: its test accuracy, that of the target at the
    end, and 1 / gap of the target."""
    runs = results.transpose("steps", "seed", "step")
    gap = np.asarray(measures.delay(runs.t_train.values, runs.t_test.values))
    gap = np.maximum(np.nan_to_num(gap, nan=np.inf, posinf=np.inf), 0)
    with np.errstate(divide="ignore"):
        inverse = 1 / gap
    return {
        "weak": runs.weak_test_accuracy.isel(step=0).values,
        "target": np.asarray(measures.last_recorded(runs.test_accuracy.values)),
        "1 / gap": inverse,
    }


def claims(results: xr.Dataset) -> list[Claim]:
    found = reached(results)
    weak, inverse = found["weak"], found["1 / gap"]
    ranks = {
        name: float(measures.spearman(weak, found[name]))
        for name in ("target", "1 / gap")
    }
    median = {name: np.median(found[name], axis=1) for name in ("weak", "target")}
    good, bad = inverse[weak >= GROKKED], inverse[weak < IGNORANT]
    middle = float(np.median(good)) if good.size else np.nan
    most = float(bad.max()) if bad.size else np.nan
    return [
        Claim(
            "G5a",
            "7",
            "the target's accuracy rises with the weak network's",
            "rank correlation of the two test accuracies over all runs > 0.5",
            {
                "rank correlation": ranks["target"],
                "weak, median over seeds": median["weak"],
                "target": median["target"],
            },
            bool(ranks["target"] > 0.5),
        ),
        Claim(
            "G5b",
            "7",
            "and its time gap shrinks",
            "rank correlation of 1 / gap with the weak test accuracy > 0.5",
            ranks["1 / gap"],
            bool(ranks["1 / gap"] > 0.5),
        ),
        Claim(
            "G5c",
            "7",
            "a grokked weak network is needed",
            f"largest 1 / gap after weak networks below {IGNORANT:.0%} less than half "
            f"the median after those of {GROKKED:.0%} and more",
            {
                "median after the grokked": middle,
                "largest after the others": most,
                "how many": [good.size, bad.size],
            },
            bool(most < middle / 2),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    found = reached(results)
    drawing, axes = plot.panels(1, 3, 3.8, 3.0)
    steps = results.steps.values
    colors = plot.family_colors(len(steps))
    for count, color in zip(steps, colors, strict=True):
        run = results.sel(steps=count)
        plot.curves(axes[0, 0], run, "test_accuracy", color=color, label=f"{count:,}")
    axes[0, 0].set_xlabel("step of the target")
    axes[0, 0].set_ylabel("test accuracy")
    axes[0, 0].legend(fontsize=6, title="weak steps", title_fontsize=6)
    against_weak(axes[0, 1], found["weak"], found["target"], colors)
    axes[0, 1].set_ylabel("target's test accuracy at the end")
    inverse = found["1 / gap"]
    top = inverse[np.isfinite(inverse)].max(initial=0)
    shown = np.where(np.isinf(inverse), 1.1 * top, inverse)
    against_weak(axes[0, 2], found["weak"], shown, colors)
    axes[0, 2].set_ylabel("1 / time gap (no gap: on top)")
    return drawing


def against_weak(axis: Axes, weak: np.ndarray, values: np.ndarray, colors: list):
    """A dot for each run; a colour for each number of the weak network's steps."""
    for x, y, color in zip(weak, values, colors, strict=True):
        axis.plot(x, y, "o", ms=4, color=color)
    axis.set_xlabel("weak network's test accuracy")
