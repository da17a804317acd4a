"""K7 (Kumar et al. 2024, Figs. 6b and 12): the output scale of the transformer.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k7_transformer.py \
        --workdir=runs/k7_transformer

One-layer transformer on modular addition, cross-entropy, full batch, AdamW at 1e-3 with
betas 0.9 and 0.98. Fig. 6b: the output scale alpha at weight decay 1. Fig. 12: from
(alpha, weight decay) = (0.5, 1) the delay goes with weight decay 5, and comes back with
alpha 1.4 at the same weight decay.

`cpu`: addition modulo 31 on 60% of the pairs (the paper: 113, 30%), 3 seeds, 8,000
steps; a run ends when test accuracy has been 0.97 for a tenth of the way again. About
five minutes on two cores. At this fraction the mirror b + a of most test pairs is a
train pair, which alone gives 57% with the fit and hides what alpha does.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.config import choose_preset, make_config

POINTS = ((0.15, 1.0), (0.5, 1.0), (1.0, 1.0), (1.5, 1.0), (0.5, 5.0), (1.4, 5.0))
"""(output scale, weight decay): Fig. 6b, then Fig. 12."""


def get_config(preset: str = "cpu"):
    base = dict(
        name="K7 transformer",
        description="modular addition: output scale against weight decay",
        task=dict(name="modular_tokens", modulus=31, train_fraction=0.6),
        model=dict(name="transformer", vocabulary=32),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98),
        observe=dict(norms={}),
        train=dict(steps=8000, records=120),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.1),
        engine=dict(mode="map"),
        sweep=dict(
            output_scale=tuple(alpha for alpha, _ in POINTS),
            weight_decay=tuple(decay for _, decay in POINTS),
            seed=(0, 1, 2),
        ),
        zip=("output_scale+weight_decay",),
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(vocabulary=8, width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=40, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(modulus=113, train_fraction=0.3),
        model=dict(vocabulary=114),
        train=dict(steps=50_000),
        engine=dict(mode="auto"),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def delays(results: xr.Dataset) -> np.ndarray:
    """t_test - t_train [point, seed], infinite where it never generalised."""
    gap = (results.t_test - results.t_train).transpose("output_scale", "seed")
    return np.nan_to_num(gap.values, nan=np.inf)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = delays(results)
    least, usual, heavy, restored = gap[0], gap[1], gap[4], gap[5]
    names = [f"({alpha:g}, {decay:g})" for alpha, decay in POINTS]
    middle = np.median(gap[:4], axis=1)
    return [
        Claim(
            "K7a",
            "6b",
            "weight decay 1: the delay grows with the output scale",
            "median t_test - t_train rises over alpha = 0.15, 0.5, 1, 1.5",
            dict(zip(names[:4], gap[:4], strict=True)),
            bool((np.diff(middle) > 0).all()),
        ),
        Claim(
            "K7b",
            "6b",
            "alpha = 0.15: no delay to speak of",
            "median t_test - t_train below 1/5 of that at alpha = 1",
            {names[0]: least, names[2]: gap[2]},
            bool(middle[0] < middle[2] / 5),
        ),
        Claim(
            "K7c",
            "12",
            "alpha = 0.5: weight decay 5 in place of 1 cuts the delay",
            "below half, every seed",
            {names[1]: usual, names[4]: heavy},
            bool((heavy < usual / 2).all()),
        ),
        Claim(
            "K7d",
            "12",
            "weight decay 5: alpha = 1.4 in place of 0.5 brings it back",
            "more than 1.5x as long, every seed",
            {names[4]: heavy, names[5]: restored},
            bool((restored > 1.5 * heavy).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(2, 3, 3.6, 2.8)
    for i, (axis, (alpha, decay)) in enumerate(zip(axes.flat, POINTS, strict=True)):
        plot.accuracies(axis, results.isel(output_scale=i))
        axis.set_title(f"α = {alpha:g}, γ = {decay:g}")
    return drawing
