"""curves.json: the curves of a sweep while it runs, for `grok-jax watch`.

It has train and test curves of at most `MOST` runs, spread over the grid, and is
written now and then; results.nc replaces it when the sweep is complete. Writing it
changes no result: if it fails, that is said once and the sweep goes on.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from grok_jax.engine import remote, workdirs
from grok_jax.engine.grid import short_name
from grok_jax.engine.measured import Records
from grok_jax.engine.programs import Plan

MOST = 40
SHOWN = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


class Run(NamedTuple):
    """The curves of one run."""

    place: Mapping[str, Any]  # axis -> value
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]  # name -> (steps, values)


class Curves:
    """Keeps curves.json in a workdir."""

    def __init__(
        self, workdir: workdirs.Workdir, plan: Plan, say: Callable[[str], None]
    ):
        self._path, self._say = path(workdir), say
        points = plan.grid.runs()
        self._runs = len(points)
        chosen = np.linspace(0, self._runs - 1, min(self._runs, MOST)).round()
        self._places = {int(number): named(points[int(number)]) for number in chosen}
        self._kept: dict[int, dict[str, dict[int, float]]] = {}
        self._pause = 10.0 if remote.is_remote(workdir.path) else 4.0
        self._wrote, self._failed, self._new = -1e9, False, False

    def add(self, new: Records) -> None:
        """Takes new records, and writes the file if that was long ago."""
        names = [name for name in SHOWN if name in new.curves]
        for row, number in enumerate(map(int, new.runs)):
            if number in self._places:
                kept = self._kept.setdefault(number, {})
                for name in names:
                    values = new.curves[name][row]
                    pairs = zip(new.steps, values, strict=True)
                    kept.setdefault(name, {}).update(
                        {int(s): float(f"{v:.5g}") for s, v in pairs if np.isfinite(v)}
                    )
        self._new = True
        if time.monotonic() - self._wrote >= self._pause:
            self.write()

    def write(self) -> None:
        """Writes the file, if there is something new."""
        if self._failed or not self._new:
            return
        runs = [
            {"place": self._places[number], "curves": _as_lists(curves)}
            for number, curves in sorted(self._kept.items())
        ]
        content = {"runs": self._runs, "shown": runs}
        try:
            workdirs.write_json(self._path, content, indent=None)
        except workdirs.WorkdirError as error:
            self._failed = True
            self._say(f"{error} It is left out; the sweep goes on.")
        self._wrote, self._new = time.monotonic(), False

    def remove(self) -> None:
        """Removes the file: the results are complete."""
        workdirs.remove(self._path)


def _as_lists(
    curves: Mapping[str, Mapping[int, float]],
) -> dict[str, tuple[list[int], list[float]]]:
    return {name: ([*pairs], [*pairs.values()]) for name, pairs in curves.items()}


def path(workdir: workdirs.Workdir) -> Path:
    """Where the curves of a running sweep are kept."""
    return workdir.path / "curves.json"


def named(point: Mapping[str, Any]) -> dict[str, Any]:
    """The values that distinguish a run, by the names of the axes."""
    return {short_name(path): value for path, value in point.items()}


def read(workdir: workdirs.Workdir) -> tuple[int, list[Run]]:
    """(number of all runs, those with curves) from curves.json; (0, []) without it."""
    place = path(workdir)
    if not place.exists():
        return 0, []
    content = workdirs.read_json(place)
    runs = [
        Run(
            each["place"],
            {n: (np.array(s), np.array(v)) for n, (s, v) in each["curves"].items()},
        )
        for each in content["shown"]
    ]
    return content["runs"], runs


def of_results(results: xr.Dataset) -> list[Run]:
    """The curves of all runs of complete results; one that ended early keeps its last
    value."""
    names = [name for name in SHOWN if name in results]
    dims = [dim for dim in results[names[0]].dims if dim != "step"]
    steps = results.step.values
    arrays = {
        name: _held(results[name].transpose(*dims, "step").values, len(steps))
        for name in names
    }
    shape = tuple(results.sizes[dim] for dim in dims)
    axes = [results[dim].values.tolist() for dim in dims]
    return [
        Run(
            {str(d): axis[i] for d, axis, i in zip(dims, axes, at, strict=True)},
            {name: (steps, values[row]) for name, values in arrays.items()},
        )
        for row, at in enumerate(np.ndindex(*shape))
    ]


def _held(values: np.ndarray, steps: int) -> np.ndarray:
    """Curves [..., S] as [n, S], with the last value in place of later gaps."""
    lines = values.reshape(-1, steps)
    last = np.maximum.accumulate(np.where(np.isfinite(lines), np.arange(steps), 0), 1)
    return np.take_along_axis(lines, last, axis=1)


def median(runs: Iterable[Run], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, the median at each over the runs measured there).

    >>> one = Run({}, {"loss": (np.array([0, 1]), np.array([4.0, 2.0]))})
    >>> two = Run({}, {"loss": (np.array([0]), np.array([6.0]))})
    >>> [values.tolist() for values in median([one, two], "loss")]
    [[0, 1], [5.0, 2.0]]
    """
    found: dict[int, list[float]] = {}
    for run in runs:
        for step, value in zip(*run.curves.get(name, ((), ())), strict=True):
            if np.isfinite(value):
                found.setdefault(int(step), []).append(float(value))
    steps = sorted(found)
    values = [float(np.median(found[step])) for step in steps]
    return np.array(steps, int), np.array(values)


