"""Statements in which a parameter is multiplied: products, convolutions, look-ups.

Each is brought into one form, f[b, t, :] = a[b, t, :] W[b]: the other operand as inputs
a [B, T, I], and the gradient of the outcome as signals g [B, T, O]. The gradient of the
weight is then sum_t a[b, t] g[b, t]^T, [B, I, O], whatever the statement was.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.ntk.jaxprs import Statement, Value, is_look_up

Place = tuple[int, ...]
"""The index of a statement; in a scan, after the place of the scan."""


class Loop(NamedTuple):
    """A scan around a product."""

    length: int
    stacked: bool  # whether each turn has a slice of the leaf of its own, or all of it


class Part(NamedTuple):
    """Where a leaf lies in a concatenation of leaves."""

    axis: int
    start: int
    size: int


class LeafView(NamedTuple):
    """A value with the entries of one leaf, rearranged and scaled."""

    leaf: int
    path: tuple[str, ...]  # how it was rearranged; equal for equal layouts
    axes: tuple[int, ...] | None  # then transposed: where its axes were; None: not
    varying: tuple[int, ...] | None  # axes kept by a broadcast; None: not broadcast
    scales: tuple[tuple[str, Value], ...] = ()  # ("mul" or "div", scalar)
    loops: tuple[Loop, ...] = ()  # outermost first

    def before(self, axes: Sequence[int]) -> tuple[int, ...]:
        """Where these axes were before the transposition."""
        return tuple(axes) if self.axes is None else tuple(self.axes[i] for i in axes)


class Sizes(NamedTuple):
    """Of a product f[b, t, :] = a[b, t, :] W[b]."""

    batch: int  # B: independent products, such as the groups of a convolution
    positions: int  # T: how often one sample is multiplied by the weight
    inputs: int  # I
    outputs: int  # O


class Product(NamedTuple):
    """One use of a leaf, with positions that it acts on."""

    name: str  # "product", "convolution" or "look-up"
    place: Place
    part: Part | None  # of the operand, which the leaf may be only a part of
    other: Value  # the operand that is not the leaf
    scales: tuple[tuple[str, Value], ...]
    layout: tuple[Any, ...]  # equal layouts may be concatenated along T
    turned: tuple[Any, ...]  # the layout of which this one is the transpose
    sizes: Sizes
    inputs: Callable[[Array], Array]  # the other operand -> [B, T, I]
    signals: Callable[[Array], Array]  # the gradient of the output -> [B, T, O]
    bias_axes: tuple[int, ...]  # of the output: those of B and O
    loops: tuple[Loop, ...]  # those of the view; `sizes` are those of one turn
    vocabulary: int | None = None  # rows of the table in a look-up
    clip: bool = False

    @property
    def key(self) -> tuple[Place, Part | None]:
        """What tells it from every other product."""
        return self.place, self.part

    def is_transpose_of(self, other: "Product") -> bool:
        """Whether its I lies where the other's O lies, and its O where its I."""
        return bool(self.turned) and self.turned[:4] == other.layout[-4:]

    @property
    def all_sizes(self) -> Sizes:
        """Those of all turns: slices count as B, turns with the whole leaf as T."""
        batch, positions = self.sizes[:2]
        for loop in self.loops:
            batch *= loop.length if loop.stacked else 1
            positions *= 1 if loop.stacked else loop.length
        return self.sizes._replace(batch=batch, positions=positions)

    def join(self, factor: Array, rows: bool) -> Array:
        """A factor of all turns, [L..., B, T, F], as [B, T, F]; with `rows`,
        [L..., R, B, T, F] as [R, B, T, F]."""
        count = len(self.loops)
        axes = [i for i in range(factor.ndim) if i >= count]
        lead = axes[:1] if rows else []
        batch, positions, last = axes[len(lead) :]
        stacked = [i for i, loop in enumerate(self.loops) if loop.stacked]
        turns = [i for i in range(count) if i not in stacked]
        moved = jnp.transpose(factor, (*lead, *stacked, batch, *turns, positions, last))
        sizes = self.all_sizes
        return moved.reshape(*moved.shape[: len(lead)], *sizes[:2], factor.shape[-1])


