"""The memory that a compiled program takes on a device: the compiler's plan, plus what
the plan leaves out.

The sizes of arguments and results follow from their shapes. The compiler's plan
(`memory_analysis`) also has the temporaries, except those inside a library call: on a
CPU a chain of matrix products is one call of YNNPACK, whose intermediate results are
not in the plan. From JAX 0.12 on, whole functions become such calls, and the plan then
says that they need nothing. These temporaries are counted in the program's text and
added.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from grok_jax.engine import census


class Bytes(NamedTuple):
    """Bytes that a program takes on one device."""

    arguments: int
    outputs: int  # without those that reuse an argument's memory
    temporaries: int

    @property
    def total(self) -> int:
        return sum(self)


def size_of(tree: Any) -> int:
    """Bytes of arrays or shapes on one device; of a sharded array, those of a shard."""

    def one(leaf: Any) -> int:
        shape, sharding = np.shape(leaf), getattr(leaf, "sharding", None)
        return _bytes(
            sharding.shard_shape(shape) if sharding is not None else shape,
            jax.numpy.result_type(leaf) if np.isscalar(leaf) else leaf.dtype,
        )

    return sum(map(one, jax.tree.leaves(tree)))


def of_program(compiled: Any, arguments: Any = ()) -> Bytes:
    """Bytes that a compiled program takes on one device.

    Args:
      compiled: what `jax.jit(...).lower(...).compile()` returns.
      arguments: what it is called with (arrays or shapes). The compiler drops unused
        arguments and a TPU pads the others; the larger of the two sizes counts.
    """
    plan, text = compiled.memory_analysis(), compiled.as_text()
    known = size_of(arguments)
    program = census.read(text) if plan is None or _LIBRARY.search(text) else None
    inside = _in_libraries(program) if program else 0
    if plan is None:  # some platforms have none
        assert program is not None
        outputs, walked = size_of(compiled.out_info), _peak_of(program, program.entry)
        return Bytes(known, outputs, max(0, walked - outputs) + inside)
    return Bytes(
        arguments=max(known, plan.argument_size_in_bytes),
        outputs=max(0, plan.output_size_in_bytes - plan.alias_size_in_bytes),
        temporaries=plan.temp_size_in_bytes + inside,
    )


class _Step(NamedTuple):
    """One operation: the arrays it makes, the arrays it reads, and the bytes it needs
    while it runs. An `alias` only gives new names to what it reads."""

    makes: Mapping[Any, int]  # name -> bytes
    reads: Sequence[Any]
    inside: int
    alias: bool


def _peak(steps: Sequence[_Step], results: Sequence[Any]) -> int:
    """The peak of the bytes alive at once of the arrays that the steps make, in order;
    an array is freed after its last use, and `results` are kept."""
    arrays: dict[Any, set[Any]] = {}  # name -> the arrays that it refers to
    last: dict[Any, int] = {}
    for place, step in enumerate(steps):
        read = set().union(*(arrays.get(name, ()) for name in step.reads))
        for name in step.makes:
            arrays[name] = read if step.alias else {name}
        for array in (*read, *step.makes):
            last[array] = place
    for name in results:
        last |= dict.fromkeys(arrays.get(name, ()), len(steps))
    alive: dict[Any, int] = {}
    peak = 0
    for place, step in enumerate(steps):
        if not step.alias:
            alive |= step.makes
        peak = max(peak, sum(alive.values()) + step.inside)
        for array in [array for array in alive if last[array] == place]:
            del alive[array]
    return peak


def _peak_of(program: census.Program, name: str) -> int:
    """The peak of the bytes alive at once in a computation, without its parameters;
    instructions run in the order of the text, and a loop updates its state in place."""
    instructions = program.computations[name]
    steps = [
        _Step(
            {each.name: 0 if each.opcode in _NOTHING else _size(each)},
            each.operands,
            max((_peak_of(program, one) for one in each.calls), default=0)
            if each.opcode in _CONTROL
            else 0,
            each.opcode in _ALIASES,
        )
        for each in instructions
    ]
    return _peak(steps, [instructions[-1].name])


def _in_libraries(program: census.Program) -> int:
    """The most bytes that one library call needs besides its inputs and results; calls
    run one after the other."""
    most = 0
    for call in program.instructions(fused=False):
        if _LIBRARY.search(call.text):
            inside = sum(_peak_of(program, name) for name in call.calls)
            most = max(most, inside - _size(call))
    return most


def _bytes(shape: Sequence[int], dtype: Any) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _size(instruction: census.Instruction) -> int:
    return sum(shape.bytes for shape in instruction.shapes)


_ALIASES = {"tuple", "get-tuple-element", "bitcast", "while", "opt-barrier"}
_NOTHING = {"parameter", "constant", "after-all", "partition-id", "replica-id"}
_CONTROL = {"while", "conditional", "call"}
_LIBRARY = re.compile(r'"kind":"__(ynn|xnn|onednn)_fusion"')
