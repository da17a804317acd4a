"""Matplotlib figures, drawn from saved results alone, on any machine."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatterSciNotation, LogLocator

from grok_jax.settings import words

STYLE: Any = {
    "figure.dpi": 120,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 10,
}
TRAIN, TEST = "tab:blue", "tab:red"
SPLITS = (("train", TRAIN), ("test", TEST))
NAMED = 7
"""The most lines of a family that a legend names."""


def house_style() -> AbstractContextManager[None]:
    """A context with the house style. Titles and colour bars take their size when they
    are drawn, so draw panels within it, not only create them."""
    return matplotlib.rc_context(STYLE)


def panels(rows: int, columns: int, width: float = 3.6, height: float = 2.8):
    """(figure, axes [rows, columns]) in the house style, without pyplot: the backend
    that a notebook uses is not changed."""
    with house_style():
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def held(curve: xr.DataArray) -> xr.DataArray:
    """The curve [..., step] with each stopped run continued at its last finite value,
    so that a median over runs extends to the last step of all runs."""
    end = curve.step.where(np.isfinite(curve)).max("step")
    return curve.where(~(curve.step > end), curve.where(curve.step == end).max("step"))


def curves(
    axis: Axes,
    results: xr.Dataset,
    variable: str,
    *,
    over: str = "seed",
    color: Any = None,
    label: str | None = None,
    style: str = "-",
    share: bool = False,
    each: bool = False,
) -> None:
    """Draws the median of a variable [over, step] over the axis `over` as a line and
    the range of all runs as a band; a stopped run counts with its last value. `each`
    draws every run as a line up to its end instead, the first one bold: the median of a
    few crossing curves has kinks that no run has. `share` divides by the start.

    Raises: ValueError if the variable has another axis.
    """
    values = results[variable].dropna("step", how="all")
    more = [str(dim) for dim in values.dims if dim not in (over, "step")]
    if more:
        raise ValueError(
            f"{variable} has the axis {more[0]} too; choose a value of it first: "
            f"results.sel({more[0]}=...)."
        )
    if share:
        values = values / values.isel(step=0, drop=True)

    def line(run: xr.DataArray, color: Any, **options: Any) -> Any:
        run = run.dropna("step")
        x = _shifted(run["step"].values)
        return axis.plot(x, run, style, color=color, **options)[0].get_color()

    if over not in values.dims:
        line(values, color, label=label, lw=1.4)
    elif each:
        first, *others = values.transpose(over, "step")
        color = line(first, color, label=label, lw=1.8)
        for run in others:
            line(run, color, lw=0.6, alpha=0.6)
    else:
        values = held(values)
        color = line(values.median(over, skipna=False), color, label=label, lw=1.4)
        x, low, high = values["step"].values, values.min(over), values.max(over)
        axis.fill_between(_shifted(x), low, high, color=color, alpha=0.15, lw=0)


def family(
    axis: Axes,
    results: xr.Dataset,
    over: str,
    symbol: str = "",
    kind: str = "accuracy",
    *,
    dashed: str | None = None,
    label: str | None = None,
    share: bool = False,
    log: bool = False,
    each: bool = False,
) -> None:
    """Draws the variable `kind` for each value on the axis `over`, against log steps,
    and the variable `dashed` as dashed lines. The kinds `accuracy` and `loss` stand for
    the test value and, dashed, the train value. `share` and `each` are as in `curves`,
    `log` as in `losses`. The legend shows "symbol = value", or only the value, of at
    most `NAMED` lines, the first and the last among them."""
    solid = kind
    if kind in ("accuracy", "loss"):
        solid, dashed = f"test_{kind}", f"train_{kind}"
    values = results[over].values
    last = len(values) - 1
    named = np.linspace(0, last, min(len(values), NAMED)).round().astype(int)
    for i, color in enumerate(family_colors(len(values))):
        run, value = results.isel({over: i}), _format(values[i])
        name = (f"{symbol} = {value}" if symbol else value) if i in named else None
        options: dict[str, Any] = dict(color=color, share=share, each=each)
        if dashed:
            curves(axis, run, dashed, style="--", **options)
        curves(axis, run, solid, label=name, **options)
    default = words(kind) + " / start" * share
    if dashed:
        note = "train" if dashed.startswith("train_") else words(dashed)
        space = "\n" if len(default + note) > 20 else " "  # two lines if too long
        default += f"{space}(dashed: {note})"
    _finish(axis, label or default, log)


def losses(
    axis: Axes,
    results: xr.Dataset,
    *,
    test: str = "test_loss",
    style: str = "-",
    suffix: str = "",
    log: bool = False,
    each: bool = False,
) -> None:
    """Draws train loss and test loss (the variable `test`) against log steps; `log`:
    with a log axis for the losses too."""
    for variable, (name, color) in zip(("train_loss", test), SPLITS, strict=True):
        look: dict[str, Any] = dict(color=color, label=f"{name}{suffix}", style=style)
        curves(axis, results, variable, each=each, **look)
    _finish(axis, "loss", log)


def accuracies(axis: Axes, results: xr.Dataset, *, each: bool = False) -> None:
    """Draws train and test accuracy against log steps."""
    for name, color in SPLITS:
        curves(axis, results, f"{name}_accuracy", color=color, label=name, each=each)
    axis.set_ylim(-0.03, 1.03)
    _finish(axis, "accuracy")


def levels(
    axis: Axes, values: Any, *, label: str | None = None, color: Any = "0.4"
) -> None:
    """Draws a dotted horizontal line at each finite value of an array of any shape."""
    heights = np.unique(np.asarray(values, float))
    for height in heights[np.isfinite(heights)]:
        axis.axhline(height, color=color, ls=":", lw=1, label=label)
        label = None  # one legend entry for all lines
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)


def landscape(
    axis: Axes,
    results: xr.Dataset,
    *,
    kind: str = "loss",
    floor: float = 1e-16,
) -> None:
    """Draws train_loss and test_loss (no step axis) against the swept norm on log axes:
    the median over seeds as a line, their range as a band; losses clipped at `floor`.
    The kind "error" draws train_error and test_error, on a linear axis."""
    for label, color in SPLITS:
        values = results[f"{label}_{kind}"]
        values = values.clip(min=floor) if kind == "loss" else values
        norms = values["init_scale"].values
        axis.plot(norms, values.median("seed"), "o-", ms=3, color=color, label=label)
        low, high = values.min("seed"), values.max("seed")
        axis.fill_between(norms, low, high, color=color, alpha=0.15, lw=0)
    axis.set_xscale("log")
    if kind == "loss":
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    own_ticks(axis.xaxis, norms)
    axis.set_xlabel("norm w / w₀")
    axis.set_ylabel(kind)
    axis.legend(fontsize=7)


def own_ticks(axis: Axis, values: np.ndarray) -> None:
    """Ticks of a log axis at the values themselves where they span little: there labels
    of minor ticks would overlap."""
    if values.max() / values.min() < 30:
        axis.set_ticks([], minor=True)
        axis.set_ticks(values, [f"{value:g}" for value in values])


def times(
    axis: Axes, results: xr.Dataset, over: str, *, law: float | None = None
) -> None:
    """Draws t_train and t_test against a swept setting on log axes: a dot per seed, a
    line for the median, and an open triangle at the end of a run that never got there.
    With `law`, also a line for t_test as that power of `over` (`slope`)."""
    seen = np.isfinite(results.get("train_loss", results["step"]))
    ends = results["step"].where(seen).max("step")
    x = results[over].values
    for label, color in SPLITS:
        reached = results[f"t_{label}"].transpose(over, "seed")
        never = ends.where(reached.isnull()).transpose(over, "seed")
        axis.plot(x, reached, "o", ms=3, color=color)
        axis.plot(x, never, "^", ms=6, color=color, mfc="none")
        axis.plot(x, reached.median("seed", skipna=False), color=color, label=label)
    if law is not None:
        slope(axis, results["t_test"], over, law)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([], minor=True)
    axis.set_xticks(x, [f"{v:g}" for v in x], rotation=45)
    axis.set_xlabel(words(over))
    axis.set_ylabel("step")
    axis.legend(fontsize=7)


def slope(axis: Axes, values: xr.DataArray, over: str, exponent: float) -> None:
    """Draws a dotted line proportional to `over` to the `exponent`, with as many of
    the medians of the values [over, ...] that are known above it as below."""
    x = values[over].values
    lines = values.transpose(over, ...).values.reshape(len(x), -1)
    known = np.isfinite(lines).all(axis=1)
    if known.any():
        factor = np.median(np.median(lines[known], axis=1) / x[known] ** exponent)
        line = factor * x**exponent
        axis.plot(x, line, ":", color="0.4", label=f"slope {exponent:g}")


def censored(
    axis: Axes,
    values: xr.DataArray,
    cap: float,
    *,
    label: str = "",
    log: bool = False,
) -> None:
    """Draws a row for each arm of values [arm, ...], from the top: a dot per run, or an
    open triangle at the cap where its value is NaN or infinite. The runs of a row are
    offset vertically so that none hides another."""
    names = [_format(name) for name in values["arm"].values]
    lines = values.transpose("arm", ...).values.reshape(len(names), -1)
    offsets = np.linspace(-0.12, 0.12, lines.shape[1]) if lines.shape[1] > 1 else [0.0]
    rows, known = np.add.outer(np.arange(len(names)), offsets), np.isfinite(lines)
    axis.plot(lines[known], rows[known], "o", ms=4, color=TEST)
    caps = np.full_like(rows[~known], cap)
    axis.plot(caps, rows[~known], "^", ms=6, mfc="none", color=TEST)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_ylim(len(names) - 0.5, -0.5)
    if log:
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        every = LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf))
        axis.xaxis.set_major_formatter(every)
        axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(label)


def risk_terms(axis: Axes, results: xr.Dataset, *, each: bool = False) -> None:
    """Draws the three terms of a committee's population risk against log steps; `each`
    as in `curves`."""
    for variable, label, color in (
        ("linear_power", "power in linear modes", "black"),
        ("misalignment_error", "misalignment error", "tab:green"),
        ("variance_error", "variance error", "tab:orange"),
    ):
        curves(axis, results, variable, color=color, label=label, each=each)
    _finish(axis, "terms of the risk")


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, np.number) else str(value)


def _finish(axis: Axes, label: str, log: bool = False) -> None:
    """Sets the axes, label and legend of curves over steps once all are drawn."""
    log_steps(axis)
    if log:
        axis.set_yscale("log")
    axis.set_ylabel(label)
    axis.legend(fontsize=7)


def _shifted(steps: np.ndarray) -> np.ndarray:
    """The steps with step 0 moved to 0.7, so that a log axis can show it."""
    return np.where(steps == 0, 0.7, steps)


def log_steps(axis: Axes, label: str = "step") -> None:
    """Sets a log x axis of steps; `curves` draws step 0 at 0.7."""
    axis.set_xscale("log")
    axis.set_xlabel(label)


def family_colors(count: int) -> list[Any]:
    """`count` colours for an ordered family of curves."""
    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0.05, 0.9, count)]


def _in_cell(value: float, narrow: bool) -> str:
    """A number for a cell: of narrow ones thousands are shortened.

    >>> _in_cell(22401.0, False), _in_cell(22401.0, True), _in_cell(558.2, True)
    ('22,401', '22k', '558')
    """
    return f"{value / 1000:.2g}k" if narrow and value >= 999.5 else f"{value:,.0f}"


def cells(
    axis: Axes,
    values: xr.DataArray,
    x: str,
    y: str,
    *,
    label: str = "",
    never: str = "not within the run",
    norm: Normalize | None = None,
) -> None:
    """Draws values [x, y] as cells, each with its number; NaN (censored) is hatched.
    Without a `norm` the colour scale is logarithmic, and zero has the colour of the
    smallest positive value; of counts it is Normalize(0, most). The colour bar shows
    `label` and, if cells are hatched, what they `never` did."""
    table = values.transpose(y, x).values
    known = np.isfinite(table)
    positive = table[known & (table > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1, 10)
    shown = table if norm else np.maximum(table, low)
    norm = norm or LogNorm(low, max(high, low * 1.01), clip=True)
    axis.grid(False)
    image = axis.pcolormesh(shown, norm=norm, cmap="viridis")
    for row, column in np.ndindex(table.shape):
        value = float(table[row, column])
        if known[row, column]:
            color = "white" if np.asarray(norm(value)) < 0.6 else "black"
            look: dict[str, Any] = dict(ha="center", va="center", fontsize=6.5)
            text = _in_cell(value, table.shape[1] > 7)
            axis.text(column + 0.5, row + 0.5, text, color=color, **look)
        else:
            axis.add_patch(
                Rectangle((column, row), 1, 1, fill=False, hatch="////", ec="0.6", lw=0)
            )
    names = {dim: [_format(v) for v in values[dim].values] for dim in (x, y)}
    axis.set_xticks(np.arange(len(names[x])) + 0.5, names[x], rotation=45)
    axis.set_yticks(np.arange(len(names[y])) + 0.5, names[y])
    axis.set_xlabel(words(x))
    axis.set_ylabel(words(y))
    bar = axis.figure.colorbar(image, ax=axis)
    bar.set_label(label if known.all() else f"{label}\nhatched: {never}", fontsize=8)


def heat_map(
    axis: Axes,
    values: xr.DataArray,
    x: str,
    y: str,
    *,
    norm: Normalize | None = None,
    levels: Sequence[float] = (),
    points: Mapping[str, tuple[float, float]] | None = None,
    log: str = "",
    label: str = "",
) -> None:
    """Draws values [x, y] as a surface over both axes, coloured smoothly between them,
    with a dashed contour at each of the `levels` and a letter at each of the `points`
    (letter -> place). `log` names the log axes: "x", "y", "xy" or none."""
    table = np.ma.masked_invalid(values.transpose(y, x).values)
    at = (values[x].values, values[y].values)
    axis.grid(False)
    image = axis.pcolormesh(*at, table, norm=norm, cmap="Reds", shading="gouraud")
    if "x" in log:
        axis.set_xscale("log")
        own_ticks(axis.xaxis, at[0])
    if "y" in log:
        axis.set_yscale("log")
        own_ticks(axis.yaxis, at[1])
    crossed = [level for level in levels if table.min() < level < table.max()]
    if crossed:
        lines = axis.contour(*at, table, crossed, colors="0.3", linestyles="dashed")
        axis.clabel(lines, fontsize=6, fmt="%g")
    for letter, place in (points or {}).items():
        axis.plot(*place, "o", color="black", ms=4, clip_on=False)
        beside, ha = (-5, "right") if place[0] > 0.9 * at[0].max() else (5, "left")
        edge = place[1] in (at[1].min(), at[1].max())  # not into a title or the ticks
        look: dict[str, Any] = dict(textcoords="offset points", ha=ha, va="center")
        axis.annotate(letter, place, xytext=(beside, 0 if edge else 6), **look)
    axis.set_xlabel(words(x))
    axis.set_ylabel(words(y))
    axis.figure.colorbar(image, ax=axis).set_label(label, fontsize=8)


def description(figure: Figure) -> str:
    """What a figure shows, in words, for who cannot see it: of each panel its title,
    axes, colours and the names of its lines.

    >>> figure, axes = panels(1, 1)
    >>> _ = axes[0, 0].plot([0, 1], label="train")
    >>> _ = axes[0, 0].set(title="K9", xlabel="step", ylabel="loss")
    >>> description(figure)
    'K9: loss against step (train)'
    """
    said = []
    for axis in figure.axes:
        if axis.get_label() == "<colorbar>":
            continue
        axes = " against ".join(filter(None, (axis.get_ylabel(), axis.get_xlabel())))
        panel = ": ".join(filter(None, (axis.get_title(), axes)))
        lines = ", ".join(axis.get_legend_handles_labels()[1])
        bars = [each.colorbar for each in (*axis.collections, *axis.images)]
        colours = [bar.ax.get_ylabel() for bar in bars if bar is not None]
        panel += f" ({lines})" if lines else ""
        said.append(panel + "".join(f", colour: {name}" for name in colours if name))
    return " ".join("; ".join(filter(None, said)).split())


def save(figure: Figure, path: Any) -> None:
    """Writes the figure as PNG, with its description in it."""
    figure.savefig(path, dpi=150, metadata={"Description": description(figure)})
