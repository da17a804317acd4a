"""The workdir: config.json, results.nc, claims.json. Files are written atomically.

It is on a disk or in an object store (gs://bucket/run, see `remote`).
"""

import fcntl
import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr
import yaml

from grok_jax.engine import remote
from grok_jax.settings import SettingError


class WorkdirError(RuntimeError):
    """The workdir cannot be read or written, or holds something else."""


class WriteError(WorkdirError):
    """A write failed: the disk is full, or a store does not answer. Later it may be
    possible."""


class Workdir:
    """The paths in one workdir, and its lock."""

    def __init__(self, path: str | Path):
        self.path = remote.path(path).absolute()
        self.config = self.path / "config.json"
        self.results = self.path / "results.nc"
        self.claims = self.path / "claims.json"
        self.progress = self.path / "progress.json"
        self.figures = self.path / "figures"
        self.checkpoints = self.path / "checkpoints"
        self.states = self.path / "states"
        self._lock: remote.Lock | None = None

    def about(self) -> dict[str, Any]:
        """The content of config.json.

        Raises: WorkdirError if there is no such folder, or no run has begun in it.
        """
        if self.config.exists():  # first: raises if a store refuses access
            return read_json(self.config)
        if not self.path.is_dir():
            raise WorkdirError(f"There is no folder {self.path}.")
        inside = sorted(self.path.glob("*/config.json"))  # as in that of a gallery
        raise WorkdirError(
            f"{self.path} holds no config.json; no run has begun in it"
            + (f", but in {inside[0].parent}." if inside else ".")
        )

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raises WorkdirError unless this folder is new or holds this config (or its
        results do: an extension was killed before it wrote config.json)."""
        try:
            started = self.config.exists()
            is_folder = self.path.is_dir()
            inside = list(self.path.iterdir()) if is_folder else []
        except remote.failures(self.path) as error:  # also a name too long
            raise WorkdirError(
                f"The workdir {self.path} cannot be read: {_why(self.path, error)}."
            ) from error
        if started:
            about = read_json(self.config)
            stored = about.get("config") if isinstance(about, dict) else None
            if not isinstance(stored, dict):
                raise WorkdirError(
                    f"{self.config} is damaged: it does not say what ran. Give another "
                    "workdir."
                )
            if stored != settings and not self._matches_results(settings):
                keys = sorted(stored.keys() | settings.keys())
                differ = [key for key in keys if stored.get(key) != settings.get(key)]
                raise WorkdirError(
                    f"{self.path} holds another config (it differs in "
                    f"{', '.join(differ[:6])}{', ...' if len(differ) > 6 else ''}); "
                    "nothing was touched. Give another workdir."
                )
        elif any(map(self._is_foreign, inside)):
            raise WorkdirError(
                f"{self.path} is not empty and holds no config.json; nothing was "
                "touched. Give an empty or new workdir."
            )
        elif self.path.exists() and not is_folder:
            raise WorkdirError(f"{self.path} is a file; give a folder as workdir.")

    def _matches_results(self, settings: Mapping[str, Any]) -> bool:
        try:
            config = read_results(self.results).attrs.get("config", "{}")
        except WorkdirError:
            return False
        return json.loads(config) == settings

    def _is_foreign(self, path: Path) -> bool:
        """Whether a path is neither hidden nor an empty folder that `create` made."""
        made = path in (self.figures, self.checkpoints) and path.is_dir()
        return not (path.name.startswith(".") or (made and not any(path.iterdir())))

    def create(self) -> None:
        """Makes the folder; raises WorkdirError if it is not writable. One with a run
        was writable before: what now fails is a WriteError of the first write."""
        try:
            if not remote.is_remote(self.path):  # a store has no folders
                self.figures.mkdir(parents=True, exist_ok=True)
                self.checkpoints.mkdir(exist_ok=True)
            if self.config.exists():
                return
            probe = self.path / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except remote.failures(self.path) as error:
            raise WorkdirError(
                f"The workdir {self.path} cannot be written: {_why(self.path, error)}."
            ) from error

    def make(self, name: str) -> None:
        """Makes a subfolder unless it exists."""
        (self.path / name).mkdir(exist_ok=True)

    @contextmanager
    def locked(self, say: Callable[[str], None] = print) -> Iterator[None]:
        """Locks the workdir for this process; raises WorkdirError in a second one."""
        if remote.is_remote(self.path):
            with self._locked_remotely(say):
                yield
            return
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(open(self.path / ".lock", "w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkdirError(
                    f"Another launch is running in {self.path}; wait for it to end."
                ) from error
            except OSError as error:
                raise WorkdirError(
                    f"The workdir {self.path} cannot be locked: {error.strerror}."
                ) from error
            yield

    @contextmanager
    def _locked_remotely(self, say: Callable[[str], None]) -> Iterator[None]:
        self._lock = lock = remote.Lock(self.path / ".lock", say)
        try:
            lock.__enter__()
        except remote.Held as error:
            raise WorkdirError(
                f"Another launch ({error}) is running in {self.path}; wait for it to "
                "end."
            ) from error
        except Exception as error:  # raised by the store
            raise WorkdirError(
                f"The workdir {self.path} cannot be locked: {remote.reason(error)}."
            ) from error
        try:
            yield
        finally:
            lock.__exit__()

    def check_lock(self) -> None:
        """Raises WorkdirError if another launch has taken the workdir meanwhile."""
        if self._lock is not None and self._lock.lost:
            raise WorkdirError(f"Another launch has taken {self.path}; this one ends.")


def _why(path: Path, error: Exception) -> str:
    if remote.is_remote(path):
        return remote.reason(error)
    return getattr(error, "strerror", None) or str(error)


def git_commit() -> str:
    """The commit of the package's checkout, with "-dirty" if its code has changed since
    (only code counts: a gallery writes pages and figures in the checkout); "unknown"
    for an installed package, though it may be inside the checkout of something else."""
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        return "unknown"
    git = ["git", "-C", str(root)]
    code = (":/*.py", ":/pyproject.toml")
    try:
        commit = subprocess.check_output(
            [*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL
        ).strip()
        changed = subprocess.check_output(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", *code],
            text=True,
            stderr=subprocess.DEVNULL,
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Writes `content` as JSON, atomically (see `write_bytes`)."""
    write_bytes(path, json.dumps(content, indent=indent, default=str).encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises WorkdirError if it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (*remote.failures(path), ValueError) as error:
        why = remote.reason(error) if remote.is_remote(path) else error
        raise WorkdirError(f"{path} is missing or not readable: {why}.") from error


class _Yaml(yaml.SafeLoader):
    """YAML 1.2 in what settings need: 1e-3 is a number."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; raises SettingError if it is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Yaml)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise SettingError(f"{path} is not YAML: {said[:200]}.") from error


def write_results(path: Path, results: xr.Dataset) -> None:
    """Writes results.nc (netCDF4).

    It is built in memory first: HDF5 ends the whole process if the disk is full.
    """
    content: Any = results.to_netcdf(engine="h5netcdf")
    write_bytes(path, content)


def read_results(path: Path) -> xr.Dataset:
    """Reads results.nc into memory.

    Raises:
      WorkdirError: the file is missing, truncated or not netCDF4.
    """
    try:
        source = io.BytesIO(path.read_bytes()) if remote.is_remote(path) else path
        with xr.open_dataset(source, engine="h5netcdf") as results:
            return results.load()
    except FileNotFoundError as error:
        raise WorkdirError(f"{path} is missing.") from error
    except Exception as error:  # damaged files raise many kinds
        raise WorkdirError(f"{path} is truncated or not a netCDF4 file.") from error


def write_bytes(path: Path, content: Any) -> None:
    """Writes a file atomically: a reader finds the complete old or new file.

    Raises:
      WriteError: it cannot be written.
    """
    atomic = remote.is_remote(path)  # writing an object is atomic by itself
    part = path if atomic else path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        if not atomic:
            with open(part, "rb") as written:
                os.fsync(written.fileno())
            os.replace(part, path)
    except remote.failures(path) as error:
        if not atomic:
            part.unlink(missing_ok=True)
        raise WriteError(
            f"{path} could not be written: {_why(path, error)}; the previous file is "
            "intact."
        ) from error


def remove(path: Path) -> None:
    """Removes a file that is only out of date; one that cannot be removed stays."""
    with suppress(*remote.failures(path)):
        if path.exists():
            path.unlink()


@contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Raises a WorkdirError that says why an object store cannot be read here; errors
    of the package pass."""
    try:
        yield
    except remote.failures(path) as error:
        known = isinstance(error, (WorkdirError, SettingError))
        if known or not remote.is_remote(path):
            raise
        raise WorkdirError(f"{path} cannot be read: {remote.reason(error)}.") from error