# --- drawn with characters ------------------------------------------------------------

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""The bits of a braille character, by row and column of its eight dots."""


class Canvas(NamedTuple):
    """Lines of characters, the number of the curve that each shows (-1: none), and the
    texts at the axes."""

    rows: list[str]
    curve: np.ndarray  # [height, width]
    top: str
    bottom: str
    left: str
    right: str


def draw(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    width: int,
    height: int,
    log_y: bool = False,
    plain: bool = False,
) -> Canvas | None:
    """Draws (steps, values) of each curve over log(1 + step), later ones on top; None
    without a point to draw.

    Args:
      width: in characters, and so is `height`.
      log_y: draws the logarithm of positive values.
      plain: in ASCII and not in braille.
    """
    points = [_points(*curve, log_y) for curve in curves]
    drawn = np.concatenate([*points, np.zeros((0, 2))])
    if not len(drawn):
        return None
    (left, low), (right, high) = drawn.min(0), drawn.max(0)
    down, across = (1, 1) if plain else (4, 2)
    size = np.array([width * across - 1, height * down - 1])
    span = np.where(
        np.array([right - left, high - low]) > 0, drawn.max(0) - [left, low], 1
    )
    cells = np.zeros((height, width), int)
    owner = np.full((height, width), -1)
    for number, each in enumerate(points):
        for x, y in _line((each - [left, low]) / span * size):
            row, column = divmod(int(size[1]) - y, down), divmod(x, across)
            cells[row[0], column[0]] |= _DOTS[row[1], column[1]]
            owner[row[0], column[0]] = number
    signs = "ox+*#@"
    rows = [
        "".join(
            " " if own < 0 else signs[own % 6] if plain else chr(0x2800 + cell)
            for cell, own in zip(*line, strict=True)
        )
        for line in zip(cells, owner, strict=True)
    ]
    ends = (10**high, 10**low) if log_y else (high, low)
    steps = (f"{np.expm1(x):.0f}" for x in (left, right))
    return Canvas(rows, owner, *(f"{value:.3g}" for value in ends), *steps)


def _points(steps: np.ndarray, values: np.ndarray, log_y: bool) -> np.ndarray:
    """[n, 2] of log(1 + step) and the value or its logarithm, where there is one."""
    values = np.asarray(values, float)
    good = np.isfinite(values) & ((values > 0) | (not log_y))
    ys = np.log10(values[good]) if log_y else values[good]
    return np.stack([np.log1p(np.asarray(steps, float)[good]), ys], axis=1)


def _line(points: np.ndarray) -> Iterable[tuple[int, int]]:
    """The dots of the line through these points."""
    for start, end in zip(points, [*points[1:], *points[-1:]], strict=True):
        count = int(np.abs(end - start).max()) + 1
        for share in np.linspace(0, 1, count + 1):
            x, y = np.round(start + share * (end - start)).astype(int)
            yield int(x), int(y)
