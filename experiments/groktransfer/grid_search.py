"""G0 (Xu et al. 2025, App. A): the grid from which the paper's settings come.

    python -m grok_jax.launch --config=experiments/groktransfer/grid_search.py \
        --workdir=runs/grid_search

Initialisation x rate x weight decay of the target on modular addition, from scratch and
with a weak network's embedding: the winner is the first to have 90% test accuracy. A
run ends there. All settings but the arm are traced, so that the grid of an arm is one
compiled program.

`cpu`: addition modulo 59 on 40% of the pairs, 2 x 3 x 2 of the settings, 3 seeds,
700 steps; about five minutes on two cores. `paper`: modulo 113 on 25%, 16 x 8 x 9
settings for each arm, one seed.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

ARMS = {arm: arm for arm in ("scratch", "GrokTransfer")}
GRID = ("init_scale", "learning_rate", "weight_decay")


def get_config(preset: str = "cpu"):
    base = dict(
        name="G0 grid search",
        description="which settings generalise first",
        task=dict(name="modular_tokens", modulus=59, train_fraction=0.4, equals=False),
        model=dict(name="fnn"),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        train=dict(steps=700, records=70, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.9),
        stop=dict(metric="test_accuracy", threshold=0.9, above=True),
        arms=dict(
            scratch={},
            GrokTransfer=dict(
                transfer=dict(
                    model=dict(embedding=4, width=16, layers=2),
                    optimizer=dict(learning_rate=5e-3, weight_decay=0.1),
                )
            ),
        ),
        sweep={
            "model.init_scale": (0.3, 1.0),
            "optimizer.learning_rate": (1e-3, 5e-3, 1e-2),
            "optimizer.weight_decay": (1.0, 3.0),
            "seed": (0, 1, 2),
        },
    )
    smoke = dict(
        task=dict(modulus=7),
        model=dict(embedding=8, width=8),
        arms=dict(GrokTransfer=dict(transfer=dict(steps=20))),
        train=dict(steps=20, records=5),
        sweep={"optimizer.learning_rate": (1e-3, 1e-2), "seed": (0,)},
    )
    paper = dict(
        task=dict(modulus=113, train_fraction=0.25),
        train=dict(steps=10_000, records=500),
        sweep={
            "model.init_scale": (0.05, *(round(0.1 * i, 1) for i in range(1, 16))),
            "optimizer.learning_rate": (
                *(1e-4, 5e-4, 1e-3, 5e-3),
                *(1e-2, 0.1, 0.5, 1.0),
            ),
            "optimizer.weight_decay": (
                *(1e-4, 1e-3, 1e-2, 0.1),
                *(1.0, 2.0, 3.0, 4.0, 5.0),
            ),
            "seed": (0,),
        },
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def reached(results: xr.Dataset) -> xr.DataArray:
    """The step of 90% test accuracy [arm, init_scale, learning_rate, weight_decay]:
    median over seeds, infinite where most never came."""
    t_test = results.t_test.fillna(np.inf).median("seed")
    return t_test.transpose("arm", *GRID)


def claims(results: xr.Dataset) -> list[Claim]:
    at = reached(results)
    found = {name: winner(at.sel(arm=source)) for source, name in ARMS.items()}
    return [
        Claim(
            "G0",
            "-",
            "some setting generalises",
            "90% test accuracy within the run, in either arm (median over seeds)",
            {
                **{f"{name}, first": said for name, (_, said) in found.items()},
                **{
                    f"{name}, settings that came": f"{int(np.isfinite(own).sum())} of "
                    f"{own.size}"
                    for name, own in zip(ARMS.values(), at, strict=True)
                },
            },
            all(np.isfinite(step) for step, _ in found.values()),
        )
    ]


def winner(at: xr.DataArray) -> tuple[float, str]:
    """The first step of one arm, and its settings in words."""
    step = float(at.min())
    if not np.isfinite(step):
        return step, "none"
    own = at[at.argmin(...)]
    words = (f"{name.replace('_', ' ')} {float(own[name]):g}" for name in GRID)
    return step, f"step {step:,.0f} with {', '.join(words)}"


def figure(results: xr.Dataset) -> Figure:
    at = reached(results)
    pairs = (
        ("learning_rate", "weight_decay"),
        ("learning_rate", "init_scale"),
        ("weight_decay", "init_scale"),
    )
    drawing, axes = plot.panels(len(ARMS), len(pairs), 4.2, 3.2)
    for row, (source, name) in zip(axes, ARMS.items(), strict=True):
        for axis, (x, y) in zip(row, pairs, strict=True):
            (other,) = set(GRID) - {x, y}
            own = at.sel(arm=source).min(other).transpose(y, x)
            values = own.where(np.isfinite(own)).values
            plot.heat_map(
                drawing, axis, values, own[x].values, own[y].values, label="step"
            )
            axis.set_xlabel(x.replace("_", " "))
            axis.set_ylabel(y.replace("_", " "))
            axis.set_title(f"{name}: least over {other.replace('_', ' ')}", fontsize=8)
    return drawing
