"""K14 (Kumar et al. 2024, App. 10, eqs. 8 and 9): hard tasks move the parameters.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k14_difficulty.py \
        --workdir=runs/k14_difficulty

Near the kernel limit the squared distance that the parameters move is the difficulty
y^T K0^-1 y of the train labels for the initial NTK. The labels are eigenvectors of that
kernel, from easy to hard, and the committee machine is centred, so that it starts from
f = 0. Gradient flow of the exact dynamics until train loss is 1e-7, at output scales
from rich to lazy. The sizes are ours, and so are the scales. The read-outs are fixed,
so that rich networks cannot fit the harder half of the eigenvectors: those runs end at
the last step with what they cannot fit, and their distances are drawn, not judged.
Seeds from 200 on: others were seen when such runs were judged as well.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    every,
    last,
    median,
    ordered,
    presets,
    sheet,
    shown,
    tested,
    typically,
)

get_config = presets(
    dict(
        name="K14 difficulty",
        description="how far the parameters move against y' K0^-1 y",
        task=dict(name="eigenlabels", input_dim=30, train_size=150, test_size=150),
        model=dict(
            name="committee_flow", width=500, centered=True, rtol=1e-5, atol=1e-6
        ),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(norms={}, difficulty=dict(every=1000)),
        train=dict(steps=200_000, records=80),
        stop=dict(metric="train_loss", threshold=1e-7),
        sweep=dict(
            eigenvector=(1, 30, 100, 300),
            output_scale=(1.0, 10.0, 100.0, 1000.0),
            seed=tuple(range(200, 210)),
        ),
    ),
    smoke=dict(
        task=dict(input_dim=8, train_size=30, test_size=30),
        model=dict(width=30),
        train=dict(steps=1000, records=20),
        sweep=dict(eigenvector=(1, 20), output_scale=(1.0, 100.0), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=100, train_size=550, test_size=550),
        sweep=dict(eigenvector=(1, 100, 300, 1000)),
    ),
)


def moved(results: xr.Dataset) -> xr.DataArray:
    """|w - w0|^2 where the run ends, over the difficulty of its labels."""
    size = results.weight_norm.isel(step=0, drop=True)
    distance = last(results.relative_displacement) * size
    return distance**2 / results.difficulty.isel(step=0, drop=True)


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = moved(results)
    lazy = ratio.isel(output_scale=-1)
    fitted = results.t_train.notnull().all(("eigenvector", "seed"))
    rich = last(results.relative_displacement).where(fitted).sel(output_scale=100.0)
    return [
        tested(
            "K14a",
            "App. 10, eq. 9",
            "near the kernel limit the squared distance that the parameters move is "
            "the difficulty, precisely",
            every("|ratio - 1| at the largest alpha", abs(lazy - 1), "<", 0.05),
            typically(shown, "ratio", ratio),
        ),
        tested(
            "K14b",
            "App. 10",
            "more feature learning is expected on tasks that are harder for the "
            "initial kernel",
            typically(ordered, "movement at alpha = 100", rich, "eigenvector", "rises"),
            less="feature learning is read from the distance moved, at the smallest "
            "alpha where all labels are fitted",
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return sheet(
        ("distance against difficulty", distances, results),
        ("their ratio", ratios, results),
    )


def distances(axis: Axes, results: xr.Dataset) -> None:
    difficulty = results.difficulty.isel(step=0)
    distance = moved(results) * difficulty
    scales = results.output_scale.values
    for alpha, color in zip(scales, plot.family_colors(len(scales)), strict=True):
        runs = dict(output_scale=alpha)
        x, y = (values.sel(runs).values.ravel() for values in (difficulty, distance))
        axis.plot(x, y, "o", ms=3, color=color, label=f"α = {alpha:g}")
    low, high = float(difficulty.min()), float(difficulty.max())
    axis.plot([low, high], [low, high], ":", color="0.4", label="equal")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("difficulty of the labels")
    axis.set_ylabel("|w - w0|²")
    axis.legend(fontsize=7)


def ratios(axis: Axes, results: xr.Dataset) -> None:
    ratio = median(moved(results))
    for j in results.eigenvector.values:
        line = ratio.sel(eigenvector=j)
        axis.plot(line.output_scale, line, "o-", ms=4, label=f"j = {j}")
    axis.set_xscale("log")
    axis.set_xlabel("output scale α")
    axis.set_ylabel("|w - w0|² / difficulty")
    axis.legend(fontsize=7)
