"""Flattens jaxprs and counts their memory."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from grok_jax import look_up

# Calls that mean the same when inlined. Custom derivatives do not and are kept whole.
_CALLS = {"jit", "pjit", "closed_call", "core_closed_call", "remat", "remat2"}
_CALLS |= {"checkpoint"}

Value = Any  # the number of a value, or a core.Literal


class Statement(NamedTuple):
    """One equation; values are numbered across the whole function."""

    eqn: Any  # core.JaxprEqn
    inputs: tuple[Value, ...]
    outputs: tuple[int, ...]
    variables: tuple[Value, ...]  # the inputs of `alone`: each variable once
    alone: core.ClosedJaxpr  # only this equation
    body: "FlatJaxpr | None"  # of a scan

    def __call__(self, *variables: Any) -> list[Any]:
        """The outputs, given the values of `variables`."""
        return core.jaxpr_as_fun(self.alone)(*variables)


class FlatJaxpr(NamedTuple):
    """A jaxpr without nested calls."""

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    statements: list[Statement]
    outputs: tuple[Value, ...]


def flatten(closed: core.ClosedJaxpr) -> FlatJaxpr:
    """Inlines the nested calls of a closed jaxpr."""
    numbers = itertools.count()
    constants: dict[int, Any] = {}
    statements: list[Statement] = []

    def inline(
        jaxpr: core.Jaxpr, consts: Sequence[Any], arguments: Sequence[Value]
    ) -> list[Value]:
        env: dict[core.Var, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = next(numbers)
            constants[env[var]] = value

        def read(atom: Any) -> Value:
            return env[atom] if is_variable(atom) else atom

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            if eqn.primitive.name in _CALLS and not is_look_up(eqn):
                inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                if isinstance(inner, core.ClosedJaxpr):
                    outputs = inline(inner.jaxpr, inner.consts, inputs)
                else:
                    outputs = inline(inner, (), inputs)
            else:
                outputs = [next(numbers) for _ in eqn.outvars]
                variables = dict.fromkeys(v for v in eqn.invars if is_variable(v))
                scans = eqn.primitive.name == "scan"
                body = flatten(eqn.params["jaxpr"]) if scans else None
                alone = jaxpr.replace(
                    constvars=(),
                    invars=list(variables),
                    outvars=eqn.outvars,
                    eqns=[eqn],
                    effects=eqn.effects,
                )
                alone = core.ClosedJaxpr(alone, ())
                known = tuple(read(v) for v in variables)
                statements.append(
                    Statement(eqn, tuple(inputs), tuple(outputs), known, alone, body)
                )
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = tuple(next(numbers) for _ in closed.jaxpr.invars)
    outputs = inline(closed.jaxpr, closed.consts, inputs)
    return FlatJaxpr(inputs, constants, statements, tuple(outputs))


def is_variable(atom: Any) -> bool:
    """Whether this is a variable, not a literal."""
    return not isinstance(atom, core.Literal)


def is_look_up(eqn: Any) -> bool:
    """Whether this is a call of `look_up`, with a table and the rows to read."""
    return eqn.params.get("name") == look_up.NAME


def constants_and_state(scan: Any) -> tuple[int, int]:
    """How many of the first inputs of a scan are constants, and how many of the next
    its carried state."""
    if "num_consts" in scan.params:
        return scan.params["num_consts"], scan.params["num_carry"]
    constants, state, _ = scan.params["ft_in"].unpack()  # jax >= 0.12
    return len(constants), len(state)


def literal(value: Any) -> np.ndarray:
    """The value of a literal; a bare number has no dtype."""
    return np.asarray(value.val, value.aval.dtype)


def numbers_in(values: Sequence[Value]) -> list[int]:
    """The values that are not literals."""
    return [v for v in values if is_variable(v)]


class Footprint(NamedTuple):
    """Bytes that a function needs: per sample, and shared by all samples."""

    sample: int
    shared: int


def footprint(closed: core.ClosedJaxpr, sample: int) -> Footprint:
    """The peak of the bytes alive at once, statement by statement, without arguments.

    What depends on input number `sample` is counted once for each sample.
    """
    flat = flatten(closed)
    varies = {flat.inputs[sample]}
    last = {v: len(flat.statements) for v in numbers_in(flat.outputs)}
    for index in reversed(range(len(flat.statements))):
        for value in numbers_in(flat.statements[index].inputs):
            last.setdefault(value, index)
    peak = live = shared = 0
    ends: dict[int, int] = Counter()
    for index, statement in enumerate(flat.statements):
        depends = any(v in varies for v in numbers_in(statement.inputs))
        for number, out in zip(statement.outputs, statement.eqn.outvars, strict=True):
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
