"""K7 (Kumar et al. 2024, Figs. 6b and 12): the output scale of the transformer.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k7_transformer.py \
        --workdir=runs/k7_transformer

One-layer transformer on modular addition, full batch. Fig. 6b: the output scale alpha
at weight decay gamma = 1. Fig. 12: from (alpha, gamma) = (0.5, 1) the delay goes with
gamma = 5, and comes back with alpha = 1.4 at the same gamma.

The paper leaves open what alpha does to the learning rate of AdamW; its App. 8.1 scales
that of gradient descent as 1 / alpha^2. Both readings are run and judged: the learning
rate as it is (`plain`), and over alpha^2 (`lazy`), which multiplies the decay of a step
as well. `cpu` has a smaller modulus than the paper, and more of the pairs.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, grid, median, ordered, presets, shown, tested, times

RULES = ("plain", "lazy")

get_config = presets(
    dict(
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
            output_scale=(0.15, 0.5, 1.0, 1.5, 0.5, 1.4),
            weight_decay=(1.0, 1.0, 1.0, 1.0, 5.0, 5.0),
            rule=RULES,
            seed=(0, 1, 2),
        ),
        zip=("output_scale+weight_decay",),
    ),
    smoke=dict(
        task=dict(modulus=7),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        train=dict(steps=40, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(modulus=113, train_fraction=0.3),
        train=dict(steps=50_000),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    gap = (results.t_test - results.t_train).fillna(np.inf)  # never: the longest
    plain, lazy = (claims_of(gap.sel(rule=rule), rule) for rule in RULES)
    return plain + [claim._replace(id=f"{claim.id}2") for claim in lazy]


def claims_of(gap: xr.DataArray, rule: str) -> list[Claim]:
    """The claims from the delays [output_scale, seed] under one learning rate."""
    light, heavy = (gap.sel(output_scale=gap.weight_decay == g) for g in (1.0, 5.0))
    usual, cut, restored = (
        light.sel(output_scale=0.5),
        *heavy.transpose("output_scale", ...),
    )
    middle = median(light)
    least, one = (middle.sel(output_scale=alpha) for alpha in (0.15, 1.0))
    return [
        tested(
            "K7a",
            "Fig. 6b",
            f"{rule} learning rate, gamma = 1: the delay grows with the output scale",
            ordered("median delay", middle, "output_scale", "rises"),
            shown("delay", light),
        ),
        tested(
            "K7b",
            "Fig. 6b",
            f"{rule} learning rate, alpha = 0.15: no delay to speak of",
            every("median delay", least, "<", times(0.2, "that at alpha = 1", one)),
        ),
        tested(
            "K7c",
            "Fig. 12",
            f"{rule} learning rate, alpha = 0.5: gamma = 5, not 1, cuts the delay",
            every("delay", cut, "<", times(0.5, "that at gamma = 1", usual)),
        ),
        tested(
            "K7d",
            "Fig. 12",
            f"{rule} learning rate, gamma = 5: alpha = 1.4, not 0.5, brings it back",
            every("delay", restored, ">", times(1.5, "that at alpha = 0.5", cut)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    rows = [partial(accuracies, rule=rule) for rule in RULES]
    return grid(results, "output_scale", "α = {}, γ = {weight_decay:g}", *rows)


def accuracies(axis: Axes, results: xr.Dataset, rule: str) -> None:
    plot.accuracies(axis, results.sel(rule=rule))
    axis.set_ylabel(f"accuracy ({rule})")
