"""Counts what a compiled program does, from its text: sorts, scatters, loops, copies.

    compiled.as_text() -> read -> Program -> loops("train_steps") -> census of each

The text is XLA's optimised HLO, in the same form on a CPU, a GPU and a TPU. A census
counts the instructions of the text: a loop's body once, however often it is executed.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

Census = dict[str, int]
"""Kind of instruction (see `KINDS`) -> count."""


class Shape(NamedTuple):
    """The dtype and shape of one array: `Shape("f32", (8, 784))`."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = _SIZE.search(self.dtype)
        width = int(bits[0]) if bits else 8 * (self.dtype == "pred")
        return -(-math.prod(self.dims) * width // 8)


class Instruction(NamedTuple):
    """One instruction (a line) of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result; several for a tuple
    op_name: str  # its origin: JAX's path, including named scopes
    target: str  # of a custom call
    operands: tuple[str, ...]  # names
    calls: tuple[str, ...]  # names of the computations it runs
    text: str


class Loop(NamedTuple):
    """A `while` loop of a program."""

    instruction: Instruction
    body: str
    condition: str
    depth: int  # 0: not inside another loop
    in_branch: bool  # whether it is in a branch of a conditional


class Program(NamedTuple):
    """The computations of a compiled program, which starts with `entry`."""

    computations: dict[str, list[Instruction]]
    entry: str

    def instructions(
        self, start: str | None = None, *, branches: bool = True, fused: bool = True
    ) -> Iterator[Instruction]:
        """Yields every instruction that a computation (default: the program) may run,
        in calls, loops, the `branches` of conditionals and fusions (`fused`), but not
        in the functions that sorts, reductions and scatters apply to elements."""
        for instruction in self.computations[start or self.entry]:
            yield instruction
            if instruction.opcode == "conditional" and not branches:
                continue
            if instruction.opcode == "fusion" and not fused:
                continue
            for name in instruction.calls:
                yield from self.instructions(name, branches=branches, fused=fused)

    def loops(self, scope: str = "") -> list[Loop]:
        """All loops, outer before inner; with a `scope` (`jax.named_scope`) only those
        directly in it, without the loops that they contain."""
        found = list(self._loops(self.entry, 0, False))
        if not scope:
            return found
        # vmap writes vmap(scope), and a gradient transpose(jvp(scope))
        in_scope = re.compile(rf"(^|[/(]){re.escape(scope)}\)*/while$")
        return [loop for loop in found if in_scope.search(loop.instruction.op_name)]

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
        """Yields the `instructions` of one iteration of a loop, including its
        condition; of the whole program if `loop` is None."""
        starts = (self.entry,) if loop is None else (loop.condition, loop.body)
        for start in starts:
            yield from self.instructions(start, branches=branches, fused=fused)

    def census(self, loop: Loop | None = None, *, branches: bool = True) -> Census:
        """Counts the instructions of each kind in a loop (default: the program);
        without `branches`, only those outside the conditionals in it."""
        counts = dict.fromkeys(KINDS, 0)
        for number, kinds in enumerate((_ANYWHERE, _UNFUSED)):
            found = self.within(loop, branches=branches, fused=number == 0)
            for instruction in found:
                for kind, belongs in kinds.items():
                    counts[kind] += belongs(instruction)
        return counts

    def asks_of_runs(self, loop: Loop) -> bool:
        """Whether a loop's condition computes with arrays: under `vmap` the loop then
        continues while any run does, and each iteration selects which runs change."""
        return any(
            shape.dims
            for instruction in self.instructions(loop.condition)
            if instruction.opcode not in _FREE
            for shape in instruction.shapes
        )

    def copies_of(self, shape: Shape, runs: int) -> list[Instruction]:
        """The instructions that copy arrays of this shape for many runs: their result
        has as many numbers as [runs, *shape], their inputs have fewer in total and
        include one or more whole arrays of this shape, and nothing is computed."""
        one = math.prod(shape.dims)
        known = {i.name: i for lines in self.computations.values() for i in lines}

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
                and self._only_moves(instruction)
            )

        return [each for each in self.within(None, fused=False) if copies(each)]

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
    """Parses the text of a compiled program, `compiled.as_text()`.

    Raises:
      ValueError: the text is not that of a compiled program.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.startswith("}"):
            current = None
        elif line.endswith("{") and not line.startswith((" ", "HloModule")):
            header = _HEADER.match(line)
            if header:
                current = computations.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
        elif current is not None:
            instruction = _instruction(line)
            if instruction:
                current.append(instruction)
    if not entry:
        raise ValueError("This is not the text of a compiled program (optimised HLO).")
    return Program(computations, entry)


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


def inner_jaxprs(equation: Any) -> Iterator[Any]:
    """Yields the jaxprs that an equation of a jaxpr runs: bodies, branches, calls."""
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
    """Splits "f32[2]{0} add(...)" into ("f32[2]{0}", "add(...)"); the shape of a tuple
    is in brackets that may contain spaces."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == " " and depth == 0:
            return text[:position], text[position + 1 :]
    return text, ""


def _bracket(rest: str) -> str:
    """The text up to the end of the first brackets: "add(a, b" of "add(a, b), ..."."""
    depth = 0
    for position, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return rest[:position]
    return rest


def _calls(opcode: str, rest: str) -> tuple[str, ...]:
    """The names of the computations called, a loop's condition before its body."""
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

_CALLING = {"while", "conditional", "fusion", "call", "async-start", "custom-call"}
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
    *("after-all", "opt-barrier", "partition-id", "replica-id"),
}
_CONTROL = {"while", "conditional", "call"}
_MOVES = {
    *("copy", "copy-start", "broadcast", "gather", "transpose", "reshape", "slice"),
    *("dynamic-slice", "concatenate"),
}
"""Operations that copy. Not `pad`: a TPU's compiler pads the indices of a gather to
pairs, which are as many numbers as two copies."""
_INDICES = {"iota", "compare", "select", "clamp", "add", "convert"}
"""Operations that compute indices where something is moved."""
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
"""`product`: matrix products and convolutions, also in libraries; `host`: callbacks,
infeeds and outfeeds; `double`: anything in float64; `kernel`: what is launched
separately. `_UNFUSED` kinds are not counted in fusions, where they cost no pass."""
