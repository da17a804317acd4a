"""O6 (Liu et al. 2023, Fig. 7): the transformer on addition modulo 113.

    python -m grok_jax.launch --config=experiments/omnigrok/o6_transformer.py \
        --workdir=runs/o6_transformer

One layer of width 128, full-batch AdamW: once freely with weight decay, once on the
sphere of 0.8 times the initial norm without. The norm is that of all parameters. Beside
it, the share of the embedding's power in few frequencies, the embedding on its first
two principal components, and softmax collapse: the share of the train examples that
`loss.error=naive_cross_entropy` would no longer move in float32. The loss here does
(`o9_transformer.py` has the measurement); `paper` has float64, as the authors'
notebook. The factors of 5 are ours.

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
    along,
    change,
    delay,
    grid,
    late,
    presets,
    rise,
    shown,
    tested,
    typical,
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
        sweep=dict(seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(modulus=7, train_fraction=0.5),
        model=dict(width=8, heads=2, head_width=4, mlp_width=16),
        observe=dict(
            embedding_fourier=dict(tokens=7, top=1), parameter_snapshots=dict(every=2)
        ),
        train=dict(steps=40, records=10),
    ),
    paper=dict(
        train=dict(steps=30_000),
        stop=dict(patience=1.0),
        sweep=dict(seed=tuple(range(100, 105))),
        engine=dict(x64=True),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    free = results.sel(arm="free")
    norm, t_train, t_test = free.weight_norm, free.t_train, free.t_test
    peak = along("step", measures.peak, norm).step
    gaps = delay(results)
    share = gaps.sel(arm="fixed").clip(min=0) / gaps.sel(arm="free")
    return [
        tested(
            "O6a",
            "Fig. 7a",
            "free: it fits early and generalises late",
            typical("t_test / t_train", late(t_test) / t_train, ">=", 5),
            shown(
                "spikes of the train loss", measures.loss_spikes(free.train_loss.values)
            ),
        ),
        tested(
            "O6b",
            "Sec. 5.1, Fig. 7a",
            "free: the norm first rises and is highest while it overfits",
            typical("peak / start", rise(norm), ">", 1.1),
            typical("peak at / t_train", peak / t_train, ">", 1),
            typical("peak at / t_test", peak / late(t_test), "<", 1),
        ),
        tested(
            "O6c",
            "Sec. 5.1, Fig. 7a",
            "free: as it generalises the norm falls below that of the start",
            typical("norm at the end / start", change(norm), "<", 1),
        ),
        tested(
            "O6d",
            "Sec. 5.1, Fig. 7b",
            "on the sphere of 0.8 times the initial norm train and test accuracy rise "
            "together: grokking is almost gone",
            typical("delay / free delay", share, "<=", 0.2),
        ),
    ]


def figure(results: xr.Dataset) -> dict[str, Figure]:
    high = 1.05 * float(results.weight_norm.max())
    norm = partial(lines, names=["weight_norm"], top=high)
    others = partial(lines, names=["fourier_concentration", "softmax_collapse"])
    curves = (
        partial(plot.accuracies, each=True),
        partial(plot.losses, log=True, each=True),
        norm,
        others,
    )
    places = (partial(tokens, place=place) for place in (0, 0.5, 1))
    first = results.isel(seed=0)
    return {
        "figure": grid(results, "arm", "{} norm", *curves),
        "embedding": grid(first, "arm", "{} norm, the first seed", *places),
    }


def lines(
    axis: Axes, runs: xr.Dataset, names: list[str], top: float | None = None
) -> None:
    """Every run; with `top`, from 0 up to it, the same for both norms."""
    for name in names:
        label = plot.words(name).replace("fourier", "Fourier")
        plot.curves(axis, runs, name, label=label, each=True)
    if top:
        axis.set_ylim(0, top)
    plot.log_steps(axis)
    axis.legend(fontsize=7)


def tokens(axis: Axes, runs: xr.Dataset, place: float) -> None:
    """The embedding, without '=', on its first two principal components."""
    tables = runs.parameter.dropna("step")
    table = tables[int(place * (len(tables) - 1))]
    points, shares = spectra.principal_components(table.values[:-1])
    axis.scatter(*np.asarray(points).T, c=np.arange(len(points)), s=9, cmap="hsv")
    axis.set_xlabel(f"step {table.step:,d}: {float(shares.sum()):.0%} of the variance")
