"""Molecules: how they are read; chemistry holds in their arrays, padding is nothing."""

import bz2
import gzip
import itertools
import os
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_files import MANY_BYTES, assert_same, put, refused, tar_of

from grok_jax import rng
from grok_jax.settings import SettingError
from grok_jax.tasks.qm9 import load_molecules, qm9

KEYS = rng.run_keys(0)
VALENCE = [1, 4, 3, 2, 1]  # H, C, N, O, F


def graphs(count=9, atoms=4):
    """What `load_molecules` gives for chains; the polarizability tells them apart."""
    bonds = np.zeros((count, atoms, atoms), np.uint8)
    nodes = np.zeros((count, atoms, 11), np.uint8)
    for row in range(count):
        size = 1 + row % atoms
        nodes[row, :size] = row + np.arange(11)
        for i in range(size - 1):
            bonds[row, i, i + 1] = bonds[row, i + 1, i] = 1 + (row + i) % 4
    target = np.arange(count, dtype=np.float32) + 0.5
    return {"nodes": nodes, "bonds": bonds, "polarizability": target}


@partial(jax.jit, static_argnames=("atoms", "train_size", "test_size"))
def make(found, keys=KEYS, **settings):
    return qm9(keys, files=found, **settings)


def numbers(split):
    return [int(y) for y in split.y]


def parts(split, atoms):
    """features [n, A, 11] and adjacency [n, A, 4, A]."""
    x = np.asarray(split.x)
    return x[..., :11], x[..., 11:].reshape(len(x), atoms, 4, atoms)


@pytest.mark.parametrize("atoms", [4, 7])
def test_every_molecule_is_its_graph_padded_with_nothing(atoms):
    found = graphs()
    data = make(found, atoms=atoms, train_size=5)
    for split in data[:2]:
        nodes, edges = parts(split, atoms)
        assert split.x.shape[1:] == (atoms, 11 + 4 * atoms)
        assert not nodes[:, 4:].any() and not edges[:, 4:].any()
        assert not edges[..., 4:].any()
        for place, row in enumerate(numbers(split)):
            np.testing.assert_array_equal(nodes[place, :4], found["nodes"][row])
            for kind in range(4):
                expected = found["bonds"][row] == kind + 1
                np.testing.assert_array_equal(edges[place, :4, kind, :4], expected)
        np.testing.assert_array_equal(split.weight, np.ones(len(split.y)))


def test_train_and_test_are_every_molecule_once_and_a_larger_set_extends_a_smaller():
    found = graphs()
    small, large = make(found, train_size=3), make(found, train_size=6, test_size=2)
    assert sorted(numbers(small.train) + numbers(small.test)) == list(range(9))
    assert numbers(large.train)[:3] == numbers(small.train)
    assert numbers(large.test) == numbers(small.test)[:2]


def test_the_draw_follows_the_data_key_alone():
    same = rng.run_keys(7)._replace(data=KEYS.data)
    first, second, third = (
        numbers(make(graphs(), keys, train_size=3).train)
        for keys in (KEYS, same, rng.run_keys(1))
    )
    assert first == second != third


@pytest.mark.parametrize(("train_size", "test_size"), [(9, 0), (12, 0), (5, 5)])
def test_too_few_molecules_are_refused(train_size, test_size):
    with pytest.raises(SettingError, match=f"9 molecules.*train_size {train_size}"):
        make(graphs(), train_size=train_size, test_size=test_size)


def test_molecules_larger_than_the_array_are_refused():
    with pytest.raises(SettingError, match=r"atoms is 3; the molecules have up to 4"):
        make(graphs(), train_size=5, atoms=3)


@pytest.fixture(scope="module")
def packaged():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GROK_JAX_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", "/nowhere")
        return load_molecules(molecules=300)


def test_the_packaged_molecules_obey_chemistry(packaged):
    data = make(packaged, train_size=100)
    assert data.train.x.shape == (100, 29, 11 + 4 * 29)
    for split in data[:2]:
        nodes, edges = parts(split, 29)
        assert set(np.unique(edges)) == {0, 1}
        np.testing.assert_array_equal(edges, edges.transpose(0, 3, 2, 1))
        assert edges.sum(axis=2).max() == 1  # no pair has bonds of two kinds
        element, number = nodes[..., :5], nodes[..., 5]
        assert set(element.sum(-1).ravel()) == {0, 1}
        np.testing.assert_array_equal(element @ [1, 6, 7, 8, 9], number)
        hydrogens = np.einsum("natb,nb->na", edges, element[..., 0])
        np.testing.assert_array_equal(nodes[..., 10], hydrogens)
        aromatic = edges[:, :, 3].sum(-1) > 0
        np.testing.assert_array_equal(nodes[..., 6] > 0, aromatic)
        bonds = np.einsum("natb,t->na", edges[:, :, :3], [1, 2, 3])
        charge = np.where(aromatic, 0, bonds - element @ VALENCE)
        assert not charge.sum(axis=1).any() and (charge != 0).mean() < 0.002


