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
from typing import Any

import numpy as np

from grok_jax import tree
from grok_jax.engine import record, remote
from grok_jax.engine.grid import short_name
from grok_jax.settings import SettingError, nearest

Point = Mapping[str, Any]
"""path -> value of the settings in which a run differs from others of its sweep"""


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

        Raises: record.RecordError where they cannot be written.
        """
        leaves = tree.flat_names(states)
        told = json.dumps([dict(point) for point in points], default=str)
        path = self.folder / f"{zlib.crc32(told.encode()):08x}_{step}.npz"
        size = sum(leaf.nbytes for leaf in leaves.values())
        with record.reachable(self.folder):
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
        record.write_bytes(path, content.getbuffer())

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz")) if self.folder.is_dir() else []

    def places(self) -> list[tuple[dict[str, Any], int, Path, int]]:
        """(settings, step, file, place in it) of every run that is kept, each at the
        last of its steps."""
        found: dict[str, tuple[dict[str, Any], int, Path, int]] = {}
        with record.reachable(self.folder):
            for path in self._files():
                about = json.loads(bytes(_load(path, ["about"])["about"]))
                for place, point in enumerate(about["points"]):
                    key, step = json.dumps(point, sort_keys=True), about["step"]
                    if key not in found or found[key][1] <= step:
                        found[key] = point, step, path, place
        return list(found.values())

    def read(self, points: Sequence[Point]) -> dict[str, np.ndarray]:
        """The states [run, ...] of the runs at these points, by the names of their
        leaves.

        Raises: SettingError where one of them is not kept.
        """
        known = {
            json.dumps(point, sort_keys=True): (path, place)
            for point, _, path, place in self.places()
        }
        keys = [json.dumps(dict(p), sort_keys=True, default=str) for p in points]
        missing = [p for p, key in zip(points, keys, strict=True) if key not in known]
        if missing:
            said = ", ".join(f"{short_name(k)} {v}" for k, v in missing[0].items())
            raise SettingError(
                f"The last state of {len(missing)} of {len(points)} runs is not kept "
                f"in {self.folder} ({said or 'the only run'})."
            )
        whole = {path: _load(path) for path, _ in map(known.__getitem__, keys)}
        rows = [(whole[path], place) for path, place in map(known.__getitem__, keys)]
        names = [name for name in rows[0][0] if name.startswith("state.")]
        return {
            name.removeprefix("state."): np.stack([own[name][at] for own, at in rows])
            for name in names
        }


def _load(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as held:
            return {name: held[name] for name in names or held.files}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise record.RecordError(f"{path} is damaged: {error}.") from error


def params(workdir: str | Path, **where: Any) -> dict[str, Any]:
    """The parameters of one run at its end, as nested dicts of arrays [...].

    >>> weights = params("runs/k3", seed=0, output_scale=1.0)  # doctest: +SKIP

    Args:
      workdir: a run folder, finished or not.
      where: settings that tell the run from the others, by path or a unique ending.

    Raises:
      SettingError: no run or several are there; the sentence says what tells them
        apart.
      record.RecordError: a damaged file.
    """
    folder = record.Workdir(workdir).states
    places = States(folder).places()
    if not places:
        raise SettingError(f"No states of ended runs are in {folder}.")
    names = {path for point, *_ in places for path in point}
    wanted = {_full(name, names): value for name, value in where.items()}
    own = [
        place
        for place in places
        if all(
            name in place[0] and _same(place[0][name], v) for name, v in wanted.items()
        )
    ]
    if len(own) != 1:
        raise SettingError(_which(own or places, wanted, bool(own)))
    point = own[0][0]
    leaves = {
        name.removeprefix("params."): leaf[0]
        for name, leaf in States(folder).read([point]).items()
        if name.startswith("params.") or name == "params"
    }
    return _nested(leaves)


def _full(name: str, known: set[str]) -> str:
    found = [path for path in known if path == name or path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    raise SettingError(
        f"The setting {name!r} could be {' or '.join(sorted(found))}."
        if found
        else f"The runs do not differ in {name!r}; {nearest(name, known)}."
    )


def _same(held: Any, wanted: Any) -> bool:
    both = isinstance(held, (int, float)) and isinstance(
        wanted, (int, float, np.number)
    )
    return bool(np.isclose(held, wanted, rtol=1e-9)) if both else held == str(wanted)


def _which(places: Sequence[Any], wanted: Mapping[str, Any], some: bool) -> str:
    """Why a choice is none, in a sentence."""
    points = [point for point, *_ in places]
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


def _nested(leaves: Mapping[str, np.ndarray]) -> Any:
    nested: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *above, last = name.split(".")
        at = nested
        for key in above:
            at = at.setdefault(key, {})
        at[last] = leaf
    return nested
