"""The curves of a sweep while it runs: for its own display and, in curves.json, for
`grok-jax watch`.

They are train and test curves of at most `MOST` runs, spread over the grid. The file is
written now and then; results.nc replaces it when the sweep is complete. Writing it
changes no result: if it fails, that is said once and the sweep goes on.
"""

import time
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from grok_jax.delay.evidence import EVIDENCE
from grok_jax.engine import remote, workdirs
from grok_jax.engine.grid import label, short_name
from grok_jax.engine.measured import Records
from grok_jax.engine.programs import Plan
from grok_jax.train import ALWAYS

MOST = 40


class Run(NamedTuple):
    """The curves of one run."""

    place: Mapping[str, Any]  # axis -> value
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]  # name -> (steps, values)


def kept_names(names: Container[Any]) -> list[str]:
    """The curves that are kept of those at hand: the ones of every run and, where
    `delay.evidence` is observed, what the delay is foretold from."""
    evidence = EVIDENCE if "laziness" in names else ()
    return [name for name in (*ALWAYS, *evidence) if name in names]


class Curves:
    """Keeps the curves of a sweep, and curves.json if there is a workdir."""

    def __init__(
        self,
        workdir: workdirs.Workdir | None,
        plan: Plan,
        say: Callable[[str], None],
    ):
        self._path, self._say = workdir and path(workdir), say
        points = plan.grid.runs()
        own = sorted(number for group in plan.groups() for number in group.members)
        self._runs = len(own)
        chosen = np.linspace(0, self._runs - 1, min(self._runs, MOST)).round()
        self._places = {own[i]: named(points[own[i]]) for i in chosen.astype(int)}
        self._kept: dict[int, dict[str, dict[int, float]]] = {}
        self._pause = 10.0 if self._path and remote.is_remote(self._path) else 4.0
        self._wrote, self._failed, self._new = -1e9, False, False

    def add(self, new: Records) -> None:
        """Takes new records, and writes the file if that was long ago."""
        names = kept_names(new.curves)
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
        if self._path is None or self._failed or not self._new:
            return
        content = {
            "runs": self._runs,
            "shown": [
                {
                    "place": run.place,
                    "curves": {
                        name: (steps.tolist(), values.tolist())
                        for name, (steps, values) in run.curves.items()
                    },
                }
                for run in self.runs()
            ],
        }
        try:
            workdirs.write_json(self._path, content, indent=None)
        except workdirs.WorkdirError as error:
            self._failed = True
            self._say(f"{error} It is left out; the sweep goes on.")
        self._wrote, self._new = time.monotonic(), False

    def runs(self) -> list[Run]:
        """The curves so far."""
        return [
            Run(
                self._places[number],
                {
                    name: (np.array([*pairs]), np.array([*pairs.values()]))
                    for name, pairs in curves.items()
                },
            )
            for number, curves in sorted(self._kept.items())
        ]


def path(workdir: workdirs.Workdir) -> Path:
    """Where the curves of a running sweep are kept."""
    return workdir.path / "curves.json"


def remove(workdir: workdirs.Workdir) -> None:
    """Removes the file: the results are complete."""
    workdirs.remove(path(workdir))


def named(point: Mapping[str, Any]) -> dict[str, Any]:
    """The values that distinguish a run, by the names of the axes."""
    return {short_name(path): label(value) for path, value in point.items()}


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
    names = kept_names(results)
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
