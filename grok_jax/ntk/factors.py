"""Per-sample gradients as factors, which are multiplied instead of Jacobians.

The gradient of a dense layer's weight is a sum, over the positions t of one sample, of
outer products of the input a_t and the back-propagated signal g_t. Its inner product
for two samples is sum_{t,t'} (a_t . a'_t') (g_t . g'_t'): two small Gram matrices and
no per-sample Jacobian. To find the factors in any function, its jaxpr for one sample is
flattened (`jaxprs.py`), the parameter leaves are followed through reshapes, transposes
and scalings into products, table look-ups and bias additions (`layers.py`), and the
function is run again with a zero probe added to every product found: the gradient of
the probe is the signal (`sample_factors`). A leaf that is used in any other way (a
convolution, a loop, a product batched over heads, elementwise) keeps its explicit
per-sample gradient, so the result is exact for every function and fast where there are
dense layers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from grok_jax.ntk.jaxprs import FlatJaxpr, Value, execute, flatten
from grok_jax.ntk.layers import Layer, Product, find_layers


class Factorization(NamedTuple):
    """How the gradients of a function are factored."""

    flat: FlatJaxpr
    layers: tuple[Layer, ...]
    jacobians: tuple[int, ...]  # leaves that keep an explicit gradient
    dtype: Any  # of the factors and of the kernel


def factorize(
    closed: core.ClosedJaxpr,
    leaves: int,
    prefer_factors: Callable[[Layer], bool],
) -> Factorization:
    """Factorizes the jaxpr of one sample, (leaves..., x) -> f [C].

    `prefer_factors(layer)` says whether Gram matrices are cheaper than Jacobians.
    """
    flat = flatten(closed)
    layers, jacobians = find_layers(flat, leaves)
    kept = []
    for layer in layers:
        if prefer_factors(layer):
            kept.append(layer)
        else:
            jacobians += [i for i in (layer.weight, layer.bias) if i is not None]
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

    One entry per layer, (inputs [T, I], signals [R, T, O]), then one per leaf in
    `factorization.jacobians`, (gradient [R, size],).
    """
    products = [p for layer in factorization.layers for p in layer.products]
    places = {product.statement: i for i, product in enumerate(products)}

    def outputs(probes, explicit):
        arguments = [*leaves, x]
        for i, value in zip(factorization.jacobians, explicit, strict=True):
            arguments[i] = value

        def add_probe(index, value):
            return value + probes[places[index]] if index in places else value

        (out,), read = execute(factorization.flat, arguments, add_probe)
        return out, [_inputs(p, read, factorization.dtype) for p in products]

    statements = factorization.flat.statements
    probes = [
        _zeros_like(statements[p.statement].eqn.outvars[0].aval) for p in products
    ]
    explicit = [leaves[i] for i in factorization.jacobians]
    _, pullback, inputs = jax.vjp(outputs, probes, explicit, has_aux=True)
    probe_grads, leaf_grads = jax.vmap(pullback)(cotangents)
    signals = [
        _signals(product, grad, factorization.dtype)
        for product, grad in zip(products, probe_grads, strict=True)
    ]
    result, start = [], 0
    for layer in factorization.layers:
        end = start + len(layer.products)
        result.append(
            (
                jnp.concatenate(inputs[start:end], axis=0),
                jnp.concatenate(signals[start:end], axis=1),
            )
        )
        start = end
    for gradient in leaf_grads:
        rows = gradient.reshape(gradient.shape[0], -1)
        result.append((rows.astype(factorization.dtype),))
    return result


def _zeros_like(aval: Any) -> jax.Array:
    """Zeros that vary over the same mesh axes, so that no gradient is summed there."""
    return varying(jnp.zeros(aval.shape, aval.dtype), mesh_axes(aval))


def mesh_axes(aval: Any) -> frozenset[Any]:
    """The axes of an enclosing `shard_map` over which a value of this type varies."""
    kind = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; vma before
    return getattr(kind, "varying", None) or getattr(aval, "vma", None) or frozenset()


