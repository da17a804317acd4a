"""Per-sample gradients as factors: what `ntk.py` multiplies instead of Jacobians.

The gradient of a dense layer's weight is a sum of outer products, over the positions
t of one sample, of the input a_t and the back-propagated signal g_t. Its inner
product over two samples is sum_{t,t'} (a_t . a'_t') (g_t . g'_t'): two small Gram
matrices, and no per-sample Jacobian. To find the factors in any function, its jaxpr
for one sample is laid out flat (`flatten`), the parameter leaves are followed through
reshapes, transposes and scalings into products, table look-ups and bias additions
(`find_layers`), and the program is run again with a zero probe added to every product
found: the gradient of the probe is the signal (`factors`). A leaf that is used in any
other way (a convolution, a loop, a product batched over heads, elementwise) keeps its
explicit per-sample gradient, so the result is exact for every function and fast where
there are dense layers.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from grok_jax import look_up

# Calls that mean the same when written out. Custom derivatives do not: they stay whole.
_CALLS = {"jit", "pjit", "closed_call", "core_closed_call", "remat", "remat2"}
_CALLS |= {"checkpoint"}
_REINDEXINGS = {"reshape", "transpose", "squeeze", "broadcast_in_dim", "copy"}
_REINDEXINGS |= {"convert_element_type", "neg"}

Value = Any  # in a program: the number of a value, or a core.Literal


class Step(NamedTuple):
    """One equation, with values numbered through the whole program."""

    eqn: Any  # core.JaxprEqn
    inputs: tuple[Value, ...]
    outputs: tuple[int, ...]
    alone: core.ClosedJaxpr  # the equation by itself; arguments are its variables


class Program(NamedTuple):
    """A jaxpr without nested calls."""

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    steps: list[Step]
    outputs: tuple[Value, ...]


class View(NamedTuple):
    """A value that holds the entries of one leaf, rearranged and scaled."""

    leaf: int
    path: tuple[str, ...]  # how it was rearranged: equal for two uses in one layout
    varying: tuple[int, ...] | None  # axes that a broadcast kept; None: nothing added
    scales: tuple[tuple[str, Value], ...] = ()  # ("mul" or "div", scalar)


class Use(NamedTuple):
    """A product (or look-up) of a leaf, with positions T, inputs I and outputs O."""

    step: int  # place in the program; the probe goes on its output
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
    """A leaf with its uses, and the bias leaf added to the products of all of them."""

    weight: int
    uses: tuple[Use, ...]
    bias: int | None = None

    @property
    def positions(self) -> int:
        return sum(use.sizes[0] for use in self.uses)

    @property
    def is_lookup(self) -> bool:
        return self.uses[0].vocabulary is not None


def flatten(closed: core.ClosedJaxpr) -> Program:
    """The program of a closed jaxpr, nested calls written out."""
    numbers = itertools.count()
    constants: dict[int, Any] = {}
    steps: list[Step] = []

    def inline(
        jaxpr: core.Jaxpr, consts: Sequence[Any], arguments: Sequence[Value]
    ) -> list[Value]:
        env: dict[core.Var, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = next(numbers)
            constants[env[var]] = value

        def read(atom: Any) -> Value:
            return env[atom] if _is_variable(atom) else atom

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            if eqn.primitive.name in _CALLS and not _is_look_up(eqn):
                inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                if isinstance(inner, core.ClosedJaxpr):
                    outputs = inline(inner.jaxpr, inner.consts, inputs)
                else:
                    outputs = inline(inner, (), inputs)
            else:
                outputs = [next(numbers) for _ in eqn.outvars]
                variables = dict.fromkeys(v for v in eqn.invars if _is_variable(v))
                alone = jaxpr.replace(
                    constvars=(),
                    invars=list(variables),
                    outvars=eqn.outvars,
                    eqns=[eqn],
                    effects=eqn.effects,
                )
                alone = core.ClosedJaxpr(alone, ())
                steps.append(Step(eqn, tuple(inputs), tuple(outputs), alone))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = tuple(next(numbers) for _ in closed.jaxpr.invars)
    outputs = inline(closed.jaxpr, closed.consts, inputs)
    return Program(inputs, constants, steps, tuple(outputs))


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


def _is_look_up(eqn: Any) -> bool:
    """Whether this is a call of `look_up`: of a table and the rows that it reads."""
    return eqn.params.get("name") == look_up.NAME


def execute(
    program: Program,
    arguments: Sequence[Any],
    on_output: Callable[[int, Any], Any] = lambda step, value: value,
) -> tuple[list[Any], Callable[[Value], Any]]:
    """The outputs, and a reader of every intermediate value.

    `on_output(step, value)` may replace what a step returns.
    """
    env = dict(zip(program.inputs, arguments, strict=True)) | program.constants

    def read(value: Value) -> Any:
        if _is_variable(value):
            return env[value]
        return np.asarray(value.val, value.aval.dtype)  # a bare number has no dtype

    for index, step in enumerate(program.steps):
        pairs = zip(step.eqn.invars, step.inputs, strict=True)
        known = {var: value for var, value in pairs if _is_variable(var)}
        values = [read(known[var]) for var in step.alone.jaxpr.invars]
        results = core.jaxpr_as_fun(step.alone)(*values)
        for number, result in zip(step.outputs, results, strict=True):
            env[number] = on_output(index, result)
    return [read(value) for value in program.outputs], read


def find_layers(program: Program, leaves: int) -> tuple[list[Layer], list[int]]:
    """Layers among the first `leaves` inputs, and the leaves that need a Jacobian.

    A leaf is in neither list where the program does not use it at all.
    """
    views = {v: View(i, (), None) for i, v in enumerate(program.inputs[:leaves])}
    uses: dict[int, list[Use]] = defaultdict(list)
    additions: dict[int, list[tuple[Use, View]]] = defaultdict(list)
    products: dict[int, Use] = {}  # by the value that the product wrote
    opaque = {views[v].leaf for v in program.outputs if _is_variable(v) and v in views}
    readers = Counter(v for step in program.steps for v in _numbers(step.inputs))
    readers.update(_numbers(program.outputs))

    for index, step in enumerate(program.steps):
        seen = [
            (i, views[v])
            for i, v in enumerate(step.inputs)
            if _is_variable(v) and v in views
        ]
        if not seen:
            continue
        place, view = seen[0]
        only = len(seen) == 1
        if only and (moved := _follow(step, place, view)) is not None:
            views[step.outputs[0]] = moved
        elif only and (use := _as_use(step, index, place, view)) is not None:
            uses[view.leaf].append(use)
            products[step.outputs[0]] = use
        elif only and (use := _as_bias_of(step, place, view, products, readers)):
            additions[view.leaf].append((use, view))
        else:
            scaled = _scaled(step, seen)
            if scaled is not None:
                views[step.outputs[0]] = scaled
            opaque |= {
                v.leaf for _, v in seen if scaled is None or v.leaf != scaled.leaf
            }

    layers = [
        Layer(leaf, tuple(found))
        for leaf, found in uses.items()
        if leaf not in opaque | set(additions) and len({u.layout for u in found}) == 1
    ]
    for leaf, added in additions.items():
        if leaf in opaque or leaf in uses or len({view for _, view in added}) > 1:
            continue
        for i, layer in enumerate(layers):
            if layer.bias is None and layer.uses == tuple(use for use, _ in added):
                layers[i] = layer._replace(bias=leaf)
    done = {i for layer in layers for i in (layer.weight, layer.bias)}
    touched = opaque | set(uses) | set(additions)
    return layers, sorted(touched - done)


def _numbers(values: Sequence[Value]) -> list[int]:
    return [v for v in values if _is_variable(v)]


def _follow(step: Step, place: int, view: View) -> View | None:
    """The view after a rearrangement; None if this step is something else."""
    name = step.eqn.primitive.name
    if view.varying is not None or name not in _REINDEXINGS:
        return None
    (out,), source = step.eqn.outvars, step.eqn.invars[0].aval
    if name == "convert_element_type":
        both = jnp.issubdtype(source.dtype, jnp.floating) and jnp.issubdtype(
            out.aval.dtype, jnp.floating
        )
        return view if both else None
    if name == "neg":
        return view._replace(scales=(*view.scales, ("neg", 0)))
    path = (*view.path, f"{name}{out.aval.shape}{sorted(step.eqn.params.items())}")
    if out.aval.size == source.size:
        return view._replace(path=path)
    if name != "broadcast_in_dim" or view.scales:
        return None
    kept = step.eqn.params["broadcast_dimensions"]
    varying = tuple(k for k, size in zip(kept, source.shape, strict=True) if size > 1)
    return view._replace(path=path, varying=varying)


def _scaled(step: Step, seen: Sequence[tuple[int, View]]) -> View | None:
    """The view after a multiplication or division by a scalar."""
    name = step.eqn.primitive.name
    for place, view in seen:
        other = 1 - place
        if (
            view.varying is None
            and (name == "mul" or (name == "div" and place == 0))
            and step.eqn.invars[other].aval.shape == ()
            and step.eqn.invars[place].aval.shape != ()
            and all(i != other or v.leaf != view.leaf for i, v in seen)
        ):
            return view._replace(scales=(*view.scales, (name, step.inputs[other])))
    return None


def _as_use(step: Step, index: int, place: int, view: View) -> Use | None:
    if view.varying is not None:
        return None
    if step.eqn.primitive.name == "dot_general":
        return _as_product(step, index, place, view)
    looks_up = _is_look_up(step.eqn) or step.eqn.primitive.name == "gather"
    if looks_up and place == 0 and not view.scales:
        return _as_lookup(step, index, view)
    return None


def _as_product(step: Step, index: int, place: int, view: View) -> Use | None:
    contracting, batch = step.eqn.params["dimension_numbers"]
    if batch[0]:
        return None
    weight, other = (step.eqn.invars[i].aval for i in (place, 1 - place))
    # The weight's axes in ascending order, the other operand's paired with them.
    pairs = sorted(zip(contracting[place], contracting[1 - place], strict=True))
    ins, other_ins = tuple(p for p, _ in pairs), tuple(q for _, q in pairs)
    positions = tuple(i for i in range(other.ndim) if i not in other_ins)
    outs = weight.ndim - len(ins)
    first = 0 if place == 1 else outs  # of the position axes of the product
    position_axes = tuple(range(first, first + len(positions)))
    axes = range(len(positions) + outs)
    return Use(
        step=index,
        other=step.inputs[1 - place],
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


def _as_lookup(step: Step, index: int, view: View) -> Use | None:
    """Whole rows of a table: a product with one-hot inputs that are never formed."""
    table, rows = (v.aval for v in step.eqn.invars[:2])
    out, axis, clip = step.eqn.outvars[0].aval, 0, False
    of_rows = range(rows.ndim, out.ndim)  # the axes of the output that a row brings
    if not _is_look_up(step.eqn):
        numbers = step.eqn.params["dimension_numbers"]
        axis, *more = numbers.start_index_map or (-1,)
        whole = [1 if i == axis else size for i, size in enumerate(table.shape)]
        clip = step.eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP
        of_rows = numbers.offset_dims
        if (
            more
            or numbers.collapsed_slice_dims != (axis,)
            or numbers.operand_batching_dims
            or list(step.eqn.params["slice_sizes"]) != whole
        ):
            return None
    positions = tuple(i for i in range(out.ndim) if i not in of_rows)
    return Use(
        step=index,
        other=step.inputs[1],
        scales=(),
        layout=("look-up", view.path, axis),
        input_axes=tuple(range(rows.ndim)),
        position_axes=positions,
        output_axes=tuple(of_rows),
        sizes=(
            math.prod(out.shape[i] for i in positions),
            1,
            math.prod(out.shape[i] for i in of_rows),
        ),
        vocabulary=table.shape[axis],
        clip=clip,
    )


def _as_bias_of(
    step: Step,
    place: int,
    view: View,
    products: dict[int, Use],
    readers: Counter[int],
) -> Use | None:
    """The product that this step adds the view to, if nothing else reads it."""
    other = step.inputs[1 - place] if len(step.inputs) == 2 else None
    if step.eqn.primitive.name not in ("add", "add_any") or view.scales:
        return None
    if not isinstance(other, int) or other not in products or readers[other] > 1:
        return None
    use, shape = products[other], step.eqn.outvars[0].aval.shape
    added, product = (step.eqn.invars[i].aval.shape for i in (place, 1 - place))
    if use.vocabulary is not None or product != shape or len(added) != len(shape):
        return None
    varying = {i for i, size in enumerate(added) if size > 1}
    if view.varying is not None:
        varying = set(view.varying)
    return use if varying == {i for i in use.output_axes if shape[i] > 1} else None


class Plan(NamedTuple):
    """How the gradients of one function are factored."""

    program: Program
    layers: tuple[Layer, ...]
    jacobians: tuple[int, ...]  # leaves that keep an explicit gradient
    dtype: Any  # of the factors and of the kernel


def make_plan(
    closed: core.ClosedJaxpr,
    leaves: int,
    prefer_factors: Callable[[Layer], bool],
) -> Plan:
    """The plan for one sample's jaxpr (leaves..., x) -> f [C].

    `prefer_factors(layer)` says whether Gram matrices are cheaper than Jacobians.
    """
    program = flatten(closed)
    layers, jacobians = find_layers(program, leaves)
    kept = []
    for layer in layers:
        if prefer_factors(layer):
            kept.append(layer)
        else:
            jacobians += [i for i in (layer.weight, layer.bias) if i is not None]
    (out,) = closed.out_avals
    dtype = jnp.promote_types(out.dtype, jnp.float32)
    return Plan(program, tuple(kept), tuple(sorted(jacobians)), dtype)


def factors(
    plan: Plan, leaves: Sequence[jax.Array], x: jax.Array, cotangents: jax.Array
) -> list[tuple[jax.Array, ...]]:
    """Factored gradients of one sample's outputs, weighted by `cotangents` [R, C].

    One entry per layer, (inputs [T, I], signals [R, T, O]), then one per leaf in
    `plan.jacobians`, (gradient [R, size],).
    """
    uses = [use for layer in plan.layers for use in layer.uses]
    places = {use.step: i for i, use in enumerate(uses)}

    def outputs(probes, explicit):
        arguments = [*leaves, x]
        for i, value in zip(plan.jacobians, explicit, strict=True):
            arguments[i] = value

        def add_probe(step, value):
            return value + probes[places[step]] if step in places else value

        (out,), read = execute(plan.program, arguments, add_probe)
        return out, [_inputs(use, read, plan.dtype) for use in uses]

    probes = [_zeros_like(plan.program.steps[u.step].eqn.outvars[0].aval) for u in uses]
    explicit = [leaves[i] for i in plan.jacobians]
    _, pullback, inputs = jax.vjp(outputs, probes, explicit, has_aux=True)
    probe_grads, leaf_grads = jax.vmap(pullback)(cotangents)
    signals = [
        _signals(use, grad, plan.dtype)
        for use, grad in zip(uses, probe_grads, strict=True)
    ]
    result, start = [], 0
    for layer in plan.layers:
        end = start + len(layer.uses)
        result.append(
            (
                jnp.concatenate(inputs[start:end], axis=0),
                jnp.concatenate(signals[start:end], axis=1),
            )
        )
        start = end
    flat = [g.reshape(g.shape[0], -1).astype(plan.dtype) for g in leaf_grads]
    return result + [(g,) for g in flat]


def _zeros_like(aval: Any) -> jax.Array:
    """Zeros typed as varying over the same mesh axes: no gradient is summed there."""
    return varying(jnp.zeros(aval.shape, aval.dtype), mesh_axes(aval))


def mesh_axes(aval: Any) -> frozenset[Any]:
    """The axes of an enclosing `shard_map` along which a value of this type differs."""
    kind = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; before, vma
    return getattr(kind, "varying", None) or getattr(aval, "vma", None) or frozenset()


def varying(value: jax.Array, axes: frozenset[Any]) -> jax.Array:
    """The value, typed as differing along the mesh axes."""
    missing = tuple(axes - mesh_axes(jax.typeof(value)))
    if not missing:
        return value
    lax: Any = jax.lax  # whose names depend on the version
    if hasattr(lax, "pcast"):
        return lax.pcast(value, missing, to="varying")
    return lax.pvary(value, missing)  # jax 0.8


def _inputs(use: Use, read: Callable[[Value], Any], dtype: Any) -> jax.Array:
    """Inputs [T, I]; for a look-up the row numbers [T, 1], -1 where none is read."""
    other = jnp.transpose(read(use.other), use.input_axes)
    other = other.reshape(use.sizes[:2])
    if use.vocabulary is not None:
        last = use.vocabulary - 1
        rows = other.astype(jnp.int32)
        rows = jnp.clip(rows, 0, last) if use.clip else rows
        return jnp.where((rows >= 0) & (rows <= last), rows, -1)
    other = other.astype(dtype)
    for name, value in use.scales:
        scale = -1.0 if name == "neg" else jnp.asarray(read(value), dtype)
        other = other / scale if name == "div" else other * scale
    return other


def _signals(use: Use, grad: jax.Array, dtype: Any) -> jax.Array:
    """Signals [R, T, O] from the gradient of the probe."""
    axes = (0, *(1 + i for i in use.position_axes + use.output_axes))
    positions, _, outputs = use.sizes
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


def kernels(
    plan: Plan,
    factors1: Sequence[tuple[jax.Array, ...]],
    factors2: Sequence[tuple[jax.Array, ...]],
    kind: str,
) -> dict[int, jax.Array]:
    """The kernel of each leaf that the function uses, from batched factors."""
    result = {}
    # The factors of layers come first, then those of explicit gradients.
    for layer, (a1, g1), (a2, g2) in zip(plan.layers, factors1, factors2, strict=False):
        n1, n2, positions = len(a1), len(a2), layer.positions
        signals = gram(_by_position(g1), _by_position(g2), kind)
        a1, a2 = a1.reshape(n1 * positions, -1), a2.reshape(n2 * positions, -1)
        inputs = (a1 == a2.T) & (a1 >= 0) if layer.is_lookup else a1 @ a2.T
        inputs = inputs.reshape(inputs.shape + (1,) * (signals.ndim - 2))
        shape = (n1, positions, n2, positions, *signals.shape[2:])
        result[layer.weight] = _sum_positions(inputs * signals, shape)
        if layer.bias is not None:
            result[layer.bias] = _sum_positions(signals, shape)
    explicit = slice(len(plan.layers), None)
    for leaf, (j1,), (j2,) in zip(
        plan.jacobians, factors1[explicit], factors2[explicit], strict=True
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


class Footprint(NamedTuple):
    """Bytes that a program holds: for each sample, and whatever their number."""

    sample: int
    shared: int


def footprint(closed: core.ClosedJaxpr, sample: int) -> Footprint:
    """Most bytes alive at once, evaluated line by line, without its arguments.

    What depends on input number `sample` is counted once for each sample.
    """
    program = flatten(closed)
    varies = {program.inputs[sample]}
    last = {v: len(program.steps) for v in _numbers(program.outputs)}
    for index in reversed(range(len(program.steps))):
        for value in _numbers(program.steps[index].inputs):
            last.setdefault(value, index)
    peak = live = shared = 0
    ends: dict[int, int] = Counter()
    for index, step in enumerate(program.steps):
        depends = any(v in varies for v in _numbers(step.inputs))
        for number, out in zip(step.outputs, step.eqn.outvars, strict=True):
            size = out.aval.size * out.aval.dtype.itemsize
            if not depends:
                shared += size
                continue
            varies.add(number)
            live += size
            ends[last.get(number, index)] += size
        peak = max(peak, live)
        live -= ends[index]
    return Footprint(peak, shared)
