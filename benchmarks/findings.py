"""What a sweep's compiled training loop should not do, counted: work that every run
repeats although all share it, and what waits for another device or the host."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from grok_jax import sweep, train
from grok_jax.engine.census import FREE, Instruction, Loop, Program, Shape, inner_jaxprs
from grok_jax.engine.programs import GroupProgram, make_pieces
from grok_jax.engine.targets import Report

MOVES = {
    *("copy", "copy-start", "broadcast", "gather", "transpose", "reshape", "slice"),
    *("dynamic-slice", "concatenate"),
}
"""Operations that copy. Not `pad`: a TPU's compiler pads the indices of a gather to
pairs, which are as many numbers as two copies."""
INDICES = {"iota", "compare", "select", "clamp", "add", "convert"}
"""Operations that compute indices where something is moved."""


class Findings(NamedTuple):
    """Counts for one step of a segment's training loop; all but `loops`, `kernels` and
    `products` should be 0."""

    loops: int  # training loops found: 1
    kernels: int
    products: int
    sorts: int  # outside conditionals
    scatters: int
    gradient_scatters: int  # the scatters in the gradient
    collectives: int
    host: int  # host calls
    asks_of_runs: int  # whether the end of the loop depends on all runs
    in_branch: int  # whether the loop is in a branch of a conditional
    batched_conditionals: int  # on a run's own state; in the whole segment
    copies: int  # of shared data, one per run; in the whole segment
    doubles: int  # in the whole segment


def findings(program: GroupProgram, report: Report) -> Findings:
    """The findings about a group's training loop, from the report of its segment."""
    compiled = report.program
    loops = compiled.loops(train.TRAIN_STEPS)
    loop = loops[0] if loops else None
    inside = compiled.census(loop)
    scatters = [i for i in compiled.within(loop) if i.opcode == "scatter"]
    return Findings(
        loops=len(loops),
        kernels=report.kernels,
        products=inside["product"],
        sorts=compiled.census(loop, branches=False)["sort"],
        scatters=inside["scatter"],
        gradient_scatters=sum("transpose(" in i.op_name for i in scatters),
        collectives=inside["collective"],
        host=inside["host"],
        asks_of_runs=int(loop is not None and asks_of_runs(compiled, loop)),
        in_branch=int(loop is not None and loop.in_branch),
        batched_conditionals=conditionals_on_runs(program),
        copies=_copies(program, report),
        doubles=report.doubles,
    )


def _copies(program: GroupProgram, report: Report) -> int:
    """Counts the instructions of a segment that copy shared data for every run. Arrays
    with one number per example are ignored: making them again may be justified."""
    if len(program.owners) >= report.slots:  # a data set for every run
        return 0
    found = 0
    for leaf in jax.tree.leaves(program.data_shapes()):
        if len(leaf.shape) > 1:
            shape = Shape(hlo_type(leaf.dtype), leaf.shape)
            found += len(copies_of(report.program, shape, report.slots))
    return found


def hlo_type(dtype: Any) -> str:
    """The HLO name of a dtype: "f32" for float32."""
    kinds = {"f": "f", "i": "s", "u": "u", "b": "pred"}
    bits = "" if dtype.kind == "b" else str(8 * dtype.itemsize)
    return kinds[dtype.kind] + bits


def asks_of_runs(program: Program, loop: Loop) -> bool:
    """Whether a loop's condition computes with arrays: under `vmap` the loop then
    continues while any run does, and each iteration selects which runs change."""
    return any(
        shape.dims
        for instruction in program.instructions(loop.condition)
        if instruction.opcode not in FREE
        for shape in instruction.shapes
    )


def copies_of(program: Program, shape: Shape, runs: int) -> list[Instruction]:
    """The instructions that copy arrays of this shape for many runs: their result
    has as many numbers as [runs, *shape], their inputs have fewer in total and
    include one or more whole arrays of this shape, and nothing is computed."""
    one = math.prod(shape.dims)
    known = {i.name: i for lines in program.computations.values() for i in lines}

    def sizes(instructions: Iterable[Instruction]) -> list[int]:
        """The number of elements of each of their results of this dtype."""
        return [
            math.prod(each.dims)
            for instruction in instructions
            for each in instruction.shapes
            if each.dtype == shape.dtype
        ]

    def copies(instruction: Instruction) -> bool:
        operands = (known[name] for name in instruction.operands)
        given = sizes(each for each in operands if each.opcode != "tuple")
        return (
            runs * one in sizes([instruction])
            and runs * one not in given
            and sum(size for size in given if size < runs * one) < runs * one
            and any(size and size % one == 0 for size in given)
            and _only_moves(program, instruction)
        )

    return [each for each in program.within(None, fused=False) if copies(each)]


def _only_moves(program: Program, instruction: Instruction) -> bool:
    if instruction.opcode != "fusion":
        return instruction.opcode in MOVES
    inside = {
        each.opcode for name in instruction.calls for each in program.instructions(name)
    }
    return inside <= {"fusion", *FREE, *MOVES, *INDICES} and bool(inside & MOVES)


def conditionals_on_runs(program: GroupProgram) -> int:
    """The number of conditionals in a segment that depend on a run's own state."""
    run = program.inputs(0, program.data_of[0])
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), run)
    states = program.state_shapes(sweep.layout(2, program.devices[:1]))
    shared = program.data_shapes(), make_pieces(program.steps, 0, 0, 0)
    axes = (None, None, 0, 0)
    return batched_conditionals(program.segment, axes, *shared, two, states)


def batched_conditionals(fn: Callable, in_axes: Any, *arguments: Any) -> int:
    """Counts the conditionals of `fn` that become selections under `jax.vmap`, because
    their predicate differs between runs: all branches are then executed, and everything
    they use is copied for each run.

    `arguments` (arrays or shapes) are those of the batched function.

    >>> def fn(ask, x):
    ...     return jax.lax.cond(ask, lambda: x, lambda: -x)
    >>> ask, x = jax.numpy.array([True, False]), jax.numpy.ones(2)
    >>> batched_conditionals(fn, (0, 0), ask, x)
    1
    >>> batched_conditionals(fn, (None, 0), ask[0], x)
    0
    """

    def count(function: Callable, *shapes: Any) -> int:
        traced = jax.make_jaxpr(function)(*shapes)
        return sum(name == "cond" for name in primitives(traced.jaxpr))

    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
    one = [_without_axis(*pair) for pair in zip(arguments, axes, strict=True)]
    return count(fn, *one) - count(jax.vmap(fn, in_axes), *arguments)


def _without_axis(tree: Any, axis: int | None) -> Any:
    """The shapes of one run's part of a batched argument."""
    if axis is None:
        return tree

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.tree.map(one, tree)


def primitives(jaxpr: Any) -> Iterator[str]:
    """Yields the names of all operations of a jaxpr, including its inner jaxprs."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in inner_jaxprs(equation):
            yield from primitives(inner)
