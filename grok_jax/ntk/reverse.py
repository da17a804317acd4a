"""Differentiates a flat jaxpr backwards and keeps what layers need on the way.

`jax.vjp` knows no layers: it adds up the gradient of a weight wherever the weight is
used. Here each statement is differentiated by itself, a weight is never differentiated
at all, and the input and the signal of its product are handed out instead.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.ntk.jaxprs import (
    FlatJaxpr,
    Statement,
    Value,
    constants_and_state,
    is_variable,
    literal,
)
from grok_jax.ntk.products import Part, Place, Product, inputs_of

Cotangents = list[Array | None]
"""One for each value, [R, ...]; None: zero."""

Key = tuple[Place, Part | None]
"""Of a product: several leaves that are concatenated have one place."""

Factors = dict[Key, tuple[Array, Array]]
"""Of each product: inputs [B, T, I] and signals [R, B, T, O]. In a scan of length L
these are [L, B, T, I] and [L, R, B, T, O]."""


class Pass(NamedTuple):
    """A function's outputs, and its derivative."""

    outputs: list[Any]
    pull: Callable[[Cotangents], tuple[Cotangents, Factors]]
    """of the outputs -> of the arguments, and factors"""


def differentiate(
    flat: FlatJaxpr,
    arguments: Sequence[Any],
    active: Sequence[bool],
    products: Sequence[Product],
    rows: int,
    dtype: Any,
    depth: int = 0,
) -> Pass:
    """Runs `flat`; `pull` differentiates with respect to the active arguments.

    Args:
      products: that lie in `flat` or in its scans.
      rows: R, the number of cotangents of each output.
      dtype: of the factors.
      depth: of `flat` among nested scans.
    """
    env = dict(zip(flat.inputs, arguments, strict=True)) | flat.constants
    live = {v for v, on in zip(flat.inputs, active, strict=True) if on}
    inside: dict[int, list[Product]] = {}
    for product in products:
        inside.setdefault(product.place[depth], []).append(product)
    inputs: dict[Key, Array] = {}
    pulls: list[Any] = []

    def read(value: Value) -> Any:
        return env[value] if is_variable(value) else literal(value)

    for index, statement in enumerate(flat.statements):
        own = inside.get(index, [])
        moving = [is_variable(v) and v in live for v in statement.variables]
        if any(len(p.place) > depth + 1 for p in own):
            values = [read(v) for v in statement.inputs]
            outputs, pull = _scan(statement, values, live, own, (rows, dtype, depth))
        else:
            known = [read(v) for v in statement.variables]
            outputs, pull = _statement(statement, known, moving)
            inputs |= {p.key: inputs_of(p, read, dtype) for p in own}
        pulls.append(pull)
        env.update(zip(statement.outputs, outputs, strict=True))
        if own or any(moving):
            pairs = zip(statement.outputs, statement.eqn.outvars, strict=True)
            live |= {v for v, out in pairs if _is_inexact(out.aval)}

    def pull(cotangents: Cotangents) -> tuple[Cotangents, Factors]:
        found: dict[Value, Array] = {}
        factors: Factors = {}

        def add(value: Value, cotangent: Array | None) -> None:
            if cotangent is not None and is_variable(value) and value in live:
                before = found.get(value)
                found[value] = cotangent if before is None else before + cotangent

        for value, cotangent in zip(flat.outputs, cotangents, strict=True):
            add(value, cotangent)
        for index in reversed(range(len(flat.statements))):
            statement, own = flat.statements[index], inside.get(index, [])
            arrived: Cotangents = [found.pop(v, None) for v in statement.outputs]
            if not own and all(c is None for c in arrived):
                continue
            filled = [
                zeros(v.aval, rows) if c is None else c
                for c, v in zip(arrived, statement.eqn.outvars, strict=True)
            ]
            for product in own:
                if len(product.place) == depth + 1:
                    signals = jax.vmap(product.signals)(filled[0]).astype(dtype)
                    factors[product.key] = inputs[product.key], signals
            if pulls[index] is None:
                continue
            pulled, within = pulls[index](filled)
            factors |= within
            for value, cotangent in pulled.items():
                add(value, cotangent)
        return [found.get(v) for v in flat.inputs], factors

    return Pass([read(v) for v in flat.outputs], pull)


