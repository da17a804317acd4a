"""O8 (Liu et al. 2023, Fig. 9): L and U of the transformer, and a critical fraction.

    python -m grok_jax.launch --config=experiments/omnigrok/o8_landscape.py \
        --workdir=runs/o8_landscape

The transformer of `o6_transformer.py` trained by Adam at 1e-3 on the sphere of norm
alpha times that of its initialisation, on several fractions of the pairs; the reduced
loss is the least along the run.

`cpu`: addition modulo 43 (the paper: 113); 6 norms within a factor 3 of the initial one
(the paper: 10), 3 seeds, 2,000 steps (10,000), in which Adam at this rate does not fit
on larger spheres; about seven minutes on two cores.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O8 landscape",
        description="modular addition: reduced loss against norm and fraction",
        task=dict(name="modular_tokens", modulus=43),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98, norm="fixed"),
        train=dict(steps=2000, records=30),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        sweep=dict(
            init_scale=(0.3, 0.5, 0.8, 1.3, 2.0, 3.0),
            train_fraction=(0.1, 0.2, 0.3, 0.5, 0.8),
            seed=(0, 1, 2),
        ),
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=20, records=5),
        sweep=dict(
            init_scale=logspace(0.1, 10, 3), train_fraction=(0.2, 0.8), seed=(0, 1)
        ),
    )
    paper = dict(
        task=dict(modulus=113),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            train_fraction=(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run, and the best test accuracy."""
    least = results[["train_loss", "test_loss"]].min("step")
    return least.assign(test_accuracy=results.test_accuracy.max("step")).transpose(
        "train_fraction", "init_scale", "seed"
    )


def claims(results: xr.Dataset) -> list[Claim]:
    best, fractions = reduced(results), results.train_fraction.values
    middle = best.median("seed")
    some = len(fractions) // 2 + 1 if len(fractions) > 3 else len(fractions) - 1
    test, train = (middle[n].values[some] for n in ("test_loss", "train_loss"))
    ends = test[[0, -1]] / test.min()
    reached = best.test_accuracy.max("init_scale").values  # [fraction, seed]
    return [
        Claim(
            "O8a",
            "9",
            f"at a fraction of {fractions[some]:g} the test loss is a U over the norm",
            "both ends >= 2x the minimum (median over seeds)",
            {"ends / minimum": ends},
            bool((ends >= 2).all()),
        ),
        Claim(
            "O8b",
            "9",
            "and the train loss an L",
            "at the largest norm <= 1% of that at the smallest (median over seeds)",
            {"left": train[0], "right": train[-1]},
            bool(train[-1] <= 0.01 * train[0]),
        ),
        Claim(
            "O8c",
            "9",
            "below a critical fraction it does not generalise at any norm",
            "best test accuracy < 50% at the smallest fraction, > 95% at the largest, "
            "every seed",
            {f"fraction {f:g}": r for f, r in zip(fractions, reached, strict=True)},
            bool((reached[0] < 0.5).all() and (reached[-1] > 0.95).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    best, fractions = reduced(results), results.train_fraction.values
    drawing, axes = plot.panels(1, len(fractions) + 1, 3.0, 2.9)
    for axis, fraction in zip(axes[0], fractions, strict=False):
        plot.landscape(axis, best.sel(train_fraction=fraction))
        axis.set_title(f"{fraction:.0%} of the pairs")
    last = axes[0, -1]
    for alpha, color in zip(
        best.init_scale.values, plot.family_colors(len(best.init_scale)), strict=True
    ):
        accuracy = best.test_accuracy.sel(init_scale=alpha).median("seed")
        last.plot(fractions, accuracy, "o-", ms=3, color=color, label=f"α = {alpha:g}")
    last.set_xlabel("train fraction")
    last.set_ylabel("best test accuracy")
    last.legend(fontsize=6)
    return drawing
