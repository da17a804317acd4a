"""Edge-conditioned graph convolutions (Liu et al. 2023, Omnigrok, Fig. 5)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import affine, linear_layer, named_key
from grok_jax.settings import Count
from grok_jax.types import Model, Params

BOND_TYPES = 4


def gcn(
    *,
    first_channels: Count = 32,
    second_channels: Count = 16,
    edge_hidden: Count = 32,
    dense: Count = 32,
) -> Model:
    """Molecules x [n, A, F + 4A] -> f [n]: two graph convolutions, the sum over atoms,
    a dense layer and a linear read-out, with ReLU between them.

    A convolution (NNConv of PyTorch Geometric; Gilmer et al. 2017) is
    h_i' = h_i W + b + sum_j h_j Theta(e_ij), where Theta is an edge network
    4 -> edge_hidden -> in * out with ReLU between. Row i of x holds the F features of
    atom i, then its row of the adjacency matrix [A] of each of 4 bond types. A row of
    zeros is padding and contributes nothing.

    params {"conv_0": {"edge_0": {"w", "b"}, "edge_1": {"w", "b"}, "root": [in, out],
    "bias": [out]}, "conv_1": ..., "dense": {"w", "b"}, "readout": {"w", "b"}}, drawn
    from U(-k, k), k = 1 / sqrt(fan in); the biases of the convolutions are zero.
    """

    def init(key: Array, x: Array) -> Params:
        features = x.shape[-1] - BOND_TYPES * x.shape[-2]

        def linear(key: Array, name: str, *sizes: int) -> Params:
            return linear_layer(named_key(key, name), *sizes)

        def conv(name: str, inputs: int, outputs: int) -> Params:
            layer = partial(linear, named_key(key, name))
            return {
                "edge_0": layer("edge_0", BOND_TYPES, edge_hidden),
                "edge_1": layer("edge_1", edge_hidden, inputs * outputs),
                "root": layer("root", inputs, outputs)["w"],
                "bias": jnp.zeros(outputs),
            }

        return {
            "conv_0": conv("conv_0", features, first_channels),
            "conv_1": conv("conv_1", first_channels, second_channels),
            "dense": linear(key, "dense", second_channels, dense),
            "readout": linear(key, "readout", dense, 1),
        }

    def apply(params: Params, x: Array) -> Array:
        n, atoms, columns = x.shape
        features = columns - BOND_TYPES * atoms
        h, bonds = x[..., :features], x[..., features:]
        bonds = bonds.reshape(n, atoms, BOND_TYPES, atoms)
        is_atom = jnp.any(h != 0, axis=-1).astype(x.dtype)
        for name in ("conv_0", "conv_1"):
            h = jax.nn.relu(_convolve(params[name], h, bonds))
        pooled = jnp.einsum("na,nac->nc", is_atom, h)
        hidden = jax.nn.relu(affine(params["dense"], pooled))
        return affine(params["readout"], hidden)[:, 0]

    return Model(init, apply)


def _convolve(conv: Params, h: Array, bonds: Array) -> Array:
    """h [n, A, in], bonds [n, A, 4, A] -> [n, A, out]."""
    # A bond has one of four types: evaluate the edge network once per type.
    kinds = jax.nn.relu(affine(conv["edge_0"], jnp.eye(BOND_TYPES, dtype=h.dtype)))
    theta = affine(conv["edge_1"], kinds).reshape(BOND_TYPES, *conv["root"].shape)
    messages = jnp.einsum("nibj,njk,bkc->nic", bonds, h, theta)
    return jnp.matmul(h, conv["root"]) + messages + conv["bias"][None, None]
