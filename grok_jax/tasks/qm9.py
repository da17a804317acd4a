"""Polarizability of small molecules (Liu et al. 2023, Omnigrok, Fig. 5)."""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.rng import Keys, choose_rows
from grok_jax.settings import Count, Natural, SettingError
from grok_jax.tasks import reading
from grok_jax.tasks.reading import DataError, Files
from grok_jax.types import Dataset, Split

_FORMS = (
    "a table with the columns SMILES and Polarizability_bohr3 (.csv, plain or .gz) or "
    "dsgdb9nsd.xyz.tar.bz2"
)
ELEMENTS = ("H", "C", "N", "O", "F")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_HYBRIDS = ("SP", "SP2", "SP3")


def qm9(
    keys: Keys,
    *,
    files: dict[str, Array],
    folder: str = "",
    molecules: Count = 3000,
    atoms: Count = 29,
    train_size: Count = 100,
    test_size: Natural = 0,
) -> Dataset:
    """x [n, A, 11 + 4 A], A = `atoms`: one row per atom, including hydrogens, with its
    11 features (one-hot of H, C, N, O, F; atomic number; aromatic; sp, sp2, sp3; number
    of H) and its rows of the adjacency matrices of single, double, triple and aromatic
    bonds; padding rows are zero. y [n] is the isotropic polarizability in bohr^3, not
    normalised, as in the paper's code.

    `files` is the result of `load_molecules`. The paper's code splits the first
    molecules of the set in half: `molecules` = 2 `train_size`. For the same seed, a
    larger train set begins with the smaller one, and likewise a test set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.reading`).
      molecules: train and test sets are drawn from the first `molecules` of QM9.
      atoms: at least the atoms of the largest molecule drawn from; 29 for all of QM9.
      test_size: 0 for all molecules that are not used for training.
    """
    del folder, molecules  # read by load_molecules
    files = jax.tree.map(jnp.asarray, files)
    count, largest, _ = files["nodes"].shape
    train, test = choose_rows(keys.data, count, train_size, test_size, "molecules")
    if largest > atoms:
        raise SettingError(
            f"task.atoms is {atoms}; the molecules have up to {largest} atoms."
        )
    padding = (0, atoms - largest)

    def split(rows: Array) -> Split:
        nodes = jnp.pad(files["nodes"][rows], ((0, 0), padding, (0, 0)))
        bonds = jnp.pad(files["bonds"][rows], ((0, 0), padding, padding))
        kinds = jnp.arange(1, 5, dtype=bonds.dtype)[None, None, :, None]
        edges = (bonds[:, :, None, :] == kinds).reshape(len(rows), atoms, 4 * atoms)
        x = jnp.concatenate([nodes.astype(float), edges.astype(float)], axis=2)
        y = files["polarizability"][rows].astype(float)
        return Split(x, y, jnp.ones(len(rows)))

    return Dataset(split(train), split(test), {})


def one_output() -> dict[str, int]:
    """The sizes of the data of `qm9` (`types.Task`): empty for one output."""
    return {}


class _Molecule(NamedTuple):
    where: str
    smiles: str
    polarizability: str


def load_molecules(*, folder: str = "", molecules: Count = 3000) -> Files:
    """The first molecules of QM9 as graphs with all hydrogens, where A is the number of
    atoms of the largest: `nodes` [n, A, 11] uint8 (H, C, N, O, F; atomic number;
    aromatic; sp, sp2, sp3; number of H), zero for padding; `bonds` [n, A, A] uint8,
    symmetric, 0 for none and 1 to 4 for single, double, triple, aromatic;
    `polarizability` [n], isotropic, in bohr^3.

    RDKit makes the graphs from the GDB-17 SMILES. The paper's code takes them from
    torch_geometric, which leaves aromatic and sp, sp2, sp3 at zero and bonds in Kekule
    form (its issue 8370). Molecules listed in uncharacterized.txt beside the original
    archive are left out, as in torch_geometric and the package qm9pack.
    """

    def read(place: Path) -> Files | None:
        found = _read(place)
        return None if found is None else _graphs(found, molecules, place)

    files = reading.find("qm9", folder, read, _FORMS)
    if files is not None:
        return files
    parts = reading.packaged(
        "qm9pack", *(f"data/qm9_part{part}.csv" for part in (1, 2, 3))
    )
    if not parts:
        package = "install the package qm9pack (pip install 'grok_jax[qm9]'), "
        raise reading.missing("qm9", "QM9 molecules", _FORMS, package)
    return _graphs(_table_molecules(parts), molecules, parts[0].parent)


def _read(place: Path) -> Iterator[_Molecule] | None:
    archive = place / "dsgdb9nsd.xyz.tar.bz2"
    if tables := reading.tables(place, ".csv", ".csv.gz"):
        return _table_molecules(tables)
    return _archive_molecules(archive) if archive.is_file() else None


def _table_molecules(paths: list[Path]) -> Iterator[_Molecule]:
    for where, values in reading.rows(paths, ("SMILES", "Polarizability_bohr3")):
        yield _Molecule(where, *values)


def _archive_molecules(path: Path) -> Iterator[_Molecule]:
    """The molecules of the original archive: in a file with n atoms, line 2 has the
    properties (alpha is the seventh word) and line n + 4 the SMILES of GDB-17."""
    excluded = _uncharacterized(path.parent / "uncharacterized.txt")
    for index, where, text in _by_index(path):
        if index in excluded:
            continue
        lines = text.splitlines()
        try:
            polarizability = lines[1].split()[6]
            smiles = lines[int(lines[0]) + 3].split()[0]
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{where} does not have the format of a QM9 .xyz file."
            ) from error
        yield _Molecule(where, smiles, polarizability)


def _by_index(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields (index, where, text) of each file in order of index, whatever their order
    in the archive, which is read only as far as needed: a file is kept until all files
    before it have been read."""
    pending: dict[int, tuple[int, str, str]] = {}
    expected = 1
    for match, text in reading.members(path, r"(?:.*/)?dsgdb9nsd_(\d+)\.xyz"):
        index = int(match[1])
        pending[index] = (index, f"{path}, {match[0]}", text)
        while expected in pending:
            yield pending.pop(expected)
            expected += 1
    yield from (pending[index] for index in sorted(pending))


def _uncharacterized(path: Path) -> set[int]:
    """Indices of the molecules whose geometry does not match their SMILES."""
    if not path.is_file():
        return set()
    rows = [line.split() for line in reading.content(path).splitlines()]
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
    with rdBase.BlockLogs():  # RDKit's messages are replaced by DataErrors
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
    """(nodes [a, 11], bonds [a, a]) of one molecule."""
    parsed = chem.MolFromSmiles(smiles)
    if parsed is None or not smiles:
        raise DataError(f"{where} has the SMILES {smiles!r}, which is not a molecule.")
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
        raise DataError(f"{where} has polarizability {text!r}, which is not a number.")
    return value
