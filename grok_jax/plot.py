"""Results -> matplotlib figures. Drawn from saved results only, on any machine."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

STYLE: Any = {
    "figure.dpi": 120,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "legend.frameon": False,
    "axes.titlesize": 10,
}
TRAIN, TEST, LAZY = "tab:blue", "tab:red", "0.45"


def panels(rows: int, columns: int, width: float = 3.6, height: float = 2.8):
    """(figure, axes [rows, columns]) in the house style, on no screen: whatever backend
    a notebook shows its own figures with stays."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def curves(
    axis: Axes,
    results: xr.Dataset,
    variable: str,
    *,
    over: str = "seed",
    color: Any = None,
    label: str | None = None,
    style: str = "-",
) -> None:
    """The median over `over` as a line, up to where the first run ends, and the range
    of all runs as a band."""
    values = results[variable].dropna("step", how="all")
    steps = values["step"].values
    middle = values.median(over, skipna=False) if over in values.dims else values
    middle = middle.dropna("step")
    axis.plot(
        _shifted(middle["step"].values), middle, style, color=color, label=label, lw=1.4
    )
    if over in values.dims:
        low, high = values.min(over), values.max(over)
        axis.fill_between(_shifted(steps), low, high, color=color, alpha=0.15, lw=0)


def family(
    axis: Axes, results: xr.Dataset, over: str, symbol: str, kind: str = "accuracy"
) -> None:
    """Train (dashed) and test curves of one kind for each value of the axis `over`, on
    a log axis of steps."""
    values = results[over].values
    for value, color in zip(values, family_colors(len(values)), strict=True):
        run = results.sel({over: value})
        curves(axis, run, f"train_{kind}", color=color, style="--")
        label = f"{symbol} = {value:g}"
        curves(axis, run, f"test_{kind}", color=color, label=label)
    log_steps(axis)
    axis.set_ylabel(f"{kind} (dashed: train)")
    axis.legend(fontsize=7)


def losses(
    axis: Axes,
    results: xr.Dataset,
    *,
    test: str = "test_loss",
    style: str = "-",
    suffix: str = "",
) -> None:
    """Train loss and test loss (the variable `test`) on a log axis of steps."""
    for variable, color, name in (
        ("train_loss", TRAIN, "train"),
        (test, TEST, "test"),
    ):
        label = f"{name}{suffix}"
        curves(axis, results, variable, color=color, label=label, style=style)
    log_steps(axis)
    axis.set_ylabel("loss")
    axis.legend(fontsize=7)


def accuracies(axis: Axes, results: xr.Dataset) -> None:
    """Train and test accuracy on a log axis of steps."""
    for name, color in (("train", TRAIN), ("test", TEST)):
        curves(axis, results, f"{name}_accuracy", color=color, label=name)
    log_steps(axis)
    axis.set_ylabel("accuracy")
    axis.set_ylim(-0.03, 1.03)
    axis.legend(fontsize=7)


