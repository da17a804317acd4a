"""O8 (Liu et al. 2023, Fig. 9): L and U of the transformer, and a critical fraction.

    python -m grok_jax.launch --config=experiments/omnigrok/o8_landscape.py \
        --workdir=runs/o8_landscape

The transformer of `o6_transformer.py` trained by Adam on the sphere of norm alpha times
that of its initialisation, on several fractions of the pairs; the reduced loss is the
least along the run.

`cpu`: addition modulo 43 (the paper: 113), norms within a factor 3 of the initial one
(10) and 2,000 steps (10,000), in which Adam at this learning rate does not fit on
larger spheres.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import every, panels, presets, sheet, shown, tested, times

get_config = presets(
    dict(
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
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=20, records=5),
        sweep=dict(
            init_scale=logspace(0.1, 10, 3), train_fraction=(0.2, 0.8), seed=(0, 1)
        ),
    ),
    paper=dict(
        task=dict(modulus=113),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            train_fraction=(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8),
        ),
    ),
)


def reduced(results: xr.Dataset) -> xr.Dataset:
    """The least losses along each run, and its best test accuracy."""
    least = results[["train_loss", "test_loss"]].min("step")
    return least.assign(test_accuracy=results.test_accuracy.max("step"))


def claims(results: xr.Dataset) -> list[Claim]:
    best, fractions = reduced(results), results.train_fraction.values
    some = fractions[min(len(fractions) // 2 + 1, len(fractions) - 1)]
    middle = best.sel(train_fraction=some).median("seed")
    train, test = middle.train_loss, middle.test_loss
    ends = test.isel(init_scale=[0, -1]) / test.min(skipna=False)
    least = times(0.01, "that at the smallest", train.isel(init_scale=0))
    low = every("median at the largest norm", train.isel(init_scale=-1), "<=", least)
    reached = best.test_accuracy.max("init_scale")
    few, many = (reached.isel(train_fraction=end) for end in (0, -1))
    return [
        tested(
            "O8a",
            "Fig. 9",
            f"at a fraction of {some:g} the test loss is a U over the norm",
            every("median at the ends / minimum", ends, ">=", 2),
        ),
        tested("O8b", "Fig. 9", "and the train loss an L", low),
        tested(
            "O8c",
            "Fig. 9",
            "below a critical fraction it does not generalise at any norm",
            every("best test accuracy at the smallest fraction", few, "<", 0.5),
            every("at the largest", many, ">", 0.95),
            shown("best test accuracy", reached),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    best = reduced(results)
    fractions = panels(best, "train_fraction", "{:.0%} of the pairs", plot.landscape)
    return sheet(*fractions, ("", accuracies, best))


def accuracies(axis: Axes, best: xr.Dataset) -> None:
    """Best test accuracy over the fraction, median over seeds: a line for each norm."""
    lines = best.test_accuracy.median("seed").transpose("init_scale", ...)
    for line, color in zip(lines, plot.family_colors(len(lines)), strict=True):
        label = f"α = {line.init_scale:g}"
        axis.plot(line.train_fraction, line, "o-", ms=3, color=color, label=label)
    axis.set_xlabel("train fraction")
    axis.set_ylabel("best test accuracy")
    axis.legend(fontsize=6, ncols=1 + len(lines) // 8)
