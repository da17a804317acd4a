"""Finds the layers of a function: where leaves are multiplied, looked up or added."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from grok_jax.ntk.inputs import Kind
from grok_jax.ntk.jaxprs import (
    FlatJaxpr,
    Statement,
    Value,
    constants_and_state,
    is_variable,
    numbers_in,
)
from grok_jax.ntk.products import (
    LeafView,
    Loop,
    Part,
    Place,
    Product,
    Sizes,
    as_product,
)

_REINDEXINGS = {"reshape", "transpose", "squeeze", "broadcast_in_dim", "copy"}
_REINDEXINGS |= {"convert_element_type", "neg"}


class Layer(NamedTuple):
    """A leaf, its products, and the bias leaf that is added to all of them."""

    weight: int
    products: tuple[Product, ...]
    turned: tuple[Product, ...] = ()
    """Products with the transposed leaf, as of an embedding that is read out too."""
    bias: int | None = None
    rule: Literal["gram", "gradient"] = "gram"
    """`gram`: inner products of inputs and of signals, for each pair of positions;
    `gradient`: their sum over positions, which is the weight's gradient."""

    @property
    def uses(self) -> list[tuple[Product, ...]]:
        """Its products, and the transposed ones if there are any."""
        return [products for products in (self.products, self.turned) if products]

    @property
    def positions(self) -> int:
        """T of all its products."""
        return sum(sizes_of(products).positions for products in self.uses)


def sizes_of(products: Sequence[Product]) -> Sizes:
    """Those of products in one layout, with T summed over all of them."""
    sizes = [product.all_sizes for product in products]
    return sizes[0]._replace(positions=sum(s.positions for s in sizes))


def is_lookup(products: Sequence[Product]) -> bool:
    """Whether products in one layout read rows of a table."""
    return products[0].vocabulary is not None


def multiplications(
    layer: Layer, rows: int, kind: Kind, pairs: int, samples: int
) -> tuple[int, int]:
    """Of a kernel of so many pairs of samples by the rules `gram` and `gradient`: over
    pairs of positions, or over the gradients' entries, which are formed first."""
    combinations = rows * rows if kind == "full" else rows
    gram, gradient, between = 0, 0, 2 * pairs
    for products in layer.uses:
        batch, positions, inputs, outputs = sizes_of(products)
        size = batch * (products[0].vocabulary or inputs) * outputs
        gram += pairs * batch * positions**2 * (inputs + combinations * outputs)
        gradient = gradient or pairs * combinations * size
        gradient += samples * rows * positions * size
        between *= positions
    if layer.turned:
        inputs, outputs = (sizes_of(products).inputs for products in layer.uses)
        gram += between * (rows * (inputs + outputs) + combinations)
    return gram, gradient


Joint = list[tuple[LeafView, Part | None]]
"""A value made of leaves: one as it is (None), or a concatenation of parts."""


class Uses(NamedTuple):
    """What was found of the leaves."""

    products: dict[int, list[Product]]
    additions: dict[int, list[tuple[Product, LeafView]]]
    opaque: set[int]


