"""O4 (Liu et al. 2023, Fig. 5a, b): grokking on molecules.

    python -m grok_jax.launch --config=experiments/omnigrok/o4_molecules.py \
        --workdir=runs/o4_molecules

A graph network predicts the isotropic polarizability of QM9's molecules (bohr^3) by
Adam without weight decay: at 3 times PyTorch's initialisation the test loss falls long
after the train loss, at the usual one with it. The molecules are those of `qm9pack`
(`pip install grok_jax[qm9]`) or of a data folder.

`cpu`: of the first 1,000 molecules. Within 20,000 steps two of three seeds have not
come down.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import along, every, panels, presets, sheet, tested, times

get_config = presets(
    dict(
        name="O4 molecules",
        description="QM9: large initialisation, no weight decay",
        task=dict(name="qm9", molecules=1000, train_size=100, test_size=100),
        model=dict(name="gcn"),
        loss=dict(name="squared_error", tolerance=1.0),
        optimizer=dict(name="adamw", learning_rate=1e-3),
        observe=dict(norms={}),
        train=dict(steps=50_000, records=100, batch_size=32),
        sweep=dict(init_scale=(1.0, 3.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(molecules=100, train_size=12, test_size=8),
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
        train=dict(steps=30, records=8, batch_size=6),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        task=dict(molecules=100_000),
        train=dict(steps=100_000),
        sweep=dict(seed=tuple(range(5))),
    ),
)


def timed(results: xr.Dataset) -> xr.Dataset:
    """The results with the first steps at which train and test loss are below 1% of
    the train loss of the usual network at step 0, about the targets' mean square."""
    start = results.train_loss.sel(init_scale=1.0, step=0, drop=True)
    below = partial(along, "step", measures.first_step_falling, threshold=0.01)
    t_train, t_test = (
        below(results.train_loss / start),
        below(results.test_loss / start),
    )
    return results.assign(t_train=t_train, t_test=t_test)


def claims(results: xr.Dataset) -> list[Claim]:
    large, usual = (timed(results).sel(init_scale=alpha) for alpha in (3.0, 1.0))
    return [
        tested(
            "O4a",
            "Fig. 5a",
            "alpha = 3: the test loss falls below 1% of the targets' mean square long "
            "after the train loss",
            every("t_test", large.t_test, ">=", times(3, "t_train", large.t_train)),
        ),
        tested(
            "O4b",
            "Fig. 5b",
            "alpha = 1: with it",
            every("t_test", usual.t_test, "<=", times(2, "t_train", usual.t_train)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(plot.losses, log=True)
    norms = partial(plot.family, over="init_scale", symbol="α", kind="weight_norm")
    alphas = panels(results, "init_scale", "α = {:g}", losses)
    return sheet(*alphas, ("", norms, results))
