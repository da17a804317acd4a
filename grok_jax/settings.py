"""Settings live in the signature of what they set; this module reads them from there.

A factory such as `committee(*, width: Count = 500, epsilon: NonNegative = 0.25)`
declares each setting's type, range and default once. Floats and seeds are traced (a
sweep over them compiles once); everything else is static: each value compiles anew.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin


class SettingError(ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Bounds:
    """The values that a number may take, in an annotation; None: no bound."""

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


STATIC = "static"
"""Marks a float that must stay a Python number inside the program."""
TRACED = "traced"
"""Marks an int that changes no shape."""

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

    def check(self, path: str, value: Any) -> Any:
        """`value` as this leaf holds it; raises SettingError with one sentence."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and is_number:
            value = float(value)
        elif self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, self.kind) or (
            self.kind is not bool and isinstance(value, bool)
        ):
            raise SettingError(
                f"{path} must be of type {self.kind.__name__}, not {value!r}."
            )
        if self.choices and value not in self.choices:
            raise SettingError(
                f"{path} is {value!r}; it must be one of {', '.join(self.choices)}."
            )
        if self.bounds and not self.bounds.hold(value):
            raise SettingError(f"{path} is {value}; it must be {self.bounds}.")
        return value


def _leaf(annotation: Any, default: Any) -> Leaf:
    marks: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        marks = tuple(rest)
    choices: tuple[str, ...] = ()
    if get_origin(annotation) is Literal:
        choices, annotation = get_args(annotation), str
    bounds = next((mark for mark in marks if isinstance(mark, Bounds)), None)
    traced = (annotation is float and STATIC not in marks) or TRACED in marks
    return Leaf(annotation, default, bounds, choices, static=not traced)


def schema(factory: Callable) -> dict[str, Leaf]:
    """The keyword-only parameters of `factory` as settings.

    >>> def f(key, *, width: Count = 3, rate: Positive = 0.5): ...
    >>> {name: (leaf.default, leaf.static) for name, leaf in schema(f).items()}
    {'width': (3, True), 'rate': (0.5, False)}
    """
    hints = typing.get_type_hints(factory, include_extras=True)
    return {
        name: _leaf(hints[name], parameter.default)
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is not parameter.empty
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause that answers a typo: the closest known names, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not close:
        last = name.rsplit(".", 1)[-1]
        by_last = {full.rsplit(".", 1)[-1]: full for full in known}
        names = difflib.get_close_matches(last, by_last, n=3, cutoff=0.6)
        close = [by_last[each] for each in names]
    if close:
        return f"nearest: {', '.join(close)}"
    return f"known: {', '.join(known)}"


def lookup(table: dict[str, Any], name: str, what: str) -> Any:
    """An entry of a registry; a name it lacks raises with the nearest ones."""
    if name not in table:
        raise SettingError(f"There is no {what} {name!r}; {nearest(name, table)}.")
    return table[name]