def zeros(aval: Any, rows: int) -> Array:
    """Zeros [R, ...] that vary over the same mesh axes."""
    return varying(jnp.zeros((rows, *aval.shape), aval.dtype), mesh_axes(aval))


def mesh_axes(aval: Any) -> frozenset[Any]:
    """The axes of an enclosing `shard_map` over which a value of this type varies."""
    kind = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; vma before
    return getattr(kind, "varying", None) or getattr(aval, "vma", None) or frozenset()


def varying(value: Array, axes: frozenset[Any]) -> Array:
    """The value, typed as varying over the mesh axes."""
    missing = tuple(axes - mesh_axes(jax.typeof(value)))
    if not missing:
        return value
    lax: Any = jax.lax  # its names depend on the version
    if hasattr(lax, "pcast"):
        return lax.pcast(value, missing, to="varying")
    return lax.pvary(value, missing)  # jax 0.8


def _statement(
    statement: Statement, known: Sequence[Any], moving: Sequence[bool]
) -> tuple[list[Any], Any]:
    """Outputs, and cotangents of the outputs -> of the variables that move."""
    if not any(moving):
        return statement(*known), None
    moved = [v for v, on in zip(statement.variables, moving, strict=True) if on]
    floats = [_is_inexact(v.aval) for v in statement.eqn.outvars]

    def pull(cotangents: Sequence[Array]) -> tuple[dict[Value, Array], Factors]:
        given = [c for c, on in zip(cotangents, floats, strict=True) if on]
        return dict(zip(moved, jax.vmap(derivative)(given), strict=True)), {}

    if _is_plain_convolution(statement) and moved == [statement.inputs[0]]:
        kernel = known[statement.variables.index(statement.inputs[1])]
        strided = set(statement.eqn.params["window_strides"]) != {1}
        derivative = (_strided if strided else _convolution)(statement.eqn, kernel)
        return statement(*known), pull

    def function(*given: Any) -> tuple[list[Any], list[Any]]:
        rest = iter(given)
        outputs = statement(
            *(next(rest) if on else k for k, on in zip(known, moving, strict=True))
        )
        return [v for v, on in zip(outputs, floats, strict=True) if on], outputs

    start = [k for k, on in zip(known, moving, strict=True) if on]
    _, derivative, outputs = jax.vjp(function, *start, has_aux=True)
    return outputs, pull


