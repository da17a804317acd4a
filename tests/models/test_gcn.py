"""Graph convolutions against a loop over bonds, and what must not change them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import tree
from grok_jax.models.gcn import gcn

FEATURES = 3
MODEL = gcn(first_channels=4, second_channels=3, edge_hidden=5, dense=4)
BONDS = {  # molecule -> (atoms, [(i, j, bond type)])
    "ring": (4, [(0, 1, 0), (1, 2, 1), (2, 3, 3), (3, 0, 0), (0, 2, 2)]),
    "chain": (3, [(0, 1, 2), (1, 2, 0)]),
    "single": (1, []),
}
NODES = {
    name: np.random.default_rng(i).standard_normal((atoms, FEATURES))
    for i, (name, (atoms, _)) in enumerate(BONDS.items())
}


def pack(name, size, order=None):
    """One molecule as [size, F + 4 size], atom `order[i]` in row i."""
    atoms, bonds = BONDS[name]
    order = list(range(atoms)) if order is None else order
    nodes, adjacency = np.zeros((size, FEATURES)), np.zeros((size, 4, size))
    nodes[:atoms] = NODES[name][order]
    for i, j, kind in bonds:
        i, j = order.index(i), order.index(j)
        adjacency[i, kind, j] = adjacency[j, kind, i] = 1
    return np.concatenate([nodes, adjacency.reshape(size, -1)], axis=1)


def batch(size):
    return np.stack([pack(name, size) for name in BONDS])


def any_params():
    """Normal numbers (float64) in the place of the initial parameters."""
    draws = np.random.default_rng(4)  # with which ReLU kills no molecule
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), batch(4))
    return jax.tree.map(lambda leaf: draws.standard_normal(leaf.shape), shapes)


PARAMS = any_params()


def affine(layer, v):
    return v @ layer["w"] + layer["b"]


def relu(v):
    return jnp.where(v > 0, v, 0)


def by_hand(params, name):
    """One molecule, bond by bond: the edge network answers for every single one."""
    _, bonds = BONDS[name]
    h = list(NODES[name])
    for conv in (params["conv_0"], params["conv_1"]):
        after = [v @ conv["root"] + conv["bias"] for v in h]
        for i, j, kind in bonds:
            edge = np.eye(4)[kind]
            theta = affine(conv["edge_1"], relu(affine(conv["edge_0"], edge)))
            theta = theta.reshape(conv["root"].shape)
            after[i], after[j] = after[i] + h[j] @ theta, after[j] + h[i] @ theta
        h = [relu(v) for v in after]
    hidden = relu(affine(params["dense"], sum(h)))
    return affine(params["readout"], hidden)[0]


def value_and_gradient(f):
    """f [n] and the gradient of one weighted sum of it, leaves by name."""

    def weighted(params):
        out = f(params)
        return jnp.sum(out * jnp.arange(1.0, 1 + out.size)), out

    with jax.enable_x64(True):
        (_, out), grads = jax.jit(jax.value_and_grad(weighted, has_aux=True))(PARAMS)
    return tree.flat_names({"out": out, **grads})


@pytest.fixture(scope="module")
def unpadded():
    return value_and_gradient(lambda params: MODEL.apply(params, batch(4)))


def assert_same(actual, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name], value, rtol=1e-12, atol=1e-11, err_msg=name
        )


def test_values_and_gradients_are_those_of_a_loop_over_bonds(unpadded):
    expected = value_and_gradient(
        lambda params: jnp.stack([by_hand(params, name) for name in BONDS])
    )
    assert all(np.abs(value).max() > 1e-3 for value in expected.values())
    assert_same(unpadded, expected)


def test_padding_changes_neither_values_nor_gradients(unpadded):
    assert_same(
        value_and_gradient(lambda params: MODEL.apply(params, batch(7))), unpadded
    )


def test_atoms_may_come_in_any_order():
    apply = jax.jit(MODEL.apply)
    orders = np.stack([pack("ring", 4, list(o)) for o in [(0, 1, 2, 3), (2, 0, 3, 1)]])
    assert not np.array_equal(*orders)
    one, other = apply(PARAMS, orders)
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_type_of_a_bond_matters():
    x = batch(4)
    bonds = x[..., FEATURES:].reshape(3, 4, 4, 4)
    turned = np.roll(bonds, 1, axis=2).reshape(3, 4, 16)
    apply = jax.jit(MODEL.apply)
    f = apply(PARAMS, x)
    g = apply(PARAMS, np.concatenate([x[..., :FEATURES], turned], axis=-1))
    changed = abs(f - g) > 1e-3
    np.testing.assert_array_equal(changed, [True, True, False])  # one atom: no bond


def test_the_parameters_have_the_sizes_of_the_paper():
    x = jnp.zeros((1, 29, 11 + 4 * 29))
    params = jax.eval_shape(gcn().init, jax.random.key(0), x)
    edges = 2 * (4 * 32 + 32) + 33 * (11 * 32 + 32 * 16)
    convolutions = edges + 11 * 32 + 32 + 32 * 16 + 16
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == convolutions + 17 * 32 + 33


def test_the_initial_parameters_have_the_laws_of_pytorch():
    """Uniform in +-1 / sqrt(fan in), each leaf by itself; PyTorch Geometric starts the
    biases of its convolutions from zero."""
    params = jax.jit(gcn().init)(jax.random.key(4), jnp.zeros((1, 2, 11 + 8)))
    leaves = {k: np.float64(v) for k, v in tree.flat_names(params).items()}
    fan_in = {
        "conv_0.edge_0": 4,
        "conv_0.edge_1": 32,
        "conv_0.root": 11,
        "conv_1.edge_0": 4,
        "conv_1.edge_1": 32,
        "conv_1.root": 32,
        "dense": 16,
        "readout": 32,
    }
    units = []
    for name, leaf in leaves.items():
        if name.endswith(".bias"):
            assert not leaf.any()
            continue
        u = leaf.ravel() * np.sqrt(fan_in[name.removesuffix(".w").removesuffix(".b")])
        assert abs(u).max() <= 1 + 1e-6, name
        if u.size >= 100:
            assert 1 - abs(u).max() < 20 / u.size, name
            assert abs(u.mean()) < 5 * np.sqrt(1 / 3 / u.size), name
            assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size), name
            units.append(u[:100])
    for a, b in itertools.combinations(units, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.5
