"""Settings are declared in the signatures of callables; this module reads them.

A callable such as `committee(*, width: Count = 500, epsilon: NonNegative = 0.25)`
declares each setting's type, range and default once. Floats and seeds are traced (a
sweep over them compiles once); all others are static: each value compiles a program.

The settings of a class are the parameters of its `__init__`, such as a flax module's
fields. Those of a function are the parameters that are keyword-only or have a default,
and any other that is given by name (`part(optax.adam, learning_rate=1e-3)`). A plain
`float` is traced if it is a keyword-only parameter of a function, and static otherwise.
"""

import contextlib
import difflib
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin


class SettingError(ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Bounds:
    """The allowed range of a number, for use in annotations; None: no bound."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def hold(self, value: float) -> bool:
        above = self.low is None or (
            value > self.low if self.open_low else value >= self.low
        )
        below = self.high is None or (
            value < self.high if self.open_high else value <= self.high
        )
        return above and below

    def __str__(self) -> str:
        low = "" if self.low is None else f"{'>' if self.open_low else '>='} {self.low}"
        high = (
            ""
            if self.high is None
            else f"{'<' if self.open_high else '<='} {self.high}"
        )
        return " and ".join(part for part in (low, high) if part)


NOTHING = inspect.Parameter.empty
"""The `default` of a setting that has no default."""
STATIC = "static"
"""Marks a float that must stay a Python number inside the program."""
TRACED = "traced"
"""Marks an int that affects no shape, to be traced."""

Count = Annotated[int, Bounds(low=1)]
Natural = Annotated[int, Bounds(low=0)]
HermiteDegree = Annotated[int, Bounds(low=0, high=8)]
Steps = Annotated[int, Bounds(low=0, high=2**31 - 1)]
TracedSteps = Annotated[int, Bounds(low=0, high=2**31 - 1), TRACED]
Seed = Annotated[int, Bounds(low=0, high=2**31 - 1), TRACED]
Rank = Annotated[int, Bounds(low=1), TRACED]
OwnSeed = Annotated[int, Bounds(low=-1, high=2**31 - 1), TRACED]
Positive = Annotated[float, Bounds(low=0, open_low=True)]
NonNegative = Annotated[float, Bounds(low=0)]
Momentum = Annotated[float, Bounds(low=0, high=1, open_high=True), STATIC]
StaticDecay = Annotated[float, Bounds(low=0), STATIC]
Factor = Annotated[float, Bounds(low=0, open_low=True), STATIC]
Fraction = Annotated[float, Bounds(low=0, high=1, open_low=True)]
StaticFraction = Annotated[float, Bounds(low=0, high=1, open_low=True), STATIC]
Share = Annotated[float, Bounds(low=0, high=1)]


@dataclass(frozen=True)
class Leaf:
    """One setting: its type, its range and whether it is traced."""

    kind: type
    default: Any
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()
    static: bool = True
    required: bool = False

    def check(self, path: str, value: Any) -> Any:
        """`value` converted to this setting's type; raises SettingError if invalid."""
        if self.kind is object:
            return _hashable(path, value)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and is_number:
            value = float(value)
        elif self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, self.kind) or (
            self.kind is not bool and isinstance(value, bool)
        ):
            several = isinstance(value, (tuple, list)) and not path.startswith("sweep.")
            raise SettingError(
                f"{path} must be of type {self.kind.__name__}, not {value!r}."
                + (f" To sweep it, give sweep.{path} these values." if several else "")
            )
        if self.choices and value not in self.choices:
            raise SettingError(
                f"{path} is {value!r}; it must be one of "
                f"{', '.join(each or repr(each) for each in self.choices)}."
            )
        if self.bounds and not self.bounds.hold(value):
            raise SettingError(f"{path} is {value}; it must be {self.bounds}.")
        return value


