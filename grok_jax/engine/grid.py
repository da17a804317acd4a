"""Turns swept axes into the runs of a grid, in plain Python without JAX arrays.

Settings are flat here: {"model.epsilon": 0.25, ...}. An axis names a setting by its
path or by any unique ending of it ("epsilon").
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grok_jax.settings import Leaf, SettingError, nearest


@dataclass(frozen=True)
class Axis:
    """One dimension of the grid: settings that vary together, and their values."""

    name: str
    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]  # [len][path]


@dataclass(frozen=True)
class Grid:
    """The product of axes; runs are numbered in row-major order, last axis fastest."""

    axes: tuple[Axis, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    def runs(self) -> list[dict[str, Any]]:
        """For each run, the settings given by its point in the grid."""
        points = itertools.product(*(axis.values for axis in self.axes))
        return [
            {
                path: value
                for axis, values in zip(self.axes, point, strict=True)
                for path, value in zip(axis.paths, values, strict=True)
            }
            for point in points
        ]

    def coordinates(self) -> dict[str, tuple[str, list[Any]]]:
        """name -> (dimension, labels of the values), for every swept setting."""
        names = [short_name(path) for axis in self.axes for path in axis.paths]
        doubled = {name for name in names if names.count(name) > 1}

        def name(path: str) -> str:
            short = short_name(path)
            return path.replace(".", "_") if short in doubled else short

        return {
            axis.name if i == 0 else name(path): (
                axis.name,
                [label(values[i]) for values in axis.values],
            )
            for axis in self.axes
            for i, path in enumerate(axis.paths)
        }


def label(value: Any) -> bool | int | float | str:
    """The value of a swept setting as a coordinate: a callable is its name, and what is
    neither a number nor a word is a text.

    >>> label(0.5), label((100, 200)), label(math.sqrt)
    (0.5, '(100, 200)', 'sqrt')
    """
    if isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", None) or str(value)


def short_name(path: str) -> str:
    """The last part of a setting's path: "width" of "model.width"."""
    return path.rsplit(".", 1)[-1]


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to path -> value, in the same order.

    >>> flatten({"model": {"width": 3}, "seed": 1})
    {'model.width': 3, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nests settings given as path -> value; the inverse of `flatten`.

    >>> nest({"model.width": 3, "seed": 1})
    {'model': {'width': 3}, 'seed': 1}
    """
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, key = path.split(".")
        at = nested
        for section in sections:
            at = at.setdefault(section, {})
        at[key] = value
    return nested


def resolve(name: str, leaves: Mapping[str, Any], what: str = "setting") -> str:
    """The full path of a setting that is named by its path or a unique ending of it."""
    if name in leaves:
        return name
    found = [path for path in leaves if path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingError(
            f"The {what} {name!r} could be {' or '.join(found)}; write the full path."
        )
    raise SettingError(f"There is no {what} {name!r}; {nearest(name, leaves)}.")


def make_grid(
    leaves: Mapping[str, Leaf],
    sweep: Mapping[str, Sequence[Any]],
    zips: Sequence[str] = (),
) -> Grid:
    """Makes the grid of `sweep` (axis -> values); `zips` names axes that vary together.

    Args:
      leaves: every setting that may be swept.
      sweep: a path or unique ending -> values.
      zips: strings such as "train_size+steps".

    Raises:
      SettingError: an unknown or empty axis, a value that its setting refuses, a
        repeated value, or zipped axes of different lengths.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for name, given in sweep.items():
        path = resolve(name, leaves, "setting to sweep")
        if not isinstance(given, (tuple, list)):
            given = (given,)
        if len(given) == 0:
            raise SettingError(f"The swept axis {name} is empty; give it a value.")
        if path in values:
            raise SettingError(f"The setting {path} is swept twice.")
        checked = tuple(leaves[path].check(f"sweep.{name}", value) for value in given)
        values[path] = checked
    groups = _zip_groups(zips, values)
    axes = []
    for path in values:
        together = next((group for group in groups if path in group), (path,))
        if path != together[0]:
            continue
        lengths = {each: len(values[each]) for each in together}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{short_name(p)} ({n})" for p, n in lengths.items())
            raise SettingError(f"Zipped axes need equal lengths: {listed}.")
        points = tuple(zip(*(values[each] for each in together), strict=True))
        if len(set(points)) < len(points):
            raise SettingError(
                f"The swept axis {'+'.join(map(short_name, together))} holds a value "
                "twice."
            )
        axes.append(Axis(short_name(path), together, points))
    names = [short_name(path) for path in values]
    doubled = {name for name in names if names.count(name) > 1}
    return Grid(tuple(_with_full_name(axis, doubled) for axis in axes))


def _zip_groups(
    zips: Sequence[str], values: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    groups = [
        tuple(resolve(name.strip(), values, "swept axis") for name in text.split("+"))
        for text in zips
    ]
    zipped = [path for group in groups for path in group]
    for group in groups:
        if len(group) == 1:
            raise SettingError(
                f"zip names {group[0]} alone; write the axes that move together as a+b."
            )
    for path in zipped:
        if zipped.count(path) > 1:
            raise SettingError(f"The axis {path} is zipped more than once.")
    return groups


def _with_full_name(axis: Axis, doubled: set[str]) -> Axis:
    if axis.name not in doubled:
        return axis
    return Axis(axis.paths[0].replace(".", "_"), axis.paths, axis.values)
