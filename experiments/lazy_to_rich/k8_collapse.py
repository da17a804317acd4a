"""K8 (Kumar et al. 2024, Fig. 7): init scale and output scale are one laziness.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k8_collapse.py \
        --workdir=runs/k8

Centred committee machine; init scale sigma against output scale alpha, at a learning
rate proportional to 1 / (alpha sigma)^2. Relative parameter change and final test loss
as functions of the laziness sigma^2 alpha alone. The activation has a linear part, so
that the collapse is not exact; runs of the same laziness are compared.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import Check, every, last, median, presets, sheet, tested


def scales(eta0: float, *sigmas: float) -> dict[str, tuple[float, ...]]:
    """The init scales and, moving with them, the learning rate eta0 / sigma^2."""
    return dict(init_scale=sigmas, learning_rate=tuple(eta0 / s**2 for s in sigmas))


get_config = presets(
    dict(
        name="K8 collapse",
        description="init scale against output scale",
        task=dict(name="polynomial", input_dim=30, train_size=150),
        model=dict(name="committee", width=100, epsilon=0.25, centered=True),
        optimizer=dict(name="gradient_descent", rule="lazy"),
        observe=dict(norms={}, population_risk={}),
        train=dict(steps=10_000, records=80),
        sweep=dict(
            scales(1.0, 0.5, 1.0, 2.0),
            output_scale=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
            seed=(0, 1, 2),
        ),
        zip=("init_scale+learning_rate",),
    ),
    smoke=dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=10),
        sweep=dict(output_scale=(0.25, 1.0, 4.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, train_size=550),
        model=dict(width=500),
        train=dict(steps=60_000),
        sweep=dict(
            scales(0.5, 0.125, 0.25, 0.5, 1.0, 2.0),
            output_scale=tuple(2.0**k for k in range(-4, 7)),
            seed=tuple(range(5)),
        ),
    ),
)


def ends(results: xr.Dataset, variable: str) -> xr.DataArray:
    """The last values over the laziness too; NaN of runs that diverged."""
    values = last(results[variable]).where(~results.diverged)
    laziness = results.init_scale**2 * results.output_scale
    return values.assign_coords(laziness=laziness)


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        tested(
            f"K8{letter}",
            "Fig. 7d-f",
            f"{name} is a function of sigma^2 alpha",
            *collapse(ends(results, variable), relation, bound),
        )
        for letter, variable, name, relation, bound in (
            ("a", "relative_displacement", "relative parameter change", "<=", -0.9),
            ("b", "population_risk", "final test loss", ">=", 0.9),
        )
    ]


def collapse(values: xr.DataArray, relation: str, bound: float) -> list[Check]:
    """That runs of one laziness end alike, and their rank correlation with it."""
    cells = values.stack(cell=("init_scale", "output_scale"))
    groups = cells.groupby("laziness")
    ratio = groups.max("cell", skipna=False) / groups.min("cell", skipna=False)
    found, count = np.unique(cells.laziness, return_counts=True)
    rank = measures.spearman(cells.laziness.values, cells.median("seed").values)
    return [
        every("largest / least", ratio.sel(laziness=found[count > 1]), "<=", 1.25),
        every("rank correlation with laziness", float(rank), relation, bound),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = dict(kind="population_risk", dashed="train_loss")
    over_alpha = partial(plot.family, over="output_scale", symbol="α", **losses)
    moved = partial(
        collapsed, variable="relative_displacement", label="|w - w0| / |w0|"
    )
    risk = partial(collapsed, variable="population_risk", label="final test loss")
    return sheet(
        ("(a) output scale at σ = 1", over_alpha, results.sel(init_scale=1.0)),
        ("(b) collapse of the movement", moved, results),
        ("(c) collapse of the test loss", risk, results),
    )


def collapsed(axis: Axes, results: xr.Dataset, variable: str, label: str) -> None:
    values = median(ends(results, variable))
    for sigma in results.init_scale.values:
        line = values.sel(init_scale=sigma)
        axis.plot(line.laziness, line, "o-", ms=4, label=f"σ = {sigma:g}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("σ² α")
    axis.set_ylabel(label)
    axis.legend(fontsize=7)