def _is_inexact(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _is_plain_convolution(statement: Statement) -> bool:
    """Whether it is a convolution whose derivative is written out below: one without
    groups that is not transposed; with strides on a CPU only."""
    params = statement.eqn.params
    return (
        statement.eqn.primitive.name == "conv_general_dilated"
        and is_variable(statement.inputs[1])
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and set(params["lhs_dilation"]) == {1}
        and (set(params["window_strides"]) == {1} or jax.default_backend() == "cpu")
    )


def _convolution(eqn: Any, kernel: Array) -> Callable[[list[Array]], tuple[Array]]:
    """The derivative by the images: a convolution with the kernel turned round. XLA's
    CPU is up to three times faster with this one than with that of `jax.vjp`, whose
    kernel has its axes in another order."""
    params = eqn.params
    images, order, result = params["dimension_numbers"]
    turned = jnp.swapaxes(jnp.flip(kernel, order[2:]), *order[:2])
    reach = [
        (kernel.shape[axis] - 1) * gap
        for axis, gap in zip(order[2:], params["rhs_dilation"], strict=True)
    ]
    padding = [
        (far - low, far - high)
        for far, (low, high) in zip(reach, params["padding"], strict=True)
    ]

    def pull(cotangents: list[Array]) -> tuple[Array]:
        pulled = jax.lax.conv_general_dilated(
            cotangents[0],
            turned,
            params["window_strides"],
            padding,
            rhs_dilation=params["rhs_dilation"],
            dimension_numbers=jax.lax.ConvDimensionNumbers(result, order, images),
            precision=params["precision"],
        )
        return (pulled.astype(eqn.invars[0].aval.dtype),)

    return pull


def _strided(eqn: Any, kernel: Array) -> Callable[[list[Array]], tuple[Array]]:
    """The derivative of a convolution with strides by the images: a product for each
    place of the kernel, and their sum. XLA's CPU is two to five times faster with it
    than with a convolution of a dilated image."""
    params = eqn.params
    images, order, result = params["dimension_numbers"]
    windows = [kernel.shape[axis] for axis in order[2:]]
    kernel = jnp.transpose(kernel, (*order[2:], order[1], order[0]))
    shape = eqn.invars[0].aval.shape
    sizes = [shape[axis] for axis in images[2:]]
    back = [0] * len(shape)
    for at, axis in enumerate((images[0], *images[2:], images[1])):
        back[axis] = at

    def pull(cotangents: list[Array]) -> tuple[Array]:
        signal = jnp.transpose(cotangents[0], (result[0], *result[2:], result[1]))
        last, total = signal.ndim - 1, jnp.zeros((), signal.dtype)
        for place in itertools.product(*map(range, windows)):
            part = jax.lax.dot_general(
                signal,
                kernel[place],
                (((last,), (1,)), ((), ())),
                precision=params["precision"],
            )
            edges = [(0, 0, 0)]
            for i, at in enumerate(place):
                stride = params["window_strides"][i]
                low = at * params["rhs_dilation"][i] - params["padding"][i][0]
                end = low + (signal.shape[1 + i] - 1) * stride + 1
                edges.append((low, sizes[i] - end, stride - 1))
            padded = jax.lax.pad(part, jnp.zeros((), part.dtype), [*edges, (0, 0, 0)])
            total = padded if total.ndim == 0 else total + padded
        return (jnp.transpose(total, back).astype(eqn.invars[0].aval.dtype),)

    return pull


def _scan(
    statement: Statement,
    values: Sequence[Any],
    live: set[Value],
    products: Sequence[Product],
    about: tuple[int, Any, int],
) -> tuple[list[Any], Any]:
    """A scan with layers in it: each turn is run again when its derivative is due."""
    params, body, (rows, dtype, depth) = statement.eqn.params, statement.body, about
    assert body is not None
    length, backwards = params["length"], params["reverse"]
    first, carried = constants_and_state(statement.eqn)
    last = first + carried
    fixed, start, given = values[:first], values[first:last], values[last:]
    active = [is_variable(v) and v in live for v in statement.inputs]
    active[first:last] = [_is_inexact(v.aval) for v in statement.eqn.invars[first:last]]
    on = [i for i, moves in enumerate(active) if moves]

    def turn(carry: Sequence[Any], x: Sequence[Any]) -> Pass:
        arguments = [*fixed, *carry, *x]
        return differentiate(body, arguments, active, products, rows, dtype, depth + 1)

    def forward(carry: list[Any], x: list[Any]) -> Any:
        outputs = turn(carry, x).outputs
        return outputs[: last - first], (outputs[last - first :], carry)

    final, (stacked, before) = jax.lax.scan(
        forward, list(start), list(given), length, backwards
    )

    def pull(cotangents: Sequence[Array]) -> tuple[dict[Value, Array], Factors]:
        def back(sums: Any, item: Any) -> Any:
            of_fixed, of_state = sums
            carry, x, of_outputs = item
            pulled, factors = turn(carry, x).pull([*of_state, *of_outputs])
            total = {
                i: zeros(jax.typeof(v), rows) if pulled[i] is None else pulled[i]
                for i, v in enumerate([*fixed, *carry, *x])
                if i in on
            }
            of_fixed = {i: of_fixed[i] + total[i] for i in of_fixed}
            of_state = [total.get(i, c) for i, c in enumerate(of_state, start=first)]
            of_given = {i: total[i] for i in on if i >= last}
            return (of_fixed, of_state), (of_given, factors)

        of_fixed = {i: zeros(jax.typeof(fixed[i]), rows) for i in on if i < first}
        of_state = list(cotangents[: last - first])
        of_outputs = [jnp.moveaxis(c, 0, 1) for c in cotangents[last - first :]]
        (of_fixed, of_state), (of_given, factors) = jax.lax.scan(
            back,
            (of_fixed, of_state),
            (before, list(given), of_outputs),
            length,
            not backwards,
        )
        pulled = of_fixed | dict(enumerate(of_state, start=first))
        pulled |= {i: jnp.moveaxis(c, 0, 1) for i, c in of_given.items()}
        found: dict[Value, Array] = {}
        for i in on:
            value = statement.inputs[i]
            if is_variable(value):
                found[value] = found.get(value, 0) + pulled[i]
        return found, factors

    return [*final, *stacked], pull