def as_product(
    statement: Statement,
    place: Place,
    operand: int,
    view: LeafView,
    part: Part | None = None,
) -> Product | None:
    """The statement's product with the leaf that is its input number `operand`, or a
    part of it; None if it is none."""
    name = statement.eqn.primitive.name
    if view.varying is not None:
        return None
    if name == "dot_general":
        return _as_dot(statement, place, operand, view, part)
    if part is not None:
        return None
    if name == "conv_general_dilated" and operand == 1:
        return _as_convolution(statement, place, view)
    looks_up = is_look_up(statement.eqn) or name == "gather"
    if looks_up and operand == 0 and not view.scales:
        return _as_look_up(statement, place, view)
    return None


def inputs_of(product: Product, read: Callable[[Value], Any], dtype: Any) -> Array:
    """Inputs [B, T, I]; for a look-up the row numbers, -1 where none is read."""
    other = product.inputs(read(product.other))
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


def _arrange(
    order: tuple[int, ...],
    shape: tuple[int, ...],
    value: Array,
    part: Part | None = None,
) -> Array:
    if part is not None:
        stop = part.start + part.size
        value = jax.lax.slice_in_dim(value, part.start, stop, axis=part.axis)
    return jnp.transpose(value, order).reshape(shape)


def _as_dot(
    statement: Statement,
    place: Place,
    operand: int,
    view: LeafView,
    part: Part | None,
) -> Product | None:
    contracting, batch = statement.eqn.params["dimension_numbers"]
    weight, other = (statement.eqn.invars[i].aval for i in (operand, 1 - operand))
    # The leaf's axes in ascending order, each with its axis of the other operand.
    pairs = sorted(
        zip(contracting[operand], contracting[1 - operand], strict=True),
        key=lambda pair: view.before(pair[:1]),
    )
    ins, other_ins = tuple(p for p, _ in pairs), tuple(q for _, q in pairs)
    groups, other_groups = tuple(batch[operand]), tuple(batch[1 - operand])
    positions = tuple(i for i in range(other.ndim) if i not in other_ins + other_groups)
    free = tuple(i for i in range(weight.ndim) if i not in ins + groups)
    # The axes of the outcome: those of the batch, then of either operand.
    first = len(groups) + (0 if operand == 1 else len(free))
    position_axes = tuple(range(first, first + len(positions)))
    axes = range(len(groups) + len(positions) + len(free))
    bias_axes = tuple(i for i in axes if i not in position_axes)
    outs = sorted(
        zip(free, bias_axes[len(groups) :], strict=True),
        key=lambda pair: view.before(pair[:1]),
    )
    free = tuple(axis for axis, _ in outs)
    bias_axes = bias_axes[: len(groups)] + tuple(axis for _, axis in outs)
    shape, of_inputs, of_signals = list(weight.shape), None, None
    if part is not None:
        shape[part.axis] = part.size
        if part.axis in groups:
            return None
        if part.axis in ins:
            of_inputs = part._replace(axis=other_ins[ins.index(part.axis)])
        else:
            axis = bias_axes[len(groups) + free.index(part.axis)]
            of_signals = part._replace(axis=axis)
    sizes = Sizes(
        math.prod(shape[i] for i in groups),
        math.prod(other.shape[i] for i in positions),
        math.prod(shape[i] for i in ins),
        math.prod(shape[i] for i in free),
    )
    order = bias_axes[: len(groups)] + position_axes + bias_axes[len(groups) :]
    return Product(
        name="product",
        place=place,
        part=part,
        other=statement.inputs[1 - operand],
        scales=view.scales,
        loops=view.loops,
        layout=_layout(view, ins, free, groups),
        turned=_layout(view, free, ins, groups),
        sizes=sizes,
        inputs=functools.partial(
            _arrange, other_groups + positions + other_ins, sizes[:3], part=of_inputs
        ),
        signals=functools.partial(
            _arrange, order, (*sizes[:2], sizes.outputs), part=of_signals
        ),
        bias_axes=bias_axes,
    )


def _layout(
    view: LeafView, ins: tuple[int, ...], outs: tuple[int, ...], groups: Any = ()
) -> tuple[Any, ...]:
    """How I, O and B lie in the leaf."""
    return (view.path, *(view.before(axes) for axes in (ins, outs, groups)))