def test_polarizability_grows_with_the_electrons(packaged):
    data = make(packaged, train_size=100)
    electrons = jnp.sum(data.train.x[..., 5], axis=1)
    assert jnp.corrcoef(electrons, data.train.y)[0, 1] > 0.5
    methane = packaged["polarizability"][0]
    np.testing.assert_allclose(methane, 13.21, rtol=1e-6)  # bohr^3


def test_a_table_of_real_molecules_agrees_with_the_package(packaged):
    folder = os.path.join(os.environ.get("GROK_JAX_DATA", ""), "qm9")
    if not os.path.isdir(folder):
        pytest.skip("GROK_JAX_DATA names no folder with QM9")
    found = load_molecules(molecules=300)
    for name in packaged:
        np.testing.assert_array_equal(found[name], packaged[name])


# their files

MOLECULES = [
    # index, SMILES, atoms, polarizability
    (1, "C", 5, 13.21),
    (2, "C#N", 3, 15.0),
    (3, "OC=O", 5, 17.5),
    (5, "c1ccccc1", 12, 57.25),
]


def molecule_table(rows=MOLECULES):
    head = "Index,SMILES,N_atoms,Polarizability_bohr3\n"
    return head + "".join(",".join(map(str, row)) + "\n" for row in rows)


def read_table(folder, rows, count=None):
    put(folder, "qm9.csv", molecule_table(rows))
    return load_molecules(folder=str(folder), molecules=count or len(rows))


def xyz(index, smiles, atoms, polarizability):
    """A file of the original form, geometry aside."""
    properties = "\t".join(["157.7", "157.7", "157.7", "0.", str(polarizability)])
    lines = [str(atoms), f"gdb {index}\t{properties}\t-0.3877\t0.1171"]
    lines += ["C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689"] * atoms
    lines += ["1341.307\t1341.3284", f"{smiles}\tX", "InChI=1S/CH4/h1H4\tInChI=1S"]
    return "\n".join(lines) + "\n"


def xyz_files(rows=MOLECULES):
    return {f"dsgdb9nsd_{row[0]:06d}.xyz": xyz(*row) for row in rows}


def test_a_molecule_is_its_graph_with_hydrogens(tmp_path):
    found = read_table(tmp_path, MOLECULES[1:3])
    nodes, bonds = found["nodes"], found["bonds"]
    assert nodes.shape == (2, 5, 11) and bonds.shape == (2, 5, 5)
    hydrogen = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    nothing = [0] * 11
    np.testing.assert_array_equal(
        nodes[0],
        [
            [0, 1, 0, 0, 0, 6, 0, 1, 0, 0, 1],  # C, sp, one H
            [0, 0, 1, 0, 0, 7, 0, 1, 0, 0, 0],  # N, sp
            hydrogen,
            nothing,
            nothing,
        ],
    )
    np.testing.assert_array_equal(
        nodes[1],
        [
            [0, 0, 0, 1, 0, 8, 0, 0, 1, 0, 1],  # O of the OH, sp2 by conjugation
            [0, 1, 0, 0, 0, 6, 0, 0, 1, 0, 1],  # C, sp2, one H
            [0, 0, 0, 1, 0, 8, 0, 0, 1, 0, 0],  # O, sp2
            hydrogen,
            hydrogen,
        ],
    )
    expected = np.zeros((2, 5, 5), int)
    for row, first, second, kind in [
        *((0, 0, 1, 3), (0, 0, 2, 1)),  # C#N, C-H
        *((1, 0, 1, 1), (1, 1, 2, 2), (1, 0, 3, 1), (1, 1, 4, 1)),
    ]:
        expected[row, first, second] = expected[row, second, first] = kind
    np.testing.assert_array_equal(bonds, expected)
    np.testing.assert_array_equal(found["polarizability"], np.float32([15.0, 17.5]))


def test_benzene_is_aromatic(tmp_path):
    found = read_table(tmp_path, MOLECULES[3:])
    assert found["nodes"][0, :, 6].tolist() == [1] * 6 + [0] * 6
    ring = found["bonds"][0, :6, :6]
    assert set(ring.ravel()) == {0, 4} and (ring > 0).sum() == 12