def varying(value: jax.Array, axes: frozenset[Any]) -> jax.Array:
    """The value, typed as varying over the mesh axes."""
    missing = tuple(axes - mesh_axes(jax.typeof(value)))
    if not missing:
        return value
    lax: Any = jax.lax  # its names depend on the version
    if hasattr(lax, "pcast"):
        return lax.pcast(value, missing, to="varying")
    return lax.pvary(value, missing)  # jax 0.8


def _inputs(product: Product, read: Callable[[Value], Any], dtype: Any) -> jax.Array:
    """Inputs [T, I]; for a look-up the row numbers [T, 1], -1 where none is read."""
    other = jnp.transpose(read(product.other), product.input_axes)
    other = other.reshape(product.sizes[:2])
    if product.vocabulary is not None:
        last = product.vocabulary - 1
        rows = other.astype(jnp.int32)
        rows = jnp.clip(rows, 0, last) if product.clip else rows
        return jnp.where((rows >= 0) & (rows <= last), rows, -1)
    other = other.astype(dtype)
    for name, value in product.scales:
        scale = -1.0 if name == "neg" else jnp.asarray(read(value), dtype)
        other = other / scale if name == "div" else other * scale
    return other


def _signals(product: Product, grad: jax.Array, dtype: Any) -> jax.Array:
    """Signals [R, T, O] from the gradient of the probe."""
    axes = (0, *(1 + i for i in product.position_axes + product.output_axes))
    positions, _, outputs = product.sizes
    moved = jnp.transpose(grad, axes)
    return moved.reshape(grad.shape[0], positions, outputs).astype(dtype)


def gram(signals1: jax.Array, signals2: jax.Array, kind: str) -> jax.Array:
    """Inner products of rows [n, R, F]: [n1, n2], [n1, n2, R] or [n1, n2, R, R]."""
    if kind == "full":
        return jnp.einsum("nrf,msf->nmrs", signals1, signals2)
    if kind == "diagonal":
        return jnp.einsum("nrf,mrf->nmr", signals1, signals2)
    n1, n2 = len(signals1), len(signals2)
    return signals1.reshape(n1, -1) @ signals2.reshape(n2, -1).T


def leaf_kernels(
    factorization: Factorization,
    factors1: Sequence[tuple[jax.Array, ...]],
    factors2: Sequence[tuple[jax.Array, ...]],
    kind: str,
) -> dict[int, jax.Array]:
    """The kernel of each leaf that the function uses, from batched factors."""
    result = {}
    # The factors of layers come first, then those of explicit gradients.
    for layer, (a1, g1), (a2, g2) in zip(
        factorization.layers, factors1, factors2, strict=False
    ):
        n1, n2, positions = len(a1), len(a2), layer.positions
        signals = gram(_by_position(g1), _by_position(g2), kind)
        a1, a2 = a1.reshape(n1 * positions, -1), a2.reshape(n2 * positions, -1)
        inputs = (a1 == a2.T) & (a1 >= 0) if layer.is_lookup else a1 @ a2.T
        inputs = inputs.reshape(inputs.shape + (1,) * (signals.ndim - 2))
        shape = (n1, positions, n2, positions, *signals.shape[2:])
        result[layer.weight] = _sum_positions(inputs * signals, shape)
        if layer.bias is not None:
            result[layer.bias] = _sum_positions(signals, shape)
    explicit = slice(len(factorization.layers), None)
    for leaf, (j1,), (j2,) in zip(
        factorization.jacobians, factors1[explicit], factors2[explicit], strict=True
    ):
        result[leaf] = gram(j1, j2, kind)
    return result


def _sum_positions(pairs: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[n1 T, n2 T, ...] -> [n1, n2, ...]."""
    return pairs.reshape(shape).sum((1, 3)) if shape[1] > 1 else pairs


def _by_position(signals: jax.Array) -> jax.Array:
    """[n, R, T, O] -> [n T, R, O]."""
    n, rows, positions, outputs = signals.shape
    return jnp.swapaxes(signals, 1, 2).reshape(n * positions, rows, outputs)
