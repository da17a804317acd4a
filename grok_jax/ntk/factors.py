"""Per-sample gradients as factors, which are multiplied instead of Jacobians.

The gradient of a dense layer's weight is a sum, over the positions t of one sample, of
outer products of the input a_t and the back-propagated signal g_t. Its inner product
for two samples is sum_{t,t'} (a_t . a'_t') (g_t . g'_t'): two small Gram matrices and
no per-sample Jacobian (`gram`). Where positions are many, as in a convolution, whose
positions are patches, it is cheaper to form sum_t a_t g_t^T after all, one product for
each sample (`gradient`). To find the factors in any function, its jaxpr for one sample
is flattened (`jaxprs.py`), the parameter leaves are followed through reshapes,
transposes and scalings into products, convolutions, table look-ups and bias additions
(`products.py`, `layers.py`), also into scans, and the function is differentiated
backwards statement by statement, which hands out inputs and signals (`reverse.py`). A
leaf that is used in any other way keeps its explicit per-sample gradient, so the result
is exact for every function and fast where there are layers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from grok_jax.ntk.jaxprs import FlatJaxpr, flatten
from grok_jax.ntk.layers import Layer, find_layers, is_lookup
from grok_jax.ntk.reverse import differentiate, zeros


class Factorization(NamedTuple):
    """How the gradients of a function are factored."""

    flat: FlatJaxpr
    layers: tuple[Layer, ...]
    jacobians: tuple[int, ...]  # leaves that keep an explicit gradient
    dtype: Any  # of the factors and of the kernel


def factorize(
    closed: core.ClosedJaxpr,
    leaves: int,
    gram_is_cheaper: Callable[[Layer], bool],
) -> Factorization:
    """Factorizes the jaxpr of one sample, (leaves..., x) -> f [C].

    `gram_is_cheaper(layer)` says whether Gram matrices are cheaper than gradients.
    """
    flat = flatten(closed)
    layers, jacobians = find_layers(flat, leaves)
    kept = []
    for layer in layers:
        if gram_is_cheaper(layer):
            kept.append(layer)
        elif is_lookup(layer.products) or layer.turned:  # its gradient is left to JAX
            jacobians += [i for i in (layer.weight, layer.bias) if i is not None]
        else:
            kept.append(layer._replace(rule="gradient"))
    (out,) = closed.out_avals
    dtype = jnp.promote_types(out.dtype, jnp.float32)
    return Factorization(flat, tuple(kept), tuple(sorted(jacobians)), dtype)


def sample_factors(
    factorization: Factorization,
    leaves: Sequence[jax.Array],
    x: jax.Array,
    cotangents: jax.Array,
) -> list[tuple[jax.Array, ...]]:
    """Factored gradients of one sample's outputs, weighted by `cotangents` [R, C].

    One entry per layer: of rule `gram` its inputs [B, T, I] and signals [R, B, T, O],
    and those of the products with the transposed leaf, if any; of rule `gradient` the
    gradients of its weight and of its bias, if any. Then one per leaf in
    `factorization.jacobians`, its gradient. Gradients are [F, R, F'], whose axes F and
    F' together are the leaf's entries.
    """
    flat, layers, explicit, dtype = factorization
    products = [p for layer in layers for uses in layer.uses for p in uses]
    active = [i in explicit for i in range(len(leaves))] + [False]
    rows = len(cotangents)
    outputs = differentiate(flat, [*leaves, x], active, products, rows, dtype)
    pulled, factors = outputs.pull([cotangents])
    result: list[tuple[jax.Array, ...]] = []
    for layer in layers:
        entry: list[jax.Array] = []
        for uses in layer.uses:
            found = [(p, *factors[p.key]) for p in uses]
            entry += (
                jnp.concatenate([p.join(a, rows=False) for p, a, _ in found], axis=1),
                jnp.concatenate([p.join(g, rows=True) for p, _, g in found], axis=2),
            )
        result.append(
            tuple(entry) if layer.rule == "gram" else _gradients(layer, *entry)
        )
    for leaf in explicit:
        gradient = pulled[leaf]
        gradient = (
            zeros(jax.typeof(leaves[leaf]), rows) if gradient is None else gradient
        )
        result.append((gradient.reshape(1, rows, -1).astype(dtype),))
    return result


def _gradients(layer: Layer, a: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
    """Gradients of the weight and, if there is one, of the bias, each [F, R, F']."""
    weight = jnp.einsum("bti,rbto->biro", a, g)
    weight = weight.reshape(-1, *weight.shape[2:])
    if layer.bias is None:
        return (weight,)
    return weight, g.sum(2).reshape(1, len(g), -1)


def gram(rows1: jax.Array, rows2: jax.Array, kind: str) -> jax.Array:
    """Inner products of gradients [n, F, R, F']: [n1, n2], [n1, n2, R] or
    [n1, n2, R, R]."""
    if kind == "full":
        return jnp.einsum("nfrg,mfsg->nmrs", rows1, rows2)
    if kind == "diagonal":
        return jnp.einsum("nfrg,mfrg->nmr", rows1, rows2)
    n1, n2 = len(rows1), len(rows2)
    return rows1.reshape(n1, -1) @ rows2.reshape(n2, -1).T


def leaf_kernels(
    factorization: Factorization,
    factors1: Sequence[tuple[jax.Array, ...]],
    factors2: Sequence[tuple[jax.Array, ...]],
    kind: str,
) -> dict[int, jax.Array]:
    """The kernel of each leaf that the function uses, from batched factors."""
    result = {}
    # The factors of layers come first, then those of explicit gradients.
    for layer, first, second in zip(
        factorization.layers, factors1, factors2, strict=False
    ):
        used = [i for i in (layer.weight, layer.bias) if i is not None]
        if layer.rule == "gram":
            kernels = _layer_kernels(layer, first, second, kind)
        else:
            kernels = [gram(g1, g2, kind) for g1, g2 in zip(first, second, strict=True)]
        result |= zip(used, kernels, strict=True)
    explicit = slice(len(factorization.layers), None)
    for leaf, (j1,), (j2,) in zip(
        factorization.jacobians, factors1[explicit], factors2[explicit], strict=True
    ):
        result[leaf] = gram(j1, j2, kind)
    return result


def _layer_kernels(
    layer: Layer,
    first: tuple[jax.Array, ...],
    second: tuple[jax.Array, ...],
    kind: str,
) -> list[jax.Array]:
    """The kernels of a layer's weight and bias from inputs [n, B, T, I] and signals
    [n, R, B, T, O]."""
    looks_up = is_lookup(layer.products)
    weight, *bias = _use_kernels(
        first[:2], second[:2], kind, looks_up, layer.bias is not None
    )
    if layer.turned:
        tables = looks_up, is_lookup(layer.turned)
        (own,) = _use_kernels(first[2:], second[2:], kind, tables[1])
        weight = weight + own + _between(first[:2], second[2:], kind, *tables)
        weight = weight + swap(_between(second[:2], first[2:], kind, *tables))
    return [weight, *bias]


def _use_kernels(
    first: tuple[jax.Array, ...],
    second: tuple[jax.Array, ...],
    kind: str,
    looks_up: bool,
    with_bias: bool = False,
) -> list[jax.Array]:
    """The kernels of a weight and, if asked for, of a bias, from products of one
    layout; inputs of a look-up are row numbers."""
    n1, n2, positions = len(first[0]), len(second[0]), first[0].shape[2]

    def one(group: Any) -> list[jax.Array]:
        (a1, g1), (a2, g2) = group
        signals = gram(_by_position(g1), _by_position(g2), kind)
        a1, a2 = a1.reshape(n1 * positions, -1), a2.reshape(n2 * positions, -1)
        inputs = (a1 == a2.T) & (a1 >= 0) if looks_up else a1 @ a2.T
        inputs = inputs.reshape(inputs.shape + (1,) * (signals.ndim - 2))
        shape = (n1, positions, n2, positions, *signals.shape[2:])
        kernels = [_sum_positions(inputs * signals, shape)]
        if with_bias:
            kernels.append(_sum_positions(signals, shape))
        return kernels

    # The groups of a product one after the other, which takes the memory of one.
    groups = jax.tree.map(jnp.moveaxis, (first, second), ((1, 2),) * 2, ((0, 0),) * 2)
    kernels = one(jax.tree.map(lambda a: a[0], groups))
    if first[0].shape[1] == 1:
        return kernels
    rest = jax.tree.map(lambda a: a[1:], groups)
    add = functools.partial(jax.tree.map, jnp.add)
    return jax.lax.scan(lambda k, group: (add(k, one(group)), None), kernels, rest)[0]


def _between(
    use: tuple[jax.Array, ...],
    other: tuple[jax.Array, ...],
    kind: str,
    looks_up: bool,
    other_looks_up: bool,
) -> jax.Array:
    """The kernel between products with a leaf and, in the second argument, with its
    transpose: sum_{t,p} (a_t . h_p) (g_t . b_p) for inputs a, b and signals g, h."""
    (a, g), (b, h) = use, other
    g, h = g[:, :, 0], h[:, :, 0]  # [n, R, T, O] and [m, R, P, I]
    inputs = jnp.moveaxis(_against(h, a[:, 0], looks_up), -2, 0)  # [n, m, R, P, T]
    signals = _against(g, b[:, 0], other_looks_up)  # [n, R, T, m, P]
    sums = {"full": "nmrs", "diagonal": "nmr"}.get(kind, "nm")
    last = "s" if kind == "full" else "r"
    return jnp.einsum(f"nrtmp,nm{last}pt->{sums}", signals, inputs)


def _against(signals: jax.Array, inputs: jax.Array, looks_up: bool) -> jax.Array:
    """Products of signals [n, R, T, O] with inputs [m, P, O], or with the one-hot rows
    that row numbers [m, P, 1] stand for: [n, R, T, m, P]."""
    if not looks_up:
        return jnp.einsum("nrto,mpo->nrtmp", signals, inputs)
    rows = inputs[..., 0]
    return jnp.where(rows >= 0, signals[..., jnp.maximum(rows, 0)], 0)


def swap(k: jax.Array) -> jax.Array:
    """The kernel with its arguments swapped, and so the output axes of `full`."""
    return jnp.transpose(k, (1, 0, *range(2, k.ndim)[::-1]))


def _sum_positions(pairs: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[n1 T, n2 T, ...] -> [n1, n2, ...]."""
    return pairs.reshape(shape).sum((1, 3)) if shape[1] > 1 else pairs


def _by_position(signals: jax.Array) -> jax.Array:
    """[n, R, T, O] -> [n T, 1, R, O]."""
    n, rows, positions, outputs = signals.shape
    moved = jnp.swapaxes(signals, 1, 2)
    return moved.reshape(n * positions, 1, rows, outputs)
