"""The final states of runs: their weights, and what an extension continues from.

There is one file for each set of runs that ended together, states/NAME.npz: the states
by leaf name, [run, ...], the settings that distinguish the runs, and the step.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grok_jax import tree
from grok_jax.engine import remote, workdirs
from grok_jax.engine.grid import label, nest, resolve, short_name
from grok_jax.settings import SettingError

Point = Mapping[str, Any]
"""path -> value of the settings that distinguish a run within its sweep"""


class Place(NamedTuple):
    """The location of the state of a run at a step: a file and a row in it."""

    point: Point
    step: int
    path: Path
    row: int


class States:
    """The final states of a sweep's runs in a folder, of at most `most` bytes in
    total."""

    def __init__(self, folder: Path, most: float = float("inf")):
        self.folder, self.most = folder, most

    def keep(
        self,
        points: Sequence[Point],
        step: int,
        states: Any,
        say: Callable[[str], None] = print,
    ) -> None:
        """Writes the states [run, ...] of the runs at these points, or says that they
        exceed the limit; does nothing where the limit is 0.

        Raises: workdirs.WorkdirError if they cannot be written.
        """
        if not self.most:
            return
        leaves = tree.flat_names(tree.without_keys(states))
        text = json.dumps([_labelled(point) for point in points])
        path = self.folder / f"{zlib.crc32(text.encode()):08x}_{step}.npz"
        size = sum(leaf.nbytes for leaf in leaves.values())
        with workdirs.reachable(self.folder):
            stored = sum(
                file.stat().st_size for file in self._files() if file.name != path.name
            )
        if stored + size > self.most:
            say(
                f"The final states of {len(points)} runs are not kept: the total would "
                f"exceed engine.keep_gb, {self.most / 1e9:g} GB."
            )
            return
        content = io.BytesIO()
        about = json.dumps({"points": json.loads(text), "step": step}).encode()
        np.savez(
            content,
            about=np.frombuffer(about, np.uint8),
            **{f"state.{name}": leaf for name, leaf in leaves.items()},
        )
        if not remote.is_remote(self.folder):
            self.folder.mkdir(exist_ok=True)
        workdirs.write_bytes(path, content.getbuffer())

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz")) if self.folder.is_dir() else []

    def places(self) -> list[Place]:
        """The places of all stored states."""
        found = []
        with workdirs.reachable(self.folder):
            for path in self._files():
                about = json.loads(bytes(_load(path, ["about"])["about"]))
                rows = enumerate(about["points"])
                found += [Place(point, about["step"], path, i) for i, point in rows]
        return found

    def read(self, points: Sequence[Point], step: int) -> dict[str, np.ndarray]:
        """The final states [run, ...], after `step` steps, of the runs at these points,
        by leaf name.

        Raises: SettingError if one of them is not stored.
        """
        known = {_key(p.point): p for p in self.places() if p.step == step}
        missing = [point for point in points if _key(point) not in known]
        if missing:
            said = ", ".join(f"{short_name(k)} {v}" for k, v in missing[0].items())
            raise SettingError(
                f"The final state of {len(missing)} of {len(points)} runs is not kept "
                f"in {self.folder} ({said or 'the only run'})."
            )
        return _states([known[_key(point)] for point in points])


def _key(point: Point) -> str:
    return json.dumps(_labelled(point), sort_keys=True)


def _labelled(point: Point) -> dict[str, Any]:
    return {path: label(value) for path, value in point.items()}


def _states(places: Sequence[Place]) -> dict[str, np.ndarray]:
    """The states [run, ...] at these places; each file is read once."""
    files = {path: _load(path) for path in dict.fromkeys(p.path for p in places)}
    names = [name for name in files[places[0].path] if name.startswith("state.")]
    return {
        name.removeprefix("state."): np.stack(
            [files[place.path][name][place.row] for place in places]
        )
        for name in names
    }


def _load(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    try:
        source = io.BytesIO(path.read_bytes()) if remote.is_remote(path) else path
        with np.load(source) as file:
            return {name: file[name] for name in names or file.files}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise workdirs.WorkdirError(f"{path} is damaged: {error}.") from error


def params(workdir: str | Path, **where: Any) -> dict[str, Any]:
    """The final parameters of one run, as nested dicts of arrays [...].

    >>> weights = params("runs/k3", seed=0, output_scale=1.0)  # doctest: +SKIP

    Args:
      workdir: a run folder, finished or not; an extension counts once it is finished.
      where: settings that distinguish the run, by path or by a unique ending.

    Raises:
      SettingError: no run or several runs match; the message says how they differ.
      workdirs.WorkdirError: a file is damaged.
    """
    place = workdirs.Workdir(workdir)
    if not place.path.exists():
        raise SettingError(f"There is no folder {place.path}.")
    last = float("inf")
    if place.results.exists():
        last = workdirs.read_results(place.results).step.values[-1]
    kept = [p for p in States(place.states).places() if p.step <= last]
    newest = {_key(p.point): p for p in sorted(kept, key=lambda p: p.step)}
    if not newest:
        raise SettingError(f"No states of ended runs are in {place.states}.")
    names = dict.fromkeys(path for p in newest.values() for path in p.point)
    what = "setting that tells these runs apart,"
    wanted = {resolve(name, names, what): value for name, value in where.items()}
    found = [
        p
        for p in newest.values()
        if all(n in p.point and _same(p.point[n], v) for n, v in wanted.items())
    ]
    if len(found) != 1:
        raise SettingError(_which(found or [*newest.values()], wanted, bool(found)))
    leaves = {
        name.removeprefix("params."): leaf[0]
        for name, leaf in _states(found).items()
        if name.startswith("params.") or name == "params"
    }
    return nest(leaves)


def _same(value: Any, wanted: Any) -> bool:
    both = isinstance(value, (int, float)) and isinstance(
        wanted, (int, float, np.number)
    )
    if both:
        return bool(np.isclose(value, wanted, rtol=1e-9))
    return value == str(label(wanted))


def _which(places: Sequence[Place], wanted: Mapping[str, Any], some: bool) -> str:
    """The message for a choice that matches no run or several."""
    points = [place.point for place in places]
    apart = {
        name: sorted({str(point.get(name)) for point in points})
        for name in dict.fromkeys(name for point in points for name in point)
    }
    listed = "; ".join(
        f"{short_name(name)} {', '.join(values[:8])}"
        for name, values in apart.items()
        if len(values) > 1 or not some
    )
    if some:
        return f"{len(places)} runs are there; choose among {listed}."
    said = ", ".join(f"{short_name(name)} {value}" for name, value in wanted.items())
    return f"There is no run with {said}; there are {listed}."
