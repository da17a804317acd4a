"""The measurements of a sweep so far: an array for each variable of each group, filled
as segments return, stored in checkpoints, and finally one dataset over the grid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import xarray as xr

from grok_jax import measures
from grok_jax.engine.grid import Grid
from grok_jax.engine.programs import Group
from grok_jax.settings import Positive, SettingError

_grokking_times = jax.jit(measures.grokking_times)
_first_step_reaching = jax.jit(measures.first_step_reaching)


@dataclass(frozen=True)
class Grok:
    """The criteria by which a run counts as memorised and as generalised."""

    kind: Literal["loss", "accuracy"] = "loss"
    """loss: fractions of the first and the peak loss; accuracy: levels"""
    train: Positive = 0.05
    test: Positive = 0.1

    def __post_init__(self) -> None:
        left = [
            f"grok.{name}"
            for name, default in (("train", 0.05), ("test", 0.1))
            if self.kind == "accuracy" and getattr(self, name) == default
        ]
        if left:
            raise SettingError(
                f"grok.kind accuracy needs a level in {' and '.join(left)}, such as "
                "0.95; the default is a share of a loss."
            )

    def times(self, steps: np.ndarray, results: Any):
        """(t_train, t_test) [...]; NaN if never reached."""
        if self.kind == "loss":
            return _grokking_times(
                steps,
                np.asarray(results["train_loss"]),
                np.asarray(results["test_loss"]),
                train_share=self.train,
                test_share=self.test,
            )
        return tuple(
            _first_step_reaching(steps, np.asarray(results[f"{name}_accuracy"]), level)
            for name, level in (("train", self.train), ("test", self.test))
        )

    def judged(self, results: xr.Dataset) -> xr.Dataset:
        """The results with t_train, t_test and diverged added for each run."""
        dims = results["diverged_at"].dims
        curves = results.transpose(*dims, "step", ...)
        t_train, t_test = self.times(results["step"].values, curves)
        return results.assign(
            t_train=(dims, np.asarray(t_train)),
            t_test=(dims, np.asarray(t_test)),
            diverged=results["diverged_at"].notnull(),
        )


class Records(NamedTuple):
    """Curves of some runs at some steps; NaN where a run was not measured."""

    runs: np.ndarray  # [n] run numbers of the grid
    steps: np.ndarray  # [S]
    curves: dict[str, np.ndarray]  # [n, S]; only variables with one number per record


class Measured:
    """Variables by group and name: [members, ...], or [members, S, ...] if measured
    during training; NaN where nothing has been measured yet."""

    def __init__(self, groups: Sequence[Group]):
        self._groups = groups
        self._arrays: dict[int, dict[str, np.ndarray]] = {}
        self._per_step: dict[int, set[str]] = {}

    def set(self, group: int, name: str, members: Any, values: Any) -> None:
        """Sets a variable of some members: a number for each, or one for all."""
        self._array(group, name, (), np.dtype(float), False)[members] = values

    def set_curve(self, group: int, name: str, member: int, values: Any) -> None:
        """Sets a variable of one run: [S, ...], or one number."""
        values = np.asarray(values)
        has_steps = values.ndim > 0
        array = self._array(group, name, values.shape, values.dtype, has_steps)
        array[member] = values

    def add(
        self,
        group: int,
        members: np.ndarray,
        indices: np.ndarray,
        new: Mapping[str, np.ndarray],
    ) -> None:
        """Adds the measurements of some members at some records: for each name
        [members, records, ...]."""
        for name, values in new.items():
            shape = (len(self._groups[group].steps), *values.shape[2:])
            array = self._array(group, name, shape, values.dtype, True)
            array[np.ix_(members, indices)] = values

    def _array(
        self, group: int, name: str, shape: tuple[int, ...], dtype: Any, has_steps: bool
    ) -> np.ndarray:
        arrays = self._arrays.setdefault(group, {})
        if name not in arrays:
            members = len(self._groups[group].members)
            arrays[name] = np.full((members, *shape), np.nan, dtype)
            if has_steps:
                self._per_step.setdefault(group, set()).add(name)
        return arrays[name]

    def of_groups(self) -> Iterable[tuple[Group, Mapping[str, np.ndarray]]]:
        """Each group that has measurements, with its variables."""
        for group, arrays in self._arrays.items():
            yield self._groups[group], arrays

    def curves(
        self,
        group: int,
        members: np.ndarray | None = None,
        indices: np.ndarray | None = None,
    ) -> Records:
        """Curves of some members of a group at some records (default: all)."""
        arrays, runs = self._arrays[group], self._groups[group]
        members = np.arange(len(runs.members)) if members is None else members
        indices = np.arange(len(runs.steps)) if indices is None else indices
        cells = np.ix_(members, indices)
        measured = np.isfinite(arrays["train_loss"][cells])
        names = [n for n in sorted(self._per_step[group]) if arrays[n].ndim == 2]
        found = {
            name: np.where(measured, arrays[name][cells], np.nan) for name in names
        }
        return Records(np.asarray(runs.members)[members], runs.steps[indices], found)

    def stored(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """(arrays, names with a step axis) by group, for a checkpoint."""
        arrays = {str(group): arrays for group, arrays in self._arrays.items()}
        return arrays, {str(g): sorted(names) for g, names in self._per_step.items()}

    def restore(
        self, arrays: Mapping[str, np.ndarray], per_step: Mapping[str, Sequence[str]]
    ) -> list[int]:
        """Restores what `stored` returned, by "GROUP.NAME"; returns the groups."""
        for path, array in arrays.items():
            group, name = path.split(".", 1)
            self._arrays.setdefault(int(group), {})[name] = array.copy()
        self._per_step = {int(group): set(names) for group, names in per_step.items()}
        return list(self._arrays)

    def dataset(self, grid: Grid) -> xr.Dataset:
        """All measurements, with dimensions (axes..., step)."""
        numbers = range(len(self._groups))
        return assemble(
            grid,
            [group.members for group in self._groups],
            [group.steps for group in self._groups],
            [self._arrays[number] for number in numbers],
            [self._per_step[number] for number in numbers],
        )


def assemble(
    grid: Grid,
    members: Sequence[Sequence[int]],
    steps: Sequence[np.ndarray],
    records: Sequence[Mapping[str, np.ndarray]],
    per_step: Sequence[set[str]],
) -> xr.Dataset:
    """One dataset of the records of all groups, with dimensions (axes..., step).

    Args:
      members: run numbers of each group.
      steps: steps of each group's records [S_g].
      records: for each group, name -> [members, S_g, ...] or [members, ...].
      per_step: for each group, the names that have a step axis.

    Steps are the union over groups. Values that a group did not record are NaN, and
    arrays are padded with NaN to the largest of their name.
    """
    shapes = _largest_shapes(records, per_step)
    union = np.unique(np.concatenate(steps)) if len(steps) else np.zeros(0, int)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for numbers, group_steps, recorded, stepped in zip(
        members, steps, records, per_step, strict=True
    ):
        columns = np.searchsorted(union, group_steps)
        for name, values in recorded.items():
            has_steps = name in stepped
            rest = values.shape[2 if has_steps else 1 :]
            filled = tuple(slice(length) for length in rest)
            extra = tuple(f"{name}_{i}" for i in range(len(rest)))
            dims = (*grid.dims, *(("step",) if has_steps else ()), *extra)
            if name not in variables:
                length = (len(union),) if has_steps else ()
                whole = (len(grid), *length, *shapes[name])
                blank = np.full(whole, np.nan, values.dtype)
                variables[name] = (dims, blank)
            target = variables[name][1]
            if has_steps:
                target[(*np.ix_(np.asarray(numbers), columns), *filled)] = values
            else:
                target[(list(numbers), *filled)] = values
    data = {
        name: (dims, values.reshape((*grid.shape, *values.shape[1:])))
        for name, (dims, values) in variables.items()
    }
    coordinates: dict[str, Any] = {"step": ("step", union)}
    for name, (dim, values) in grid.coordinates().items():
        coordinates[name] = (dim, values)
    return xr.Dataset(data, coords=coordinates)


def _largest_shapes(
    records: Sequence[Mapping[str, np.ndarray]], per_step: Sequence[set[str]]
) -> dict[str, tuple[int, ...]]:
    """name -> the largest axes beside runs and steps, over all groups."""
    shapes: dict[str, tuple[int, ...]] = {}
    for recorded, stepped in zip(records, per_step, strict=True):
        for name, values in recorded.items():
            rest = values.shape[2 if name in stepped else 1 :]
            longest = zip(shapes.get(name, rest), rest, strict=True)
            shapes[name] = tuple(map(max, longest))
    return shapes