def landscape(axis: Axes, results: xr.Dataset, *, over: str = "init_scale") -> None:
    """train_loss and test_loss, without a step axis, over the swept norm on log axes:
    the median over seeds as a line, all seeds as a band. A loss of 0 is at 1e-16."""
    for variable, color, label in (
        ("train_loss", TRAIN, "train"),
        ("test_loss", TEST, "test"),
    ):
        values = results[variable].clip(min=1e-16)
        norms = values[over].values
        axis.plot(norms, values.median("seed"), "o-", ms=3, color=color, label=label)
        low, high = values.min("seed"), values.max("seed")
        axis.fill_between(norms, low, high, color=color, alpha=0.15, lw=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    if norms.max() / norms.min() < 30:  # else the minor ticks' labels run together
        axis.set_xticks([], minor=True)
        axis.set_xticks(norms, [f"{norm:g}" for norm in norms])
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel("loss")
    axis.legend(fontsize=7)


def times(axis: Axes, results: xr.Dataset, over: str) -> None:
    """t_train and t_test over a swept setting on log axes: every seed a dot, the
    median a line; a run that never got there is an open triangle at the last step."""
    last = results["step"].values[-1]
    x = results[over].values
    for name, color, label in (
        ("t_train", TRAIN, "train"),
        ("t_test", TEST, "test"),
    ):
        reached = results[name].transpose(over, "seed")
        censored = xr.where(reached.isnull(), float(last), np.nan)
        axis.plot(x, reached, "o", ms=3, color=color)
        axis.plot(x, censored, "^", ms=6, color=color, mfc="none")
        middle = reached.median("seed", skipna=False)
        axis.plot(x, middle, color=color, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(x, [f"{v:g}" for v in x], rotation=45)
    axis.minorticks_off()
    axis.set_xlabel(over.replace("_", " "))
    axis.set_ylabel("step")
    axis.legend(fontsize=7)


def inverse(axis: Axes, x: np.ndarray, through: xr.DataArray) -> None:
    """The line proportional to 1 / x through the median of `through` at the last x."""
    if np.isfinite(middle := float(through.median())):
        axis.plot(x, middle * x[-1] / x, ":", color="0.4", label="1 / x")
        axis.legend(fontsize=7)


def risk_terms(axis: Axes, results: xr.Dataset) -> None:
    """The three terms of a committee's population risk on a log axis of steps."""
    for variable, label, color in (
        ("linear_power", "power in linear modes", "black"),
        ("misalignment_error", "misalignment error", "tab:green"),
        ("variance_error", "variance error", "tab:orange"),
    ):
        curves(axis, results, variable, color=color, label=label)
    log_steps(axis)
    axis.set_ylabel("terms of the risk")
    axis.legend(fontsize=7)


def _shifted(steps: np.ndarray) -> np.ndarray:
    """Step 0 drawn at 0.7, so that it has a place on a log axis."""
    return np.where(steps == 0, 0.7, steps)


def log_steps(axis: Axes, label: str = "step") -> None:
    """Steps on a log axis, where `curves` draws step 0 at 0.7."""
    axis.set_xscale("log")
    axis.set_xlabel(label)


def family_colors(count: int) -> list[Any]:
    """Colours for an ordered family of curves."""
    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0.05, 0.9, count)]


def heat_map(
    figure: Figure,
    axis: Axes,
    values: np.ndarray,
    x: Sequence[float],
    y: Sequence[float],
    *,
    label: str,
    never: str = "not within the run",
    text: Callable[[float], str] = lambda v: f"{v:,.0f}",
) -> None:
    """values [len(y), len(x)] on a log colour scale; NaN (censored) is hatched, zero
    has the colour of the smallest positive value."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (1, 10)
    norm = LogNorm(low, max(high, low * 1.01), clip=True)
    axis.grid(False)
    image = axis.pcolormesh(
        np.arange(len(x) + 1),
        np.arange(len(y) + 1),
        np.maximum(values, low),
        norm=norm,
        cmap="viridis",
    )
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        if np.isfinite(value):
            dark = np.asarray(norm(value)) < 0.6
            axis.text(
                column + 0.5,
                row + 0.5,
                text(value),
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else "black",
            )
        else:
            axis.add_patch(
                Rectangle((column, row), 1, 1, fill=False, hatch="////", ec="0.6", lw=0)
            )
    axis.set_xticks(np.arange(len(x)) + 0.5, [f"{v:g}" for v in x], rotation=45)
    axis.set_yticks(np.arange(len(y)) + 0.5, [f"{v:g}" for v in y])
    if finite.size < values.size:
        axis.set_title(f"hatched: {never}", fontsize=8, color="0.4")
    figure.colorbar(image, ax=axis, label=label)


def save(figure: Figure, path: Any) -> None:
    """Writes the figure as PNG."""
    figure.savefig(path, dpi=150)
