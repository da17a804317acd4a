"""The states in which runs have ended: their weights, and what they would go on from.

One file for each set of runs that ended together, states/NAME.npz: the states by the
names of their leaves, [run, ...], the settings that tell the runs apart, and the step.
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
from grok_jax.engine.grid import nest, resolve, short_name
from grok_jax.settings import SettingError

Point = Mapping[str, Any]
"""path -> value of the settings in which a run differs from others of its sweep"""


class Place(NamedTuple):
    """Where the state of a run at a step is: a file, and the row in it."""

    point: Point
    step: int
    path: Path
    row: int


class States:
    """The ended states of a sweep in a folder, as long as they take at most `most`
    bytes in all."""

    def __init__(self, folder: Path, most: float = float("inf")):
        self.folder, self.most = folder, most

    def keep(
        self,
        points: Sequence[Point],
        step: int,
        states: Any,
        say: Callable[[str], None] = print,
    ) -> None:
        """Writes the states [run, ...] of the runs at these points; says so once there
        is no room for them.

        Raises: workdirs.WorkdirError where they cannot be written.
        """
        leaves = tree.flat_names(states)
        told = json.dumps([dict(point) for point in points], default=str)
        path = self.folder / f"{zlib.crc32(told.encode()):08x}_{step}.npz"
        size = sum(leaf.nbytes for leaf in leaves.values())
        with workdirs.reachable(self.folder):
            held = sum(
                each.stat().st_size for each in self._files() if each.name != path.name
            )
        if held + size > self.most:
            say(
                f"The last states of {len(points)} runs are not kept: with them all "
                f"would take more than engine.keep_gb, {self.most / 1e9:g} GB."
            )
            return
        content = io.BytesIO()
        about = json.dumps({"points": json.loads(told), "step": step}).encode()
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
        """Of every run that is kept, each step at which it is."""
        found = []
        with workdirs.reachable(self.folder):
            for path in self._files():
                about = json.loads(bytes(_load(path, ["about"])["about"]))
                own = enumerate(about["points"])
                found += [Place(point, about["step"], path, i) for i, point in own]
        return found

    def read(self, points: Sequence[Point], step: int) -> dict[str, np.ndarray]:
        """The states [run, ...] that the runs at these points have ended with after
        `step` steps, by the names of their leaves.

        Raises: SettingError where one of them is not kept.
        """
        known = {_key(own.point): own for own in self.places() if own.step == step}
        missing = [point for point in points if _key(point) not in known]
        if missing:
            said = ", ".join(f"{short_name(k)} {v}" for k, v in missing[0].items())
            raise SettingError(
                f"The last state of {len(missing)} of {len(points)} runs is not kept "
                f"in {self.folder} ({said or 'the only run'})."
            )
        return _states([known[_key(point)] for point in points])


def _key(point: Point) -> str:
    return json.dumps(dict(point), sort_keys=True, default=str)


def _states(places: Sequence[Place]) -> dict[str, np.ndarray]:
    """The states [run, ...] that lie there, each file read once."""
    whole = {path: _load(path) for path in dict.fromkeys(own.path for own in places)}
    names = [name for name in whole[places[0].path] if name.startswith("state.")]
    return {
        name.removeprefix("state."): np.stack(
            [whole[own.path][name][own.row] for own in places]
        )
        for name in names
    }


def _load(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    try:
        source = io.BytesIO(path.read_bytes()) if remote.is_remote(path) else path
        with np.load(source) as held:
            return {name: held[name] for name in names or held.files}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise workdirs.WorkdirError(f"{path} is damaged: {error}.") from error


def params(workdir: str | Path, **where: Any) -> dict[str, Any]:
    """The parameters of one run at its end, as nested dicts of arrays [...].

    >>> weights = params("runs/k3", seed=0, output_scale=1.0)  # doctest: +SKIP

    Args:
      workdir: a run folder, finished or not; an extension counts when it is finished.
      where: settings that tell the run from the others, by path or a unique ending.

    Raises:
      SettingError: no run or several are there; the sentence says what tells them
        apart.
      workdirs.WorkdirError: a damaged file.
    """
    place = workdirs.Workdir(workdir)
    last = float("inf")
    if place.results.exists():
        last = workdirs.read_results(place.results).step.values[-1]
    kept = [own for own in States(place.states).places() if own.step <= last]
    newest = {_key(own.point): own for own in sorted(kept, key=lambda own: own.step)}
    if not newest:
        raise SettingError(f"No states of ended runs are in {place.states}.")
    names = dict.fromkeys(path for own in newest.values() for path in own.point)
    what = "setting that tells these runs apart,"
    wanted = {resolve(name, names, what): value for name, value in where.items()}
    found = [
        own
        for own in newest.values()
        if all(n in own.point and _same(own.point[n], v) for n, v in wanted.items())
    ]
    if len(found) != 1:
        raise SettingError(_which(found or [*newest.values()], wanted, bool(found)))
    leaves = {
        name.removeprefix("params."): leaf[0]
        for name, leaf in _states(found).items()
        if name.startswith("params.") or name == "params"
    }
    return nest(leaves)


def _same(held: Any, wanted: Any) -> bool:
    both = isinstance(held, (int, float)) and isinstance(
        wanted, (int, float, np.number)
    )
    return bool(np.isclose(held, wanted, rtol=1e-9)) if both else held == str(wanted)


def _which(places: Sequence[Place], wanted: Mapping[str, Any], some: bool) -> str:
    """Why a choice is none, in a sentence."""
    points = [own.point for own in places]
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
