"""O4 (Liu et al. 2023, Fig. 5c): L and U on molecules.

    python -m grok_jax.launch --config=experiments/omnigrok/o4_landscape.py \
        --workdir=runs/o4_landscape

The network of `o4_molecules.py` trained by Adam on the sphere of norm alpha times that
of its initialisation, for several numbers N of molecules; the reduced loss is the least
along the run.

`cpu`: fewer norms, molecules and steps than the paper.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import along, every, grid, ordered, presets, tested

get_config = presets(
    dict(
        name="O4 landscape",
        description="QM9: reduced loss against the norm",
        task=dict(name="qm9", molecules=1000, test_size=100),
        model=dict(name="gcn"),
        loss=dict(name="squared_error", tolerance=1.0),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=2000, records=25, batch_size=30),
        sweep=dict(
            init_scale=logspace(0.1, 10, 7), train_size=(30, 100, 300), seed=(0, 1, 2)
        ),
    ),
    smoke=dict(
        task=dict(molecules=100, test_size=8),
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
        train=dict(steps=20, records=5, batch_size=6),
        sweep=dict(init_scale=logspace(0.1, 10, 3), train_size=(12, 24), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(molecules=20_000, test_size=1000),
        train=dict(steps=10_000),
        sweep=dict(
            init_scale=logspace(0.1, 10, 21), train_size=(10, 100, 1000, 10_000)
        ),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    least = results[["train_loss", "test_loss"]].min("step").median("seed")
    train, test = least.train_loss, least.test_loss
    rise = test / test.min("init_scale", skipna=False)
    mismatch = along("init_scale", measures.lu_mismatch, train, test, floor=1e-2)
    return [
        tested(
            "O4c",
            "Fig. 5c",
            "the test loss is a U over the norm (median over seeds)",
            every("at the smallest norm / least", rise.isel(init_scale=0), ">=", 2),
            every("at the largest norm / least", rise.isel(init_scale=-1), ">=", 2),
        ),
        tested(
            "O4c2",
            "Fig. 5c",
            "the gap between L and U shrinks as the data grow (median over seeds)",
            ordered("mismatch in decades", mismatch, "train_size", "falls"),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return grid(results.min("step"), "train_size", "N = {}", plot.landscape)