def _hashable(path: str, value: Any) -> Any:
    """A static value of any type, which must be hashable; lists become tuples."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError as error:
        raise SettingError(
            f"{path} is {value!r}; a static setting must be hashable."
        ) from error
    return value


_KINDS = (int, float, bool, str)
_GIVEN = (
    *("self", "parent", "rngs", "key", "keys", "files"),
    *("view", "record", "apply", "anchor"),
)
"""Parameters that the engine or flax passes, so no settings."""


def _leaf(annotation: Any, default: Any, trace_floats: bool, required: bool) -> Leaf:
    """The declaration of a setting; `trace_floats`: trace it if a plain `float`."""
    marks: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        marks = tuple(rest)
    choices: tuple[str, ...] = ()
    if get_origin(annotation) is Literal:
        choices, annotation = get_args(annotation), str
    kind = annotation if annotation in _KINDS else object
    bounds = next((mark for mark in marks if isinstance(mark, Bounds)), None)
    number = kind is float and STATIC not in marks and (trace_floats or bool(marks))
    return Leaf(
        kind, default, bounds, choices, not (number or TRACED in marks), required
    )


@functools.cache
def schema(make: Callable) -> Mapping[str, Leaf]:
    """The settings of a callable.

    >>> def f(key, *, width: Count = 3, rate: Positive = 0.5): ...
    >>> {name: (leaf.default, leaf.static) for name, leaf in schema(f).items()}
    {'width': (3, True), 'rate': (0.5, False)}
    """
    make = getattr(make, "make", make)  # the function of a Task
    is_class = inspect.isclass(make)
    signature = inspect.signature(make.__init__ if is_class else make)
    hints, leaves = _hints(make), {}
    for name, parameter in signature.parameters.items():
        kind = parameter.kind
        if name in _GIVEN or kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
            continue
        if is_class and name == "name" and _is_flax(make):
            continue
        by_name = kind is kind.KEYWORD_ONLY
        leaves[name] = _leaf(
            hints.get(name, object),
            parameter.default,
            trace_floats=by_name and not is_class,
            required=(by_name or is_class) and parameter.default is parameter.empty,
        )
    return MappingProxyType(leaves)


def _is_flax(make: type) -> bool:
    return any(base.__module__.startswith("flax.") for base in make.__mro__)


def _hints(make: Callable) -> dict[str, Any]:
    """The annotations of a callable's parameters that can be resolved."""
    found: dict[str, Any] = {}
    sources = [make, make.__init__] if inspect.isclass(make) else [make]
    for source in sources:
        with contextlib.suppress(NameError, TypeError, AttributeError):
            found |= typing.get_type_hints(source, include_extras=True)
    return found


def words(name: Any) -> str:
    """The name of a variable or an axis in words: underscores become spaces."""
    return str(name).replace("_", " ")


def natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts names by the numbers in them.

    >>> sorted(["k10_late", "k2_early"], key=natural)
    ['k2_early', 'k10_late']
    """
    parts = re.findall(r"(\D*)(\d*)", name)
    return [(word, int(number or 0)) for word, number in parts]


def summary(docstring: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((docstring or "").partition("\n\n")[0].split())


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened; its type if it has none.

    >>> first_line(ValueError("no such file\\na trace")), first_line(EOFError())
    ('no such file', 'EOFError')
    """
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause that answers a typo: the closest known names, or else all of them."""
    known = sorted(known)
    if not known:
        return "there is none"
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not close:
        last = name.rsplit(".", 1)[-1]
        by_last = {full.rsplit(".", 1)[-1]: full for full in known}
        names = difflib.get_close_matches(last, by_last, n=3, cutoff=0.6)
        close = [by_last[each] for each in names]
    if close:
        return f"nearest: {', '.join(close)}"
    return f"known: {', '.join(known)}"


def lookup(table: Mapping[str, Any], name: str, what: str) -> Any:
    """An entry of a registry; raises SettingError with the nearest names if unknown."""
    if name not in table:
        raise SettingError(f"There is no {what} {name!r}; {nearest(name, table)}.")
    return table[name]
