"""K7 (Kumar et al. 2024, Figs. 6b and 12): the output scale of the transformer.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k7_transformer.py \
        --workdir=runs/k7_transformer

One-layer transformer on modular addition, cross-entropy, full batch, AdamW at 1e-3 with
betas 0.9 and 0.98. Fig. 6b: the output scale alpha at weight decay 1. Fig. 12: from
(alpha, weight decay) = (0.5, 1) the delay goes with weight decay 5, and comes back with
alpha 1.4 at the same weight decay.

The paper leaves open what alpha does to the rate of AdamW; its App. 8.1 scales that of
gradient descent as 1 / alpha^2. Both readings are run and judged: the rate as it is
(`plain`), and over alpha^2 (`lazy`), which multiplies the decay of a step as well.

`cpu`: addition modulo 59 on 40% of the pairs (the paper: 113, 30%), 3 seeds, 10,000
steps; a run ends when test accuracy has been 0.97 for a tenth of the way again. About
ten minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

POINTS = ((0.15, 1.0), (0.5, 1.0), (1.0, 1.0), (1.5, 1.0), (0.5, 5.0), (1.4, 5.0))
"""(output scale, weight decay): Fig. 6b, then Fig. 12."""
RULES = ("plain", "lazy")
"""The rate of AdamW: as it is, or over alpha^2."""


def get_config(preset: str = "cpu"):
    base = dict(
        name="K7 transformer",
        description="modular addition: output scale against weight decay",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98),
        observe=dict(norms={}),
        train=dict(steps=10_000, records=120),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.97, above=True, patience=0.1),
        sweep=dict(
            output_scale=tuple(alpha for alpha, _ in POINTS),
            weight_decay=tuple(decay for _, decay in POINTS),
            rule=RULES,
            seed=(0, 1, 2),
        ),
        zip=("output_scale+weight_decay",),
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=40, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(modulus=113, train_fraction=0.3),
        train=dict(steps=50_000),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def delays(results: xr.Dataset) -> np.ndarray:
    """t_test - t_train [point, seed], infinite where it never generalised."""
    gap = (results.t_test - results.t_train).transpose("output_scale", "seed")
    return np.nan_to_num(gap.values, nan=np.inf)


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        claim
        for rule, note in zip(RULES, ("", "2"), strict=True)
        for claim in claims_of(delays(results.sel(rule=rule)), rule, note)
    ]


def claims_of(gap: np.ndarray, rule: str, note: str) -> list[Claim]:
    """The claims from the delays [point, seed] under one rule for the rate."""
    least, usual, heavy, restored = gap[0], gap[1], gap[4], gap[5]
    names = [f"({alpha:g}, {decay:g})" for alpha, decay in POINTS]
    middle = np.median(gap[:4], axis=1)
    return [
        Claim(
            f"K7a{note}",
            "6b",
            f"{rule} rate, weight decay 1: the delay grows with the output scale",
            "median t_test - t_train rises over alpha = 0.15, 0.5, 1, 1.5",
            dict(zip(names[:4], gap[:4], strict=True)),
            bool((middle[1:] > middle[:-1]).all()),
        ),
        Claim(
            f"K7b{note}",
            "6b",
            f"{rule} rate, alpha = 0.15: no delay to speak of",
            "median t_test - t_train below 1/5 of that at alpha = 1",
            {names[0]: least, names[2]: gap[2]},
            bool(middle[0] < middle[2] / 5),
        ),
        Claim(
            f"K7c{note}",
            "12",
            f"{rule} rate, alpha = 0.5: weight decay 5 in place of 1 cuts the delay",
            "below half, every seed",
            {names[1]: usual, names[4]: heavy},
            bool((heavy < usual / 2).all()),
        ),
        Claim(
            f"K7d{note}",
            "12",
            f"{rule} rate, weight decay 5: alpha = 1.4 in place of 0.5 brings it back",
            "more than 1.5x as long, every seed",
            {names[4]: heavy, names[5]: restored},
            bool((restored > 1.5 * heavy).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(2, len(POINTS), 2.8, 2.6)
    for row, rule in zip(axes, RULES, strict=True):
        for i, (axis, (alpha, decay)) in enumerate(zip(row, POINTS, strict=True)):
            plot.accuracies(axis, results.sel(rule=rule).isel(output_scale=i))
            axis.set_title(f"{rule}: α = {alpha:g}, γ = {decay:g}", fontsize=8)
    return drawing