def test_only_the_first_molecules_are_read(tmp_path):
    rows = [*MOLECULES[:2], (3, "no molecule", 1, 1.0)]
    found = read_table(tmp_path, rows, count=2)
    assert len(found["nodes"]) == 2
    refused(lambda: read_table(tmp_path, rows), "qm9.csv line 4", "'no molecule'")


@pytest.mark.parametrize("form", ["gz", "archive"])
def test_every_form_gives_the_same_molecules(form, tmp_path):
    expected = read_table(tmp_path / "expected", MOLECULES)
    if form == "gz":
        put(tmp_path, "qm9.csv.gz", gzip.compress(molecule_table().encode()))
    else:
        put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", tar_of(xyz_files(), "bz2"))
    assert_same(load_molecules(folder=str(tmp_path), molecules=4), expected)


def test_an_archive_is_read_by_index_whatever_its_order(tmp_path):
    expected = read_table(tmp_path / "expected", MOLECULES[:3])
    path = tmp_path / "dsgdb9nsd.xyz.tar.bz2"
    for order in itertools.permutations(MOLECULES):
        path.write_bytes(tar_of(xyz_files(order), "bz2"))
        assert_same(load_molecules(folder=str(tmp_path), molecules=3), expected)


def test_an_archive_is_read_no_further_than_asked_for(tmp_path):
    archive = bz2.decompress(tar_of({**xyz_files(), "rest": MANY_BYTES.hex()}, "bz2"))
    damaged = bz2.compress(archive[:30_000]) + bz2.compress(archive[30_000:])[:-20]
    path = put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", damaged)
    assert len(load_molecules(folder=str(tmp_path), molecules=3)["nodes"]) == 3
    refused(
        lambda: load_molecules(folder=str(tmp_path), molecules=5),
        str(path),
        "could not",
    )


def test_uncharacterized_molecules_are_left_out_of_the_archive(tmp_path):
    listed = (
        "List of molecules among the 133885 GDB9 molecules ...\n\n=====\n"
        "#   Index     GDB17 SMILES     SMILES for B3LYP XYZ    ...  D_IJ\n=====\n"
        "       1      C      C      [CH4]     6.036217\n"
        "       3      OC=O   OC=O   O[CH]=O   5.631463\n=====\n"
    )
    expected = read_table(tmp_path / "expected", [MOLECULES[1], MOLECULES[3]])
    put(tmp_path, "uncharacterized.txt", listed)
    put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", tar_of(xyz_files(), "bz2"))
    assert_same(load_molecules(folder=str(tmp_path), molecules=2), expected)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((2, "C(", 5, 1.0), "line 3 has the SMILES 'C(', which is not a molecule"),
        ((2, "C(C)(C)(C)(C)C", 5, 1.0), "which is not a molecule"),  # five bonds
        ((2, "", 5, 1.0), "line 3 has the SMILES '', which is not a molecule"),
        ((2, "CCl", 5, 1.0), "line 3 has the element Cl, which is not one of H, C, N"),
        ((2, "N->C", 5, 1.0), "line 3 has a bond of the kind dative"),
        (
            (2, "C", 5, "large"),
            "line 3 has polarizability 'large', which is not a num",
        ),
        ((2, "C", 5, "nan"), "line 3 has polarizability 'nan', which is not a number"),
        ((2, "C"), "line 3 has too few columns"),
    ],
)
def test_a_damaged_table_of_molecules_names_the_line(row, says, tmp_path, capfd):
    refused(lambda: read_table(tmp_path, [MOLECULES[0], row]), "qm9.csv", says)
    assert capfd.readouterr().err == ""  # RDKit's own complaint


def test_a_table_without_a_column_is_named(tmp_path):
    put(tmp_path, "qm9.csv", molecule_table().replace("SMILES", "smiles"))
    refused(
        lambda: load_molecules(folder=str(tmp_path)), "has no column 'SMILES', only 'In"
    )


def test_fewer_molecules_than_asked_for_are_refused(tmp_path):
    refused(
        lambda: read_table(tmp_path, MOLECULES, count=9), "has 4 molecules", "les 9"
    )


@pytest.mark.parametrize(
    "damage", ["5\n", "5\ngdb 1\t2.0\n", "five\ngdb 1 2 3 4 5 6 7\n"]
)
def test_a_damaged_file_of_the_archive_is_named(damage, tmp_path):
    name = "dsgdb9nsd_000001.xyz"
    path = put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", tar_of({name: damage}, "bz2"))
    says = (f"{path}, {name}", "not have the format")
    refused(lambda: load_molecules(folder=str(tmp_path)), *says)


def test_molecules_need_rdkit(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    refused(lambda: read_table(tmp_path, MOLECULES), "pip install 'grok_jax[qm9]'")
