"""K4 (Kumar et al. 2024, Figs. 4 and 9): three sizes of data, three fates of the loss.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k4_decomposition.py \
        --workdir=runs/k4

The population risk in its three terms along the exact dynamics of the N = 500
committee, for P in {50, 120, 500}. The paper's text fixes D = 100, but there 120
examples do not determine the target and nothing can generalise; its curves are those
of a smaller D. Both are run: the claims are tested at D = 25 and reported at D = 100.

`cpu`: 3 seeds, at most 30,000 steps; about a minute and a half on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="K4 decomposition",
        description="the three terms of the risk for three sizes of data",
        task=dict(name="polynomial"),
        model=dict(name="committee_dynamics", width=500, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}),
        train=dict(steps=30_000, records=120),
        stop=dict(metric="population_risk", threshold=1e-3),
        sweep=dict(input_dim=(25, 100), train_size=(50, 120, 500), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(test_size=50),
        model=dict(width=30),
        train=dict(steps=200, records=20),
        sweep=dict(input_dim=(12,), train_size=(20, 40, 80), seed=(0, 1)),
    )
    paper = dict(train=dict(steps=60_000), sweep=dict(seed=tuple(range(10))))
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def last(values: xr.DataArray) -> xr.DataArray:
    """The last recorded value of each run."""
    values = values.transpose(..., "step")
    return values.isel(step=0, drop=True).copy(
        data=measures.last_recorded(values.values)
    )


def claims(results: xr.Dataset) -> list[Claim]:
    return [
        claim
        for dim, letter in zip(results.input_dim.values, "ab", strict=False)
        for claim in _claims_at(results.sel(input_dim=dim), int(dim), letter)
    ]


def _claims_at(results: xr.Dataset, dim: int, letter: str) -> list[Claim]:
    few, some, many = results.train_size.values
    power, risk = results.linear_power, results.population_risk
    peak, end = power.max("step"), last(power)
    grown, kept = peak / power.isel(step=0), end / peak
    generalised = last(risk) / risk.max("step")

    def at(values: xr.DataArray, size: int) -> np.ndarray:
        return values.sel(train_size=size).values

    return [
        Claim(
            f"K4{letter}1",
            "9b, 9e",
            f"D = {dim}, P = {some}: linear power rises, then falls as it groks",
            "peak >= 5x start, end <= 0.25 peak, risk end <= 0.1 peak, every seed",
            {
                "peak / start": spread(at(grown, some)),
                "end / peak": spread(at(kept, some)),
                "risk end / peak": spread(at(generalised, some)),
            },
            bool(
                (at(grown, some) >= 5).all()
                and (at(kept, some) <= 0.25).all()
                and (at(generalised, some) <= 0.1).all()
            ),
        ),
        Claim(
            f"K4{letter}2",
            "9a, 9d",
            f"D = {dim}, P = {few}: linear power stays high and nothing generalises",
            "end >= 0.3 of its peak, risk never below 0.3 of its peak, every seed",
            {
                "end / peak": spread(at(kept, few)),
                "risk end / peak": spread(at(generalised, few)),
            },
            bool((at(kept, few) >= 0.3).all() and (at(generalised, few) >= 0.3).all()),
        ),
        Claim(
            f"K4{letter}3",
            "9c, 9f",
            f"D = {dim}, P = {many}: linear power stays low throughout",
            f"peak <= 0.5 of that at P = {some}, risk end <= 0.1 peak, every seed",
            {
                f"peak / peak at {some}": (at(peak, many) / at(peak, some)),
                "risk end / peak": spread(at(generalised, many)),
            },
            bool(
                (at(peak, many) <= 0.5 * at(peak, some)).all()
                and (at(generalised, many) <= 0.1).all()
            ),
        ),
    ]


def figure(results: xr.Dataset) -> dict[str, Figure]:
    return {
        f"figure_D{dim}": _figure_at(results.sel(input_dim=dim))
        for dim in results.input_dim.values
    }


def _figure_at(results: xr.Dataset) -> Figure:
    sizes = results.train_size.values
    drawing, axes = plot.panels(2, len(sizes))
    for column, size in enumerate(sizes):
        run = results.sel(train_size=size)
        top, bottom = axes[:, column]
        plot.losses(top, run, test="population_risk")
        plot.risk_terms(bottom, run)
        top.set_title(f"P = {size}, D = {results.input_dim.item()}")
    return drawing
