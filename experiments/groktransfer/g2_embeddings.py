"""G2, G3 (Xu et al. 2025, Figs. 2 and 3): the embedding decides whether it groks.

    python -m grok_jax.launch --config=experiments/groktransfer/g2_embeddings.py \
        --workdir=runs/g2_embeddings

A three-layer FNN of width 512 on fixed embeddings of a and b, addition modulo 113, a
quarter of the pairs for training, AdamW, full batch, at the paper's initialisation,
rate and decay for each embedding: one-hot, binary digits, and Fourier features of seven
frequencies. Beside the accuracies, the change of the pseudo-NTK (that of the summed
outputs) on 32 test pairs over every eight steps.

The fourth embedding of the figure is what a language model makes of the integers. It is
not run here: with such vectors in a file (`tasks.files`), add "file": (1.3, 0.01, 1.0)
to EMBEDDINGS and name the file as `task.folder`.

`cpu`: the paper's sizes, 3 seeds, 1,200 steps; about five minutes on two cores.
"""

from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

EMBEDDINGS = {
    "one_hot": (0.2, 0.01, 5.0),
    "binary": (0.3, 0.01, 1.0),
    "fourier": (0.5, 0.1, 0.1),
}
"""embedding -> (init scale, learning rate, weight decay)"""


def get_config(preset: str = "cpu"):
    scales, rates, decays = zip(*EMBEDDINGS.values(), strict=True)
    base = dict(
        name="G2 embeddings",
        description="fixed embeddings of modular addition",
        task=dict(name="modular_embedded", modulus=113, train_fraction=0.25),
        model=dict(name="fnn", embedding=0),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        observe=dict(kernel_snapshots=dict(every=2, points=32, kind="pseudo")),
        train=dict(steps=1200, records=300, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep={
            "task.embedding": tuple(EMBEDDINGS),
            "model.init_scale": scales,
            "optimizer.learning_rate": rates,
            "optimizer.weight_decay": decays,
            "seed": (0, 1, 2),
        },
        zip=(
            "task.embedding+model.init_scale+optimizer.learning_rate+"
            "optimizer.weight_decay",
        ),
    )
    smoke = dict(
        task=dict(modulus=7, frequencies=2),
        model=dict(width=8),
        observe=dict(kernel_snapshots=dict(points=2)),
        train=dict(steps=20, records=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        train=dict(steps=10_000, records=2500),
        sweep=dict(seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def at_the_fit(results: xr.Dataset) -> xr.DataArray:
    """Test accuracy [embedding, seed] where train accuracy is first 95%; NaN if it
    never is."""
    when = results.t_train
    found = results.test_accuracy.sel(step=when.fillna(0).astype(int))
    return found.where(when.notnull()).drop_vars("step")


def changes(results: xr.Dataset) -> xr.DataArray:
    """|Theta_t - Theta_s|_F from the kernel s before, [embedding, seed, step]."""
    moved = results.ntk.dropna("step", how="all").diff("step")
    return np.sqrt((moved**2).sum(("ntk_0", "ntk_1"), skipna=False)).transpose(
        "embedding", "seed", "step"
    )


def claims(results: xr.Dataset) -> list[Claim]:
    times = results[["t_train", "t_test"]].transpose("embedding", "seed")
    delay = xr.zeros_like(times.t_train).copy(
        data=np.asarray(measures.delay(times.t_train.values, times.t_test.values))
    )
    gap = {name: delay.sel(embedding=name).values for name in EMBEDDINGS}
    fitted = at_the_fit(results).transpose("embedding", "seed")
    early = {name: fitted.sel(embedding=name).values for name in EMBEDDINGS}
    fourier_fit = times.t_train.sel(embedding="fourier").values
    curves = np.log(changes(results).median("seed"))
    alike = {
        f"{a}, {b}": float(
            xr.corr(curves.sel(embedding=a), curves.sel(embedding=b), "step")
        )
        for a, b in combinations(EMBEDDINGS, 2)
    }
    return [
        Claim(
            "G2a",
            "2",
            "one-hot groks, Fourier does not",
            "one-hot: test accuracy reaches 95%, time gap >= 10x that of Fourier; "
            "every seed",
            {name: gap[name] for name in ("one_hot", "fourier")},
            bool(
                np.isfinite(gap["one_hot"]).all()
                and measures.shortened(gap["fourier"], gap["one_hot"], 10).all()
            ),
        ),
        Claim(
            "G2b",
            "2",
            "Fourier: it generalises as it memorises",
            "time gap <= t_train, every seed",
            {"gap": gap["fourier"], "t_train": fourier_fit},
            bool((gap["fourier"] <= fourier_fit).all()),
        ),
        Claim(
            "G2c",
            "2",
            "binary digits: the test accuracy rises with the fit, one-hot it does not",
            "where train accuracy is 95%: binary > 50%, one-hot < 20%, every seed",
            {name: early[name] for name in ("binary", "one_hot")},
            bool((early["binary"] > 0.5).all() and (early["one_hot"] < 0.2).all()),
        ),
        Claim(
            "G2d",
            "2",
            "binary digits: the delay is small",
            "time gap at most 1/5 of one-hot's (never is the longest), every seed",
            {name: gap[name] for name in ("binary", "one_hot")},
            bool(measures.shortened(gap["binary"], gap["one_hot"], 5).all()),
        ),
        Claim(
            "G3",
            "3",
            "the pseudo-NTK changes alike on every embedding",
            "correlation over the steps of the log of |Theta_t - Theta_s|_F > 0.8, "
            "every two embeddings (median over seeds)",
            alike,
            bool(min(alike.values()) > 0.8),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    names = [str(name) for name in results.embedding.values]
    drawing, axes = plot.panels(1, len(names) + 1, 3.5, 2.9)
    moved = changes(results).to_dataset(name="change")
    colors = plot.family_colors(len(names))
    for axis, name, color in zip(axes[0], names, colors, strict=False):
        plot.accuracies(axis, results.sel(embedding=name))
        axis.set_title(name.replace("_", "-"))
        own = moved.sel(embedding=name)
        plot.curves(axes[0, -1], own, "change", color=color, label=name)
    axes[0, -1].set_yscale("log")
    axes[0, -1].set_xlabel("step")
    axes[0, -1].set_ylabel("|Θ(t) - Θ(s)|")
    axes[0, -1].set_title("change of the pseudo-NTK")
    axes[0, -1].legend(fontsize=7)
    return drawing
