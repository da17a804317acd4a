"""O6 (Liu et al. 2023, Fig. 7): the transformer on addition modulo 113.

    python -m grok_jax.launch --config=experiments/omnigrok/o6_transformer.py \
        --workdir=runs/o6_transformer

One layer of width 128, full-batch AdamW: once freely with weight decay, once on the
sphere of 0.8 times the initial norm without. The norm is that of all parameters. Beside
it, the share of the embedding's power in few frequencies, the embedding on its first
two principal components, and softmax collapse: the share of the train examples that
`loss.error=naive_cross_entropy` would no longer move in float32. The loss here does.

`cpu` has the paper's size and steps; a run ends when its test accuracy has been 0.99
for half as long again.
"""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot, spectra
from grok_jax.claims import Claim
from grok_jax.pages import (
    OURS,
    along,
    change,
    every,
    grid,
    presets,
    rise,
    shown,
    tested,
    times,
)

get_config = presets(
    dict(
        name="O6 transformer",
        description="modular addition: norm and delay",
        task=dict(name="modular_tokens", modulus=113, train_fraction=0.3),
        model=dict(name="transformer"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.98),
        observe=dict(
            norms={},
            softmax_collapse={},
            embedding_fourier=dict(tokens=113),
            parameter_snapshots=dict(every=40),
        ),
        train=dict(steps=15_000, records=600, spacing="linear"),
        grok=dict(kind="accuracy", train=0.99, test=0.95),
        stop=dict(metric="test_accuracy", threshold=0.99, above=True, patience=0.5),
        arms=dict(
            free=dict(optimizer=dict(weight_decay=1.0)),
            fixed=dict(
                model=dict(init_scale=0.8),
                optimizer=dict(norm="fixed", weight_decay=0.0),
            ),
        ),
        sweep=dict(seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(modulus=7, train_fraction=0.5),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        observe=dict(
            embedding_fourier=dict(tokens=7, top=1), parameter_snapshots=dict(every=2)
        ),
        train=dict(steps=40, records=10),
    ),
    paper=dict(sweep=dict(seed=tuple(range(5)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    free, fixed = results.sel(arm="free"), results.sel(arm="fixed")
    norm, held = free.weight_norm, fixed.weight_norm
    late = every("t_test", free.t_test, ">=", times(5, "t_train", free.t_train))
    counts = measures.loss_spikes(free.train_loss.values)
    spikes = shown("spikes of the train loss", counts)
    peak = along("step", measures.peak, norm).step
    back = every("norm at the end / start", change(norm), "<", 1)
    gap, fixed_gap = (run.t_test - run.t_train for run in (free, fixed))
    cut = every("delay", fixed_gap, "<=", times(0.2, "free delay", gap))
    moved = abs(held / held.isel(step=0) - 1).max("step")
    small = every("|w / w0 - 1| of all records", moved, "<=", 1e-6)
    sphere = "on the sphere of 0.8 times the initial norm the delay is cut"
    return [
        tested(
            "O6a", "Fig. 7a", "free: it fits early and generalises late", late, spikes
        ),
        tested(
            "O6b",
            "Fig. 7a",
            "free: the norm rises and peaks while it overfits",
            every("peak / start", rise(norm), ">", 1.1),
            every("peak at", peak, ">", times(1, "t_train", free.t_train)),
            every("peak at", peak, "<", times(1, "t_test", free.t_test)),
        ),
        tested("O6c", "Fig. 7a", "free: it ends below its start", back),
        tested("O6d", "Fig. 7b", sphere, cut),
        tested("O6e", OURS, "the norm stays on the sphere", small),
    ]


def figure(results: xr.Dataset) -> dict[str, Figure]:
    norm = partial(lines, names=["weight_norm"])
    others = partial(lines, names=["fourier_concentration", "softmax_collapse"])
    curves = (plot.accuracies, partial(plot.losses, log=True), norm, others)
    places = (partial(tokens, place=place) for place in (0, 0.5, 1))
    first = results.isel(seed=0)
    return {
        "figure": grid(results, "arm", "{} norm", *curves),
        "embedding": grid(first, "arm", "{} norm, the first seed", *places),
    }


def lines(axis: Axes, runs: xr.Dataset, names: list[str]) -> None:
    for name in names:
        plot.curves(
            axis, runs, name, label=plot.words(name).replace("fourier", "Fourier")
        )
    plot.log_steps(axis)
    axis.legend(fontsize=7)


def tokens(axis: Axes, runs: xr.Dataset, place: float) -> None:
    """The embedding, without '=', on its first two principal components."""
    tables = runs.parameter.dropna("step")
    table = tables[int(place * (len(tables) - 1))]
    points, shares = spectra.principal_components(table.values[:-1])
    axis.scatter(*np.asarray(points).T, c=np.arange(len(points)), s=9, cmap="hsv")
    axis.set_xlabel(f"step {table.step:,d}: {float(shares.sum()):.0%} of the variance")
