"""What a compiled program does, counted in its text: sorts, scatters, loops, copies.

    compiled.as_text() -> read -> Program -> loops("train_steps") -> census of each

The text is XLA's own (optimised HLO), alike on a CPU, a GPU and a TPU. A census counts
instructions where they stand: the body of a loop once, whatever its number of turns.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

Census = dict[str, int]
"""Kind of instruction (see `KINDS`) -> how many there are."""


class Shape(NamedTuple):
    """One array: `Shape("f32", (8, 784))`."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = _SIZE.search(self.dtype)
        width = int(bits[0]) if bits else 8 * (self.dtype == "pred")
        return -(-math.prod(self.dims) * width // 8)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of its result; several for a tuple
    op_name: str  # where it comes from: JAX's own path, named scopes included
    target: str  # of a custom call
    operands: tuple[str, ...]  # names
    calls: tuple[str, ...]  # the computations that it runs
    text: str

    @property
    def turns(self) -> int | None:
        """Of a loop, where the compiler knows their number."""
        found = _TURNS.search(self.text)
        return int(found[1]) if found else None


class Loop(NamedTuple):
    """A `while` of a program."""

    instruction: Instruction
    body: str
    condition: str
    depth: int  # 0: in no other loop
    in_branch: bool  # whether a conditional decides about it


class Program(NamedTuple):
    """The computations of a compiled program; `entry` is the one that it begins at."""

    computations: dict[str, list[Instruction]]
    entry: str

    def instructions(
        self, start: str | None = None, *, branches: bool = True, fused: bool = True
    ) -> Iterator[Instruction]:
        """Everything that running a computation (default: all) may run, calls, loops,
        the `branches` of conditionals and what is `fused` included. What a sort, a
        reduction or a scatter does with each element is no part of it."""
        for instruction in self.computations[start or self.entry]:
            yield instruction
            if instruction.opcode == "conditional" and not branches:
                continue
            if instruction.opcode == "fusion" and not fused:
                continue
            for name in instruction.calls:
                yield from self.instructions(name, branches=branches, fused=fused)

    def loops(self, scope: str = "") -> list[Loop]:
        """All loops, outer before inner; of a `scope` (`jax.named_scope`) alone those
        that stand directly in it, and not what they contain."""
        found = list(self._loops(self.entry, 0, False))
        if not scope:
            return found
        # vmap writes vmap(scope), and a gradient transpose(jvp(scope))
        own = re.compile(rf"(^|[/(]){re.escape(scope)}\)*/while$")
        return [loop for loop in found if own.search(loop.instruction.op_name)]

    def _loops(self, start: str, depth: int, in_branch: bool) -> Iterator[Loop]:
        for instruction in self.computations[start]:
            inner, branch = depth, in_branch or instruction.opcode == "conditional"
            if instruction.opcode == "while":
                condition, body = instruction.calls
                yield Loop(instruction, body, condition, depth, in_branch)
                inner += 1
            for name in instruction.calls:
                yield from self._loops(name, inner, branch)

    def within(
        self, loop: Loop | None, *, branches: bool = True, fused: bool = True
    ) -> Iterator[Instruction]:
        """`instructions` of one turn of a loop, its condition included; of None, of the
        whole program."""
        starts = (self.entry,) if loop is None else (loop.condition, loop.body)
        for start in starts:
            yield from self.instructions(start, branches=branches, fused=fused)

    def census(self, loop: Loop | None = None, *, branches: bool = True) -> Census:
        """How many instructions of each kind stand in a loop (default: the program);
        without `branches` only those that no conditional within it decides about."""
        counts = dict.fromkeys(KINDS, 0)
        for number, kinds in enumerate((_ANYWHERE, _UNFUSED)):
            found = self.within(loop, branches=branches, fused=number == 0)
            for instruction in found:
                for kind, belongs in kinds.items():
                    counts[kind] += belongs(instruction)
        return counts

    def asks_of_runs(self, loop: Loop) -> bool:
        """Whether a loop's condition works on arrays: under `vmap` it then goes on
        while any run does, and each turn selects what changes for which run."""
        return any(
            shape.dims
            for instruction in self.instructions(loop.condition)
            if instruction.opcode not in _FREE
            for shape in instruction.shapes
        )

    def copies_of(
        self, shape: Shape, runs: int, loop: Loop | None = None
    ) -> list[Instruction]:
        """The instructions that lay out as many numbers as [runs, *shape] from fewer,
        but from one or more whole arrays of this shape, and compute nothing, as does
        what gives every run a copy of data that all share; what joins arrays that have
        as many between them does not. With a `loop`, those within it."""
        one = math.prod(shape.dims)
        known = {i.name: i for own in self.computations.values() for i in own}

        def sizes(instructions: Iterable[Instruction]) -> list[int]:
            """How many numbers of this type each of their results has."""
            return [
                math.prod(each.dims)
                for instruction in instructions
                for each in instruction.shapes
                if each.dtype == shape.dtype
            ]

        def copies(instruction: Instruction) -> bool:
            read = (known[name] for name in instruction.operands)
            given = sizes(own for own in read if own.opcode != "tuple")
            return (
                runs * one in sizes([instruction])
                and runs * one not in given
                and sum(size for size in given if size < runs * one) < runs * one
                and any(size and size % one == 0 for size in given)
                and self._only_moves(instruction)
            )

        return [own for own in self.within(loop, fused=False) if copies(own)]

    def _only_moves(self, instruction: Instruction) -> bool:
        if instruction.opcode != "fusion":
            return instruction.opcode in _MOVES
        inside = {
            each.opcode
            for name in instruction.calls
            for each in self.instructions(name)
        }
        return inside <= {"fusion", *_FREE, *_MOVES, *_INDICES} and bool(
            inside & _MOVES
        )


def read(text: str) -> Program:
    """The program that `compiled.as_text()` describes.

    Raises:
      ValueError: the text is not that of a compiled program.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, own = "", None
    for line in text.splitlines():
        if line.startswith("}"):
            own = None
        elif line.endswith("{") and not line.startswith((" ", "HloModule")):
            header = _HEADER.match(line)
            if header:
                own = computations.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
        elif own is not None:
            instruction = _instruction(line)
            if instruction:
                own.append(instruction)
    if not entry:
        raise ValueError("This is not the text of a compiled program (optimised HLO).")
    return Program(computations, entry)


def batched_conditionals(fn: Callable, in_axes: Any, *arguments: Any) -> int:
    """How many conditionals of `fn` become selections under `jax.vmap`, as one whose
    predicate differs between runs does: all its branches are then taken, and all that
    they work on is copied for each run.

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
        return sum(own == "cond" for own in primitives(traced.jaxpr))

    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
    one = [_without_axis(*pair) for pair in zip(arguments, axes, strict=True)]
    return count(fn, *one) - count(jax.vmap(fn, in_axes), *arguments)


def _without_axis(tree: Any, axis: int | None) -> Any:
    """Shapes of one run's part of a batched argument."""
    if axis is None:
        return tree

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.tree.map(one, tree)


def primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all operations of a jaxpr, inner jaxprs included."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in inner_jaxprs(equation):
            yield from primitives(inner)


def inner_jaxprs(equation: Any) -> Iterator[Any]:
    """The jaxprs that an equation of a jaxpr runs: bodies, branches, calls."""
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            jaxpr = getattr(each, "jaxpr", each)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def _instruction(line: str) -> Instruction | None:
    head = _NAME.match(line)
    if not head:
        return None
    shape, rest = _split_shape(line[head.end() :])
    opcode = _OPCODE.match(rest)
    if not opcode:
        return None
    op_name, target = _OP_NAME.search(rest), _TARGET.search(rest)
    return Instruction(
        name=head[1],
        opcode=opcode[1],
        shapes=tuple(
            Shape(kind, tuple(int(size) for size in _SIZE.findall(sizes)))
            for kind, sizes in _SHAPE.findall(shape)
        ),
        op_name=op_name[1] if op_name else "",
        target=target[1] if target else "",
        operands=tuple(_OPERAND.findall(_bracket(rest))),
        calls=_calls(opcode[1], rest),
        text=line.strip(),
    )


def _split_shape(text: str) -> tuple[str, str]:
    """("f32[2]{0}", "add(...)") of "f32[2]{0} add(...)"; a tuple's shape is in brackets
    that may contain spaces."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == " " and depth == 0:
            return text[:position], text[position + 1 :]
    return text, ""


def _bracket(rest: str) -> str:
    """What stands in the first brackets: "a, b" of "add(a, b), metadata=..."."""
    depth = 0
    for position, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return rest[:position]
    return rest


def _calls(opcode: str, rest: str) -> tuple[str, ...]:
    """What is called, a loop's condition before its body."""
    if opcode not in _CALLING:
        return ()
    names: list[str] = []
    for key in ("condition", "body", "calls", "to_apply"):
        names += re.findall(rf"\b{key}=%?([\w.\-]+)", rest)
    for key in ("branch_computations", "called_computations", "calls"):
        for group in re.findall(rf"\b{key}={{([^}}]*)}}", rest):
            names += re.findall(r"%?([\w.\-]+)", group)
    for key in ("true_computation", "false_computation"):
        names += re.findall(rf"\b{key}=%?([\w.\-]+)", rest)
    return tuple(names)


_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*{$")
_NAME = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b(pred|token|[a-z]+\d+\w*)\[([^\]]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_SIZE = re.compile(r"\d+")
_OP_NAME = re.compile(r'\bop_name="([^"]*)"')
_TARGET = re.compile(r'\bcustom_call_target="([^"]*)"')
_TURNS = re.compile(r'"?known_trip_count"?:\{"n":"(\d+)"\}')

_CALLING = {"while", "conditional", "fusion", "call", "async-start", "custom-call"}
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
    *("after-all", "opt-barrier", "partition-id", "replica-id"),
}
_CONTROL = {"while", "conditional", "call"}
_MOVES = {
    *("copy", "copy-start", "broadcast", "gather", "transpose", "reshape", "slice"),
    *("dynamic-slice", "concatenate", "pad"),
}
_INDICES = {"iota", "compare", "select", "clamp", "add", "convert"}
"""What reckons with indices where something is moved."""
_COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|all-to-all|ragged-all-to-all|collective-permute"
    r"|collective-broadcast|reduce-scatter)(-start)?$"
)
_PRODUCT = re.compile(r"gemm|matmul|conv|__cudnn|dot", re.IGNORECASE)
_DOUBLE = {"f64", "c128"}


def _is_product(instruction: Instruction) -> bool:
    if instruction.opcode == "custom-call":
        return bool(_PRODUCT.search(instruction.target))
    return instruction.opcode in ("dot", "convolution", "ragged-dot")


def _is_sort(instruction: Instruction) -> bool:
    return instruction.opcode == "sort" or "RadixSort" in instruction.target


def _is_host(instruction: Instruction) -> bool:
    return (
        instruction.opcode in ("infeed", "outfeed")
        or "callback" in instruction.target
        or (
            instruction.opcode in ("send", "recv")
            and "is_host_transfer=true" in instruction.text
        )
    )


def _is_kernel(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    return opcode not in _FREE | _CONTROL and not opcode.endswith("-done")


_ANYWHERE: dict[str, Callable[[Instruction], bool]] = {
    "sort": _is_sort,
    "scatter": lambda i: i.opcode in ("scatter", "select-and-scatter"),
    "gather": lambda i: i.opcode == "gather",
    "conditional": lambda i: i.opcode == "conditional",
    "while": lambda i: i.opcode == "while",
    "product": _is_product,
    "collective": lambda i: bool(_COLLECTIVE.match(i.opcode)),
    "host": _is_host,
    "double": lambda i: any(shape.dtype in _DOUBLE for shape in i.shapes),
}
_UNFUSED: dict[str, Callable[[Instruction], bool]] = {
    "fusion": lambda i: i.opcode == "fusion",
    "copy": lambda i: i.opcode in ("copy", "copy-start"),
    "transpose": lambda i: i.opcode == "transpose",
    "custom-call": lambda i: i.opcode == "custom-call",
    "kernel": _is_kernel,
}
KINDS = (*_ANYWHERE, *_UNFUSED)
"""`product`: matrix products and convolutions, libraries' included; `host`: callbacks,
infeeds and outfeeds; `double`: anything in float64; `kernel`: what is started one by
one. Those of `_UNFUSED` are not counted within fusions, where they cost no pass."""