def _as_convolution(
    statement: Statement, place: Place, view: LeafView
) -> Product | None:
    """A convolution: a product with patches, one for each place of the kernel."""
    params = statement.eqn.params
    if params["batch_group_count"] != 1:
        return None
    _, kernel, out = params["dimension_numbers"]
    weight = statement.eqn.invars[1].aval.shape
    (result,) = statement.eqn.outvars
    groups = params["feature_group_count"]
    outputs = weight[kernel[0]]
    sizes = Sizes(
        groups,
        result.aval.size // outputs,
        math.prod(weight) // outputs,
        outputs // groups,
    )

    def signals(grad: Array) -> Array:
        moved = jnp.transpose(grad, (out[0], *out[2:], out[1]))
        moved = moved.reshape(sizes.positions, groups, sizes.outputs)
        return jnp.swapaxes(moved, 0, 1)

    return Product(
        name="convolution",
        place=place,
        part=None,
        other=statement.inputs[0],
        scales=view.scales,
        loops=view.loops,
        layout=("convolution", view.path, view.axes, kernel, groups),
        turned=(),
        sizes=sizes,
        inputs=functools.partial(_patches, params, weight),
        signals=signals,
        bias_axes=(out[1],),
    )


def _patches(params: dict[str, Any], weight: tuple[int, ...], x: Array) -> Array:
    """What a convolution's kernel sees at each place of its output, [B, T, I]."""
    axes, kernel, _ = params["dimension_numbers"]
    strides, dilation = params["window_strides"], params["rhs_dilation"]
    groups = params["feature_group_count"]
    edges = zip(params["padding"], params["lhs_dilation"], strict=True)
    x = jnp.transpose(x, (axes[0], *axes[2:], axes[1]))
    inner = [(low, high, gap - 1) for (low, high), gap in edges]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
    windows = [weight[axis] for axis in kernel[2:]]
    counts = [
        (size - (window - 1) * gap - 1) // stride + 1
        for size, window, gap, stride in zip(
            x.shape[1:-1], windows, dilation, strides, strict=True
        )
    ]

    def seen(place: tuple[int, ...]) -> Array:
        start = [i * gap for i, gap in zip(place, dilation, strict=True)]
        stop = [
            low + (count - 1) * stride + 1
            for low, count, stride in zip(start, counts, strides, strict=True)
        ]
        return jax.lax.slice(
            x, (0, *start, 0), (len(x), *stop, x.shape[-1]), (1, *strides, 1)
        )

    parts = [seen(place) for place in itertools.product(*map(range, windows))]
    patches = jnp.concatenate(parts, axis=-1)
    patches = patches.reshape(-1, len(parts), groups, x.shape[-1] // groups)
    return jnp.moveaxis(patches, 2, 0).reshape(groups, patches.shape[0], -1)


def _as_look_up(statement: Statement, place: Place, view: LeafView) -> Product | None:
    """A look-up of table rows: a product with one-hot inputs that are never formed."""
    table, rows = (v.aval for v in statement.eqn.invars[:2])
    out, axis, clip = statement.eqn.outvars[0].aval, 0, False
    row_axes = tuple(range(rows.ndim, out.ndim))  # the output axes of one row
    if not is_look_up(statement.eqn):
        numbers = statement.eqn.params["dimension_numbers"]
        axis, *more = numbers.start_index_map or (-1,)
        whole = [1 if i == axis else size for i, size in enumerate(table.shape)]
        clip = statement.eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP
        row_axes = tuple(numbers.offset_dims)
        if (
            more
            or numbers.collapsed_slice_dims != (axis,)
            or numbers.operand_batching_dims
            or list(statement.eqn.params["slice_sizes"]) != whole
        ):
            return None
    positions = tuple(i for i in range(out.ndim) if i not in row_axes)
    others = tuple(i for i in range(table.ndim) if i != axis)
    sizes = Sizes(
        1,
        math.prod(out.shape[i] for i in positions),
        1,
        math.prod(out.shape[i] for i in row_axes),
    )
    return Product(
        name="look-up",
        place=place,
        part=None,
        other=statement.inputs[1],
        scales=(),
        loops=view.loops,
        layout=("look-up", *_layout(view, (axis,), others)),
        turned=_layout(view, others, (axis,)),
        sizes=sizes,
        inputs=lambda rows: rows.reshape(sizes[:3]),
        signals=functools.partial(
            _arrange, positions + row_axes, (1, sizes.positions, sizes.outputs)
        ),
        bias_axes=row_axes,
        vocabulary=table.shape[axis],
        clip=clip,
    )
