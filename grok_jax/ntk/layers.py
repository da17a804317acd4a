"""Finds the layers of a function: where leaves are multiplied, looked up or added."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grok_jax.ntk.jaxprs import (
    FlatJaxpr,
    Statement,
    Value,
    is_look_up,
    is_variable,
    numbers_in,
)

_REINDEXINGS = {"reshape", "transpose", "squeeze", "broadcast_in_dim", "copy"}
_REINDEXINGS |= {"convert_element_type", "neg"}


class LeafView(NamedTuple):
    """A value with the entries of one leaf, rearranged and scaled."""

    leaf: int
    path: tuple[str, ...]  # how it was rearranged; equal for equal layouts
    varying: tuple[int, ...] | None  # axes kept by a broadcast; None: not broadcast
    scales: tuple[tuple[str, Value], ...] = ()  # ("mul" or "div", scalar)


class Product(NamedTuple):
    """A product (or look-up) of a leaf, with positions T, inputs I and outputs O."""

    statement: int  # its index in the jaxpr; the probe is added to its output
    other: Value  # the operand that is not the leaf
    scales: tuple[tuple[str, Value], ...]
    layout: tuple[Any, ...]  # equal layouts may be concatenated along T
    input_axes: tuple[int, ...]  # of the other operand: positions, then inputs
    position_axes: tuple[int, ...]  # of the product
    output_axes: tuple[int, ...]  # of the product
    sizes: tuple[int, int, int]  # T, I, O
    vocabulary: int | None = None  # rows of the table in a look-up
    clip: bool = False


class Layer(NamedTuple):
    """A leaf, its products, and the bias leaf that is added to all of them."""

    weight: int
    products: tuple[Product, ...]
    bias: int | None = None

    @property
    def positions(self) -> int:
        """T, summed over all products."""
        return sum(product.sizes[0] for product in self.products)

    @property
    def is_lookup(self) -> bool:
        return self.products[0].vocabulary is not None


def find_layers(flat: FlatJaxpr, leaves: int) -> tuple[list[Layer], list[int]]:
    """Finds layers among the first `leaves` inputs, and leaves that need a Jacobian.

    A leaf that the function does not use is in neither list.
    """
    views = {v: LeafView(i, (), None) for i, v in enumerate(flat.inputs[:leaves])}
    products: dict[int, list[Product]] = defaultdict(list)
    additions: dict[int, list[tuple[Product, LeafView]]] = defaultdict(list)
    writers: dict[int, Product] = {}  # value -> the product that writes it
    opaque = {views[v].leaf for v in flat.outputs if is_variable(v) and v in views}
    readers = Counter(
        v for statement in flat.statements for v in numbers_in(statement.inputs)
    )
    readers.update(numbers_in(flat.outputs))

    for index, statement in enumerate(flat.statements):
        seen = [
            (i, views[v])
            for i, v in enumerate(statement.inputs)
            if is_variable(v) and v in views
        ]
        if not seen:
            continue
        place, view = seen[0]
        only = len(seen) == 1
        if only and (moved := _follow(statement, place, view)) is not None:
            views[statement.outputs[0]] = moved
        elif (
            only and (product := _as_product(statement, index, place, view)) is not None
        ):
            products[view.leaf].append(product)
            writers[statement.outputs[0]] = product
        elif only and (
            product := _as_bias_of(statement, place, view, writers, readers)
        ):
            additions[view.leaf].append((product, view))
        else:
            scaled = _scaled(statement, seen)
            if scaled is not None:
                views[statement.outputs[0]] = scaled
            opaque |= {
                v.leaf for _, v in seen if scaled is None or v.leaf != scaled.leaf
            }

    layers = [
        Layer(leaf, tuple(found))
        for leaf, found in products.items()
        if leaf not in opaque | set(additions) and len({p.layout for p in found}) == 1
    ]
    for leaf, added in additions.items():
        if leaf in opaque or leaf in products or len({view for _, view in added}) > 1:
            continue
        for i, layer in enumerate(layers):
            if layer.bias is None and layer.products == tuple(p for p, _ in added):
                layers[i] = layer._replace(bias=leaf)
    done = {i for layer in layers for i in (layer.weight, layer.bias)}
    touched = opaque | set(products) | set(additions)
    return layers, sorted(touched - done)


def _follow(statement: Statement, place: int, view: LeafView) -> LeafView | None:
    """The view after a rearrangement; None if the statement is something else."""
    name = statement.eqn.primitive.name
    if view.varying is not None or name not in _REINDEXINGS:
        return None
    (out,), source = statement.eqn.outvars, statement.eqn.invars[0].aval
    if name == "convert_element_type":
        both = jnp.issubdtype(source.dtype, jnp.floating) and jnp.issubdtype(
            out.aval.dtype, jnp.floating
        )
        return view if both else None
    if name == "neg":
        return view._replace(scales=(*view.scales, ("neg", 0)))
    path = (*view.path, f"{name}{out.aval.shape}{sorted(statement.eqn.params.items())}")
    if out.aval.size == source.size:
        return view._replace(path=path)
    if name != "broadcast_in_dim" or view.scales:
        return None
    kept = statement.eqn.params["broadcast_dimensions"]
    varying = tuple(k for k, size in zip(kept, source.shape, strict=True) if size > 1)
    return view._replace(path=path, varying=varying)


def _scaled(
    statement: Statement, seen: Sequence[tuple[int, LeafView]]
) -> LeafView | None:
    """The view after a multiplication or division by a scalar."""
    name = statement.eqn.primitive.name
    for place, view in seen:
        other = 1 - place
        if (
            view.varying is None
            and (name == "mul" or (name == "div" and place == 0))
            and statement.eqn.invars[other].aval.shape == ()
            and statement.eqn.invars[place].aval.shape != ()
            and all(i != other or v.leaf != view.leaf for i, v in seen)
        ):
            return view._replace(scales=(*view.scales, (name, statement.inputs[other])))
    return None


def _as_product(
    statement: Statement, index: int, place: int, view: LeafView
) -> Product | None:
    if view.varying is not None:
        return None
    if statement.eqn.primitive.name == "dot_general":
        return _as_dot(statement, index, place, view)
    looks_up = is_look_up(statement.eqn) or statement.eqn.primitive.name == "gather"
    if looks_up and place == 0 and not view.scales:
        return _as_lookup(statement, index, view)
    return None


def _as_dot(
    statement: Statement, index: int, place: int, view: LeafView
) -> Product | None:
    contracting, batch = statement.eqn.params["dimension_numbers"]
    if batch[0]:
        return None
    weight, other = (statement.eqn.invars[i].aval for i in (place, 1 - place))
    # The weight's axes in ascending order, each with its axis of the other operand.
    pairs = sorted(zip(contracting[place], contracting[1 - place], strict=True))
    ins, other_ins = tuple(p for p, _ in pairs), tuple(q for _, q in pairs)
    positions = tuple(i for i in range(other.ndim) if i not in other_ins)
    outs = weight.ndim - len(ins)
    first = 0 if place == 1 else outs  # first position axis of the product
    position_axes = tuple(range(first, first + len(positions)))
    axes = range(len(positions) + outs)
    return Product(
        statement=index,
        other=statement.inputs[1 - place],
        scales=view.scales,
        layout=("product", view.path, ins),
        input_axes=positions + other_ins,
        position_axes=position_axes,
        output_axes=tuple(i for i in axes if i not in position_axes),
        sizes=(
            math.prod(other.shape[i] for i in positions),
            math.prod(weight.shape[i] for i in ins),
            math.prod(s for i, s in enumerate(weight.shape) if i not in ins),
        ),
    )


def _as_lookup(statement: Statement, index: int, view: LeafView) -> Product | None:
    """A look-up of table rows: a product with one-hot inputs that are never formed."""
    table, rows = (v.aval for v in statement.eqn.invars[:2])
    out, axis, clip = statement.eqn.outvars[0].aval, 0, False
    row_axes = range(rows.ndim, out.ndim)  # the output axes of one row
    if not is_look_up(statement.eqn):
        numbers = statement.eqn.params["dimension_numbers"]
        axis, *more = numbers.start_index_map or (-1,)
        whole = [1 if i == axis else size for i, size in enumerate(table.shape)]
        clip = statement.eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP
        row_axes = numbers.offset_dims
        if (
            more
            or numbers.collapsed_slice_dims != (axis,)
            or numbers.operand_batching_dims
            or list(statement.eqn.params["slice_sizes"]) != whole
        ):
            return None
    positions = tuple(i for i in range(out.ndim) if i not in row_axes)
    return Product(
        statement=index,
        other=statement.inputs[1],
        scales=(),
        layout=("look-up", view.path, axis),
        input_axes=tuple(range(rows.ndim)),
        position_axes=positions,
        output_axes=tuple(row_axes),
        sizes=(
            math.prod(out.shape[i] for i in positions),
            1,
            math.prod(out.shape[i] for i in row_axes),
        ),
        vocabulary=table.shape[axis],
        clip=clip,
    )


def _as_bias_of(
    statement: Statement,
    place: int,
    view: LeafView,
    writers: dict[int, Product],
    readers: Counter[int],
) -> Product | None:
    """The product to which this statement adds the view, if nothing else reads it."""
    other = statement.inputs[1 - place] if len(statement.inputs) == 2 else None
    if statement.eqn.primitive.name not in ("add", "add_any") or view.scales:
        return None
    if not isinstance(other, int) or other not in writers or readers[other] > 1:
        return None
    product, shape = writers[other], statement.eqn.outvars[0].aval.shape
    added, whole = (statement.eqn.invars[i].aval.shape for i in (place, 1 - place))
    if product.vocabulary is not None or whole != shape or len(added) != len(shape):
        return None
    varying = {i for i, size in enumerate(added) if size > 1}
    if view.varying is not None:
        varying = set(view.varying)
    return (
        product if varying == {i for i in product.output_axes if shape[i] > 1} else None
    )
