"""G2, G3 (Xu et al. 2025, Figs. 2 and 3): the embedding decides whether it groks.

    python -m grok_jax.launch --config=experiments/groktransfer/g2_embeddings.py \
        --workdir=runs/g2_embeddings

A three-layer FNN on fixed embeddings of a and b in modular addition, AdamW, full batch,
at the paper's initialisation, learning rate and decay for each embedding: one-hot,
binary digits, and Fourier features of seven frequencies. Beside the accuracies, the
change of the pseudo-NTK (that of the summed outputs) on 32 test pairs over every eight
steps.

The fourth embedding of the figure is what a language model makes of the integers. It is
not run here: with such vectors in a file (`tasks.reading`), add an arm whose
`task.embedding` is "file", with 1.3, 0.01 and 1.0, and name the file as `task.folder`.

`cpu` has the paper's sizes.
"""

from functools import partial
from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, delay, every, panels, presets, sheet, tested, times

get_config = presets(
    dict(
        name="G2 embeddings",
        description="fixed embeddings of modular addition",
        task=dict(name="modular_embedded", modulus=113, train_fraction=0.25),
        model=dict(name="fnn", embedding=0),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        observe=dict(kernel_snapshots=dict(every=2, points=32, kind="pseudo")),
        train=dict(steps=1200, records=300, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        arms={
            "one-hot": dict(
                task=dict(embedding="one_hot"),
                model=dict(init_scale=0.2),
                optimizer=dict(learning_rate=0.01, weight_decay=5.0),
            ),
            "binary": dict(
                task=dict(embedding="binary"),
                model=dict(init_scale=0.3),
                optimizer=dict(learning_rate=0.01, weight_decay=1.0),
            ),
            "Fourier": dict(
                task=dict(embedding="fourier"),
                model=dict(init_scale=0.5),
                optimizer=dict(learning_rate=0.1, weight_decay=0.1),
            ),
        },
        sweep=dict(seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(modulus=7, frequencies=2),
        model=dict(width=8),
        observe=dict(kernel_snapshots=dict(points=2)),
        train=dict(steps=20, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=10_000, records=2500),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def changes(results: xr.Dataset) -> xr.DataArray:
    """|Theta_t - Theta_s|_F from the kernel s before."""
    moved = results.ntk.dropna("step", how="all").diff("step")
    return (moved**2).sum(("ntk_0", "ntk_1"), skipna=False) ** 0.5


def claims(results: xr.Dataset) -> list[Claim]:
    gaps, fitted = delay(results), at(results.test_accuracy, results.t_train)
    arms = ("one-hot", "binary", "Fourier")
    one_hot, binary, fourier = (gaps.sel(arm=arm) for arm in arms)
    rises = every(
        "test accuracy at t_train, binary", fitted.sel(arm="binary"), ">", 0.5
    )
    small = every("binary", binary, "<=", times(0.2, "gap of one-hot", one_hot))
    some = every("gap of one-hot", one_hot, ">", 0)
    fit = times(1, "t_train", results.t_train.sel(arm="Fourier"))
    soon = every("time gap", fourier, "<=", fit)
    logs = changes(results).transpose("arm", ...).median("seed").pipe(np.log)
    alike = {
        f"correlation, {a.arm.item()} and {b.arm.item()}": xr.corr(a, b, "step")
        for a, b in combinations(logs, 2)
    }
    return [
        tested(
            "G2a",
            "Fig. 2",
            "one-hot groks, Fourier does not",
            some,
            every("gap of one-hot", one_hot, "<", np.inf),
            every("Fourier", fourier, "<=", times(0.1, "gap of one-hot", one_hot)),
        ),
        tested("G2b", "Fig. 2", "Fourier: it generalises as it memorises", soon),
        tested(
            "G2c",
            "Fig. 2",
            "binary digits: the test accuracy rises with the fit, one-hot it does not",
            rises,
            every("one-hot", fitted.sel(arm="one-hot"), "<", 0.2),
        ),
        tested("G2d", "Fig. 2", "binary digits: the delay is small", some, small),
        tested(
            "G3",
            "Fig. 3",
            "the pseudo-NTK (log of its median change) changes alike on all",
            *(every(pair, value, ">", 0.8) for pair, value in alike.items()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    moved = changes(results).to_dataset(name="change")
    change = partial(plot.family, over="arm", kind="change", log=True)
    each = panels(results, "arm", "{}", plot.accuracies)
    label = "|Θ(t) - Θ(s)|"
    return sheet(*each, ("pseudo-NTK", partial(change, label=label), moved))