def find_layers(flat: FlatJaxpr, leaves: int) -> tuple[list[Layer], list[int]]:
    """Finds layers among the first `leaves` inputs, and leaves that need a Jacobian.

    A leaf that the function does not use is in neither list.
    """
    uses = Uses(defaultdict(list), defaultdict(list), set())
    views = {v: LeafView(i, (), None, None) for i, v in enumerate(flat.inputs[:leaves])}
    _find_uses(flat, views, uses, ())
    products, additions, opaque = uses
    layers = [
        layer
        for leaf, found in products.items()
        if leaf not in opaque | set(additions) and (layer := _layer(leaf, found))
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


def _layer(leaf: int, found: Sequence[Product]) -> Layer | None:
    """The layer of a leaf's products; None if there are layouts that do not fit."""
    layouts: dict[Any, list[Product]] = {}
    for product in found:
        layouts.setdefault(product.layout, []).append(product)
    first, *others = sorted(layouts.values(), key=is_lookup)  # a bias is of the first
    if not others:
        return Layer(leaf, tuple(first))
    second, *more = others
    plain = all(sizes_of(products).batch == 1 for products in (first, second))
    if more or not plain or not first[0].is_transpose_of(second[0]):
        return None
    return Layer(leaf, tuple(first), tuple(second))


def _find_uses(
    flat: FlatJaxpr, views: dict[Value, LeafView], uses: Uses, around: Place
) -> None:
    """Follows the views through the statements; `around` is the place of the scan."""
    products, additions, opaque = uses
    held: dict[Value, Joint] = {v: [(view, None)] for v, view in views.items()}
    writers: dict[Value, Product] = {}  # value -> the product that writes it
    readers = Counter(
        v for statement in flat.statements for v in numbers_in(statement.inputs)
    )
    readers.update(numbers_in(flat.outputs))
    for index, statement in enumerate(flat.statements):
        joints = [
            (i, held[v])
            for i, v in enumerate(statement.inputs)
            if is_variable(v) and v in held
        ]
        if not joints:
            continue
        (operand, joint), only, place = joints[0], len(joints) == 1, (*around, index)
        seen = [(i, view) for i, joint in joints for view, _ in joint]
        view = joint[0][0]
        if together := _concatenation(statement, joints):
            held[statement.outputs[0]] = together
        elif only and (found := _products(statement, place, operand, joint)):
            for (part, _), product in zip(joint, found, strict=True):
                products[part.leaf].append(product)
            if joint == [(view, None)]:
                writers[statement.outputs[0]] = found[0]
        elif any(part is not None for _, joint in joints for _, part in joint):
            opaque |= {v.leaf for _, v in seen}
        elif statement.body is not None:
            entering, left = _enter(statement, seen)
            opaque |= left
            _find_uses(statement.body, entering, uses, place)
        elif only and (moved := _follow(statement, operand, view)) is not None:
            held[statement.outputs[0]] = [(moved, None)]
        elif only and (
            product := _as_bias_of(statement, operand, view, writers, readers)
        ):
            additions[view.leaf].append((product, view))
        else:
            scaled = _scaled(statement, seen)
            if scaled is not None:
                held[statement.outputs[0]] = [(scaled, None)]
            opaque |= {
                v.leaf for _, v in seen if scaled is None or v.leaf != scaled.leaf
            }
    for value in numbers_in(flat.outputs):
        opaque |= {view.leaf for view, _ in held.get(value, [])}


def _concatenation(
    statement: Statement, joints: Sequence[tuple[int, Joint]]
) -> Joint | None:
    """A concatenation of leaves and nothing else; None if the statement is none."""
    if statement.eqn.primitive.name != "concatenate" or not (
        len(joints) == len(statement.inputs)
        and all(
            part is None and view.varying is None
            for _, joint in joints
            for view, part in joint
        )
    ):
        return None
    axis, start, found = statement.eqn.params["dimension"], 0, []
    for (_, [(view, _)]), operand in zip(joints, statement.eqn.invars, strict=True):
        size = operand.aval.shape[axis]
        found.append((view, Part(axis, start, size)))
        start += size
    return found


def _products(
    statement: Statement, place: Place, operand: int, joint: Joint
) -> list[Product] | None:
    """The product of each leaf in the operand; None if one of them has none."""
    found = [as_product(statement, place, operand, *part) for part in joint]
    known = [product for product in found if product is not None]
    return known if len(known) == len(found) else None


def _enter(
    statement: Statement, seen: Sequence[tuple[int, LeafView]]
) -> tuple[dict[Value, LeafView], set[int]]:
    """The views of a scan's body, and the leaves that it does not follow: those in the
    carried state, and those rearranged so that turns do not see slices of the leaf."""
    params, body = statement.eqn.params, statement.body
    assert body is not None
    consts, carried = constants_and_state(statement.eqn)
    state = consts + carried
    views, left = {}, set()
    for place, view in seen:
        stacked = place >= state
        plain = view.varying is None and not view.scales
        moved = view.path or view.axes
        if not plain or consts <= place < state or (stacked and moved):
            left.add(view.leaf)
            continue
        path = ("slice",) if stacked else view.path
        loops = (*view.loops, Loop(params["length"], stacked))
        views[body.inputs[place]] = view._replace(path=path, loops=loops)
    return views, left


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
    if name == "transpose":
        axes = view.before(statement.eqn.params["permutation"])
        return view._replace(axes=None if axes == tuple(sorted(axes)) else axes)
    path = (
        *view.path,
        str(view.axes),
        f"{name}{out.aval.shape}{sorted(statement.eqn.params.items())}",
    )
    if out.aval.size == source.size:
        return view._replace(path=path, axes=None)
    if name != "broadcast_in_dim" or view.scales:
        return None
    kept = statement.eqn.params["broadcast_dimensions"]
    varying = tuple(k for k, size in zip(kept, source.shape, strict=True) if size > 1)
    return view._replace(path=path, axes=None, varying=varying)


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


def _as_bias_of(
    statement: Statement,
    place: int,
    view: LeafView,
    writers: dict[Value, Product],
    readers: Counter[Value],
) -> Product | None:
    """The product to which this statement adds the view, if nothing else reads it."""
    other = statement.inputs[1 - place] if len(statement.inputs) == 2 else None
    if statement.eqn.primitive.name not in ("add", "add_any") or view.scales:
        return None
    if not isinstance(other, int) or other not in writers or readers[other] > 1:
        return None
    if writers[other].loops != view.loops:
        return None
    product, shape = writers[other], statement.eqn.outvars[0].aval.shape
    added, whole = (statement.eqn.invars[i].aval.shape for i in (place, 1 - place))
    if product.vocabulary is not None or whole != shape or len(added) != len(shape):
        return None
    varying = {i for i, size in enumerate(added) if size > 1}
    if view.varying is not None:
        varying = set(view.varying)
    return (
        product if varying == {i for i in product.bias_axes if shape[i] > 1} else None
    )
