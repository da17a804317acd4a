"""Molecules as dense arrays: chemistry holds in them, padding is nothing."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import rng
from grok_jax.settings import SettingError
from grok_jax.tasks import files
from grok_jax.tasks.qm9 import qm9

KEYS = rng.run_keys(0)
VALENCE = [1, 4, 3, 2, 1]  # H, C, N, O, F


def graphs(count=9, atoms=4):
    """What `files.qm9` gives for chains; the polarizability tells them apart."""
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
        return files.qm9(molecules=300)


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
    found = files.qm9(molecules=300)
    for name in packaged:
        np.testing.assert_array_equal(found[name], packaged[name])
