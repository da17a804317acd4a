"""Finding, downloading and reading the files of real data sets.

A data set is looked for in `task.folder` if given; else in $GROK_JAX_DATA/<name>, then
in the cache (where `fetch` downloads it), then in a package that contains it. The
module of the task (tasks/mnist.py, for example) interprets the files and returns plain
arrays, as compact as the data allow. Archives are read in place: nothing is unpacked,
and no pickled data are loaded.
"""

import contextlib
import csv
import gzip
import importlib.util
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from grok_jax.settings import lookup


class DataError(ValueError):
    """Says in one sentence which data are missing, damaged or in the wrong format."""


Files = dict[str, np.ndarray]


class Download(NamedTuple):
    """The address, known hash and name of one file of a data set."""

    url: str
    known_hash: str
    name: str


_MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FIGSHARE = "https://ndownloader.figshare.com/files/"
DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "mnist": tuple(
        Download(_MNIST_MIRROR + name, f"sha256:{digest}", name)
        for name, digest in {
            "train-images-idx3-ubyte.gz": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": (
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        }.items()
    ),
    "imdb": (
        Download(
            "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            "md5:7c2ac02c03563afcf9b574c7e56c153a",
            "aclImdb_v1.tar.gz",
        ),
    ),
    "qm9": (
        Download(
            _FIGSHARE + "3195389",
            "md5:ad1ebd51ee7f5b3a6e32e974e5d54012",
            "dsgdb9nsd.xyz.tar.bz2",
        ),
        Download(
            _FIGSHARE + "3195404",
            "md5:a361887bacb427b8a0ce7903d92a53b4",
            "uncharacterized.txt",
        ),
    ),
}


def cache(name: str) -> Path:
    """The folder into which `fetch` downloads a data set."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "grok_jax" / name


def fetch(name: str) -> Path:
    """Downloads a data set (mnist, imdb, qm9) into its cache folder and returns that.

    Every file is checked against its known hash; existing files are kept.
    """
    downloads = lookup(DOWNLOADS, name, "data set")
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            "A download needs the package pooch: pip install 'grok_jax[data]'."
        ) from error
    for url, known_hash, file_name in downloads:
        try:
            pooch.retrieve(url, known_hash, fname=file_name, path=cache(name))
        except ValueError as error:  # raised by pooch if the hash differs
            raise DataError(
                f"{url} is not the expected file (its {known_hash.split(':')[0]} hash "
                "differs), so it was not kept."
            ) from error
        except OSError as error:  # includes the errors of requests
            raise DataError(
                f"{url} could not be downloaded ({_reason(error)}); fetch it "
                f"elsewhere and put it into {cache(name)}."
            ) from error
    return cache(name)


def find(
    name: str, folder: str, read: Callable[[Path], Files | None], forms: str
) -> Files | None:
    """The result of `read` for the first place that has the data set, or None."""
    if folder:
        place = _folder("task.folder", folder)
        found = read(place)
        if found is None:
            raise DataError(f"task.folder is {place}, which does not have {forms}.")
        return found
    shared = os.environ.get("GROK_JAX_DATA")
    places = [_folder("GROK_JAX_DATA", shared) / name] if shared else []
    for place in (*places, cache(name)):
        if place.is_dir() and (found := read(place)) is not None:
            return found
    return None


def _folder(what: str, path: str) -> Path:
    place = Path(path).expanduser()
    if not place.is_dir():
        raise DataError(f"{what} is {place}, which is not a folder.")
    return place


def packaged(package: str, *paths: str) -> list[Path]:
    """Paths of data files in a package, which is not imported; [] if any is missing."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(root, path) for root in roots[:1] for path in paths]
    return found if all(path.is_file() for path in found) else []


def missing(name: str, what: str, forms: str, package: str = "") -> DataError:
    """The error that says how to get a data set that was not found."""
    return DataError(
        f"There are no {what} here: put {forms} into {cache(name)} (or into a folder "
        f"that task.folder names), {package}or download them with "
        f"python -c \"from grok_jax.tasks import reading; reading.fetch('{name}')\"."
    )


def tables(place: Path, *suffixes: str) -> list[Path]:
    """[path] of the only table with one of the suffixes in a folder; [] without one."""
    found = sorted(path for suffix in suffixes for path in place.glob(f"*{suffix}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{place} has several tables ({names}); it must have only one.")
    return found


def rows(
    paths: Iterable[Path], columns: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yields (where, values of `columns`) for each row of (gzipped) CSV tables."""
    for path in paths:
        with _open(path) as raw:
            table = csv.DictReader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
            present = list(table.fieldnames or ())
            for column in columns:
                if column not in present:
                    raise DataError(
                        f"{path} has no column {column!r}, only "
                        f"{', '.join(map(repr, present)) or 'an empty first line'}."
                    )
            for row in table:
                where = f"{path} line {table.line_num}"
                values = [row[column] for column in columns]
                if None in values:
                    raise DataError(f"{where} has too few columns.")
                yield where, values


def numbers(path: Path, dtype: Any = float) -> np.ndarray:
    """Reads a NumPy .npy array, or a table [n, d] of comma-separated numbers without a
    header."""
    with _open(path) as file:
        if path.suffix == ".npy":
            return np.lib.format.read_array(file, allow_pickle=False)
        lines = [line for line in io.TextIOWrapper(file, "utf-8-sig") if line.strip()]
        if not lines:  # np.loadtxt would warn
            return np.zeros((0, 0), dtype)
        return np.loadtxt(lines, delimiter=",", dtype=dtype, ndmin=2)


def members(path: Path, names: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yields (match, text) of every file in a tar archive whose name matches."""
    with _in_one_sentence(path), tarfile.open(path) as archive:
        for member in archive:
            match = re.fullmatch(names, member.name)
            file = archive.extractfile(member) if match and member.isreg() else None
            if match and file:
                yield match, file.read().decode("utf-8")


def content(path: Path) -> bytes:
    """The content of a file, decompressed if it is gzipped."""
    with _open(path) as file:
        return file.read()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with (
        _in_one_sentence(path),
        gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file,
    ):
        yield cast(IO[bytes], file)


@contextlib.contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    """Turns any error that a damaged file raises into a DataError of one sentence."""
    try:
        yield
    except DataError:
        raise
    except (
        *(OSError, EOFError, ValueError, zlib.error),
        *(csv.Error, tarfile.TarError),
    ) as error:
        raise DataError(f"{path} could not be read ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")
