"""Draws the measurements as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.timing import Row
from grok_jax import plot

PANELS: Mapping[str, tuple[str, str]] = {
    "steps": ("runs", "ms per run-step"),
    "devices": ("devices", "ms per run-step"),
    "ntk_inputs": ("inputs", "ms per NTK"),
}
"""Benchmark along an axis -> axis labels of its panel."""
BARS: Mapping[str, str] = {
    "gemm": "share of the GEMM bound reached",
    "pytorch": "times as fast as PyTorch, eager",
}
"""Benchmark with a number for each workload -> title of its panel."""


def series(rows: Sequence[Row], benchmark: str) -> dict[str, tuple[list[int], list]]:
    """label -> (positions, values) of the rows named benchmark/label/position."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        first, *label, last = row.name.split("/")
        if first == benchmark and label and last.isdigit() and row.measured:
            found.setdefault("/".join(label), {})[int(last)] = row.measured
    return {
        label: (sorted(values), [values[position] for position in sorted(values)])
        for label, values in found.items()
    }


def single(rows: Sequence[Row], benchmark: str) -> list[Row]:
    """The measured rows named benchmark/workload."""
    return [
        row
        for row in rows
        if row.name.startswith(f"{benchmark}/")
        and row.name.count("/") == 1
        and row.measured is not None
    ]


def draw(rows: Sequence[Row]) -> Any:
    """Draws a panel for each benchmark that has rows; None if no benchmark has any."""
    bars = {name: found for name in BARS if (found := single(rows, name))}
    lines = {name: found for name in PANELS if (found := series(rows, name))}
    count = len(bars) + len(lines)
    if not count:
        return None
    columns = min(count, 3)
    figure, axes = plot.panels(-(-count // columns), columns, 4.2, 3.2)
    places = iter(axes.ravel())
    for name, found in bars.items():
        _bars(next(places), found, BARS[name])
    for name, found in lines.items():
        _lines(next(places), found, *PANELS[name])
    for unused in places:
        unused.set_visible(False)
    return figure


def _bars(axis: Any, rows: Sequence[Row], title: str) -> None:
    """A bar for each workload, with its goal as a line across it."""
    place = np.arange(len(rows))
    axis.barh(place, [row.measured for row in rows], color=plot.TRAIN, height=0.7)
    for y, row in zip(place, rows, strict=True):
        axis.text(row.measured, y, f" {row.measured:.2g}", va="center", fontsize=7)
        if row.goal is not None:
            axis.plot([row.goal] * 2, [y - 0.45, y + 0.45], color=plot.TEST, lw=2)
    axis.set_yticks(place, [row.name.split("/")[1].replace("_", " ") for row in rows])
    axis.invert_yaxis()
    axis.set_title(f"{title} (red: goal)")


def _lines(axis: Any, found: Mapping[str, tuple], x: str, y: str) -> None:
    colors = plot.family_colors(len(found))
    for (label, (places, values)), color in zip(found.items(), colors, strict=True):
        ms = 1e3 * np.asarray(values)
        axis.plot(places, ms, "o-", ms=3, color=color, label=label.replace("_", " "))
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
