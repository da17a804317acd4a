"""O4 (Liu et al. 2023, Figs. 5a-c): L and U on molecules.

    python -m grok_jax.launch --config=experiments/omnigrok/o4_landscape.py \
        --workdir=runs/o4_landscape

The network of `o4_molecules.py` trained by Adam on the sphere of norm alpha times that
of its initialisation, on one half of the first N molecules of QM9 with the other half
for testing; the reduced loss is the least along the run. The authors' figures divide
the losses by the batch size. What counts as alike (a factor 2) and as a mismatch (5) is
ours.

`cpu`: fewer norms and numbers of molecules than the paper; the steps are those of the
authors' script from 100 molecules on (it takes up to 10,000 of fewer). `paper` has 7 of
the script's 22 numbers.
"""

from functools import partial
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import presets, sheet, shown, tested, typical

FEW, MANY = 100, 3000  # molecules of Fig. 5c


def halves(*molecules: int) -> dict[str, tuple[int, ...]]:
    """The numbers of molecules, half of them for training."""
    return dict(molecules=molecules, train_size=tuple(n // 2 for n in molecules))


get_config = presets(
    dict(
        name="O4 landscape",
        description="QM9: reduced loss against the norm",
        task=dict(name="qm9"),
        model=dict(name="gcn"),
        loss=dict(name="squared_error", tolerance=1.0),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=1560, records=25, batch_size=32),
        sweep=dict(
            **halves(10, 30, 100, 300, 1000, 3000),
            init_scale=logspace(0.1, 10, 9),
            seed=(100, 101, 102),
        ),
        zip=("molecules+train_size",),
    ),
    smoke=dict(
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
        train=dict(steps=20, records=5, batch_size=6),
        sweep=dict(**halves(12, 24), init_scale=logspace(0.1, 10, 3), seed=(0, 1)),
    ),
    paper=dict(
        train=dict(records=200),
        sweep=dict(
            **halves(10, 26, 100, 372, 1000, 2682, 10_000),
            steps=(10_000, 3846, 2000, 1560, 1560, 1560, 1560),
            init_scale=logspace(0.1, 10, 21),
        ),
        zip=("molecules+train_size+steps",),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    least = results[["train_loss", "test_loss"]].min("step")
    few, many = (least.sel(molecules=n, method="nearest") for n in (FEW, MANY))
    large = slice(1.01, None)
    apart, close = (
        (runs.test_loss / runs.train_loss).sel(init_scale=large).max("init_scale")
        for runs in (few, many)
    )
    ends = [
        loss.isel(init_scale=end) / loss.min("init_scale", skipna=False)
        for loss in (many.train_loss, many.test_loss)
        for end in (0, -1)
    ]
    return [
        tested(
            "O4c",
            "Sec. 4, Fig. 5a-c",
            "few molecules: train and test loss mismatch somewhere beyond alpha = 1",
            typical("largest test loss / train loss beyond 1", apart, ">=", 5),
        ),
        tested(
            "O4c2",
            "Sec. 4, Fig. 5a-c",
            "many molecules: train and test loss are U's alike over the norm",
            typical("largest test loss / train loss beyond 1", close, "<=", 2),
            *(
                typical(f"{name} / least", end, ">=", 2)
                for name, end in zip(
                    ("train, left end", "train, right", "test, left", "test, right"),
                    ends,
                    strict=True,
                )
            ),
            shown("of few", apart),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    least = results[["train_loss", "test_loss"]].min("step")
    parts = [
        (f"{split} loss", partial(heat, name=f"{split}_loss"), least)
        for split, _ in plot.SPLITS
    ]
    line = partial(plot.landscape, floor=1e-3)
    for count in (FEW, MANY):
        runs = least.sel(molecules=count, method="nearest")
        parts.append((f"N = {runs.molecules.item()}", line, runs))
    return sheet(*parts, columns=2)


def heat(axis: Axes, least: xr.Dataset, name: str) -> None:
    """The median over seeds, as Fig. 5a, b; contours at the authors' 0.05 to 0.2 of a
    batch of 32."""
    look: Any = dict(
        norm=LogNorm(0.1, 1e4, clip=True), levels=(1.6, 3.2, 6.4), log="xy"
    )
    table = least[name].median("seed")
    plot.heat_map(axis, table, "init_scale", "molecules", **look)
    axis.set_xlabel("norm w / w₀")
    axis.invert_yaxis()
    axis.set_ylabel("molecules N")
