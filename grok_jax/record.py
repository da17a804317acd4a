"""The run folder: config.json, results.nc, claims.json. Every file appears whole."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from grok_jax.grid import Grid


class RecordError(RuntimeError):
    """The run folder cannot be read or written, or belongs to something else."""


class Workdir:
    """One run's folder and the names in it."""

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        self.config = self.path / "config.json"
        self.results = self.path / "results.nc"
        self.claims = self.path / "claims.json"
        self.progress = self.path / "progress.json"
        self.figures = self.path / "figures"
        self.checkpoints = self.path / "checkpoints"

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raises RecordError unless this folder is new or holds this very config."""
        try:
            started = self.config.exists()
        except OSError as error:  # a name too long, a folder that may not be entered
            raise RecordError(
                f"The workdir {self.path} cannot be read: {error.strerror}."
            ) from error
        if started:
            held = read_json(self.config)["config"]
            if held != _as_json(settings):
                keys = sorted(held.keys() | settings.keys())
                mine = _as_json(settings)
                differ = [key for key in keys if held.get(key) != mine.get(key)]
                raise RecordError(
                    f"{self.path} holds another config (it differs in "
                    f"{', '.join(differ[:6])}{', ...' if len(differ) > 6 else ''}); "
                    "nothing was touched. Give another --workdir."
                )
        elif self.path.is_dir() and any(map(self._is_foreign, self.path.iterdir())):
            raise RecordError(
                f"{self.path} is not empty and holds no config.json; nothing was "
                "touched. Give an empty or new --workdir."
            )
        elif self.path.exists() and not self.path.is_dir():
            raise RecordError(f"{self.path} is a file; give a folder as --workdir.")

    def _is_foreign(self, path: Path) -> bool:
        """Not hidden, and not left by a launch that was killed before its config."""
        own = path in (self.figures, self.checkpoints) and path.is_dir()
        return not (path.name.startswith(".") or (own and not any(path.iterdir())))

    def create(self) -> None:
        """Makes the folder; raises RecordError where that is not allowed."""
        try:
            self.figures.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            probe = self.path / ".writable"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise RecordError(
                f"The workdir {self.path} cannot be written: {error.strerror}."
            ) from error

    def make(self, name: str) -> None:
        """Makes a folder in it, unless it is there."""
        (self.path / name).mkdir(exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process alone; a second one is refused."""
        with open(self.path / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RecordError(
                    f"Another launch is running in {self.path}; wait for it to end."
                ) from error
            yield


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def write_json(path: Path, content: Any) -> None:
    """Writes `content` so that a reader finds the old file or the new one, whole."""
    _replace(
        path, lambda part: part.write_text(json.dumps(content, indent=1, default=str))
    )


def read_json(path: Path) -> Any:
    """Raises RecordError where `path` is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is missing or not readable: {error}.") from error


def write_results(path: Path, results: xr.Dataset) -> None:
    """Writes results.nc (netCDF4).

    Made in memory first: HDF5 ends the whole process where a disk is full.
    """
    content: Any = results.to_netcdf(engine="h5netcdf")
    _replace(path, lambda part: part.write_bytes(content))


def read_results(path: Path) -> xr.Dataset:
    """Reads results.nc into memory.

    Raises:
      RecordError: the file is missing, truncated or not netCDF4.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as results:
            return results.load()
    except FileNotFoundError as error:
        raise RecordError(f"{path} is missing.") from error
    except Exception as error:  # h5netcdf raises many kinds for a damaged file
        raise RecordError(f"{path} is truncated or not a netCDF4 file.") from error


def _replace(path: Path, write: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RecordError(
            f"{path} could not be written: {error.strerror or error}; the file that "
            "was there is whole."
        ) from error


def assemble(
    grid: Grid,
    members: Sequence[Sequence[int]],
    steps: Sequence[np.ndarray],
    records: Sequence[Mapping[str, np.ndarray]],
    per_step: Sequence[set[str]],
) -> xr.Dataset:
    """The records of all groups as one dataset with dimensions (axes..., step).

    Args:
      members: for each group its run numbers.
      steps: for each group the steps of its records [S_g].
      records: for each group name -> [members, S_g, ...] or [members, ...].
      per_step: for each group the names that have a step axis.

    Steps are the union over groups; what a group did not record is NaN, and so is what
    an array lacks beside the largest of its name.
    """
    shapes = _largest_shapes(records, per_step)
    union = np.unique(np.concatenate(steps)) if len(steps) else np.zeros(0, int)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for numbers, own_steps, record, stepped in zip(
        members, steps, records, per_step, strict=True
    ):
        columns = np.searchsorted(union, own_steps)
        for name, values in record.items():
            has_steps = name in stepped
            rest = values.shape[2 if has_steps else 1 :]
            filled = tuple(slice(length) for length in rest)
            extra = tuple(f"{name}_{i}" for i in range(len(rest)))
            dims = (*grid.dims, *(("step",) if has_steps else ()), *extra)
            if name not in variables:
                length = (len(union),) if has_steps else ()
                whole = (len(grid), *length, *shapes[name])
                blank = np.full(whole, np.nan, values.dtype)
                variables[name] = (dims, blank)
            target = variables[name][1]
            if has_steps:
                target[(*np.ix_(np.asarray(numbers), columns), *filled)] = values
            else:
                target[(list(numbers), *filled)] = values
    data = {
        name: (dims, values.reshape((*grid.shape, *values.shape[1:])))
        for name, (dims, values) in variables.items()
    }
    coordinates: dict[str, Any] = {"step": ("step", union)}
    for name, (dim, values) in grid.coordinates().items():
        coordinates[name] = (dim, values)
    return xr.Dataset(data, coords=coordinates)


def _largest_shapes(
    records: Sequence[Mapping[str, np.ndarray]], per_step: Sequence[set[str]]
) -> dict[str, tuple[int, ...]]:
    """name -> the longest of its axes beside runs and steps, over all groups."""
    shapes: dict[str, tuple[int, ...]] = {}
    for record, stepped in zip(records, per_step, strict=True):
        for name, values in record.items():
            rest = values.shape[2 if name in stepped else 1 :]
            longest = zip(shapes.get(name, rest), rest, strict=True)
            shapes[name] = tuple(map(max, longest))
    return shapes
