"""Sweeps that can be timed: some runs of some settings on some devices, and calls of
them in turns, so that what else a machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax import build, programs
from grok_jax import config as config_lib
from grok_jax.grid import Group
from grok_jax.types import Dataset, Device, Split

Settings = Mapping[str, Any]
"""What a page of configuration says, by sections."""


class Row(NamedTuple):
    """One measured number and what it should be at most (or at least)."""

    name: str  # benchmark/what; a place on an axis comes last: runs/mnist map/64
    measured: float
    unit: str
    goal: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def met(self) -> str:
        if self.goal is None:
            return "-"
        high = self.measured >= self.goal
        return "yes" if self.measured == self.goal or high == self.at_least else "NO"


class Lot(NamedTuple):
    """Some runs on the devices, from step 0."""

    program: programs.GroupProgram
    chunk: programs.Chunk


def plan(settings: Settings, runs: int) -> programs.Plan:
    """`runs` seeds of these settings."""
    sweeping = dict(train=dict(steps=10**6), sweep=dict(seed=tuple(range(runs))))
    return config_lib.resolve(config_lib.make_config(settings, sweeping)).plan


def group_program(
    settings: Settings, runs: int, devices: Sequence[Device]
) -> programs.GroupProgram:
    """The program of `runs` seeds of settings that change no shape."""
    own = plan(settings, runs)
    (group,) = own.groups()
    return program_of(own, group, devices)


def program_of(
    own: programs.Plan, group: Group, devices: Sequence[Device]
) -> programs.GroupProgram:
    """The program of a group. A task that reads files has a stand-in of the same
    shapes, so that nothing has to be fetched."""
    make = STAND_INS.get(group.settings["task.name"])
    kind = programs.GroupProgram if make is None else _OnStandIn
    return kind(own, group, tuple(devices))


def lot(
    settings: Settings, runs: int, devices: Sequence[Device], mode: str = "map"
) -> Lot:
    """`runs` seeds of these settings on these devices, begun as `mode` says."""
    program = group_program(settings, runs, devices)
    return Lot(program, programs.Chunk(program, np.arange(runs), runs, mode))


def advance(own: Lot, steps: int, mode: str = "map") -> float:
    """Seconds in which all runs of a lot take so many steps."""
    compiled = own.program.compiled(mode, own.chunk.place)
    pieces = programs.make_pieces(np.asarray([steps]), 0, 0, steps)
    pieces = pieces._replace(index=np.full_like(pieces.index, -1))
    arguments = own.chunk.arguments(pieces)
    started = time.perf_counter()
    own.chunk.state, new = compiled(*arguments)
    jax.block_until_ready((own.chunk.state, new))
    return time.perf_counter() - started


def steps_in(seconds: float, own: Lot, mode: str = "map") -> int:
    """So many steps take a lot about so long; it is warm afterwards."""
    advance(own, 1, mode)
    steps = 1
    while (spent := advance(own, steps, mode)) < seconds / 4:
        steps *= max(2, min(16, int(seconds / 4 / max(spent, 1e-6))))
    return max(1, round(steps * seconds / spent))


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds until what a call returns is there."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def in_turns(
    calls: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, float]:
    """The median of the seconds that each call returns, taken in turns; the first turn
    warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            spent = call()
            if number:
                times[name].append(spent)
    return {name: statistics.median(own) for name, own in times.items()}


def as_text(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> as_text(0.0123), as_text(4.5e-5), as_text(2)
    ('12.3 ms', '45 us', '2 s')
    """
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


class _OnStandIn(programs.GroupProgram):
    """A group whose runs all learn from one drawn data set."""

    def _read(self) -> Any:
        return {}

    def _identity(self, member: int) -> Any:
        return ()

    def _make_dataset(self, own: Mapping[str, Any], files: Any) -> Dataset:
        make = STAND_INS[self.group.settings["task.name"]]
        made = make(build.section_of(self.group.settings, "task"))
        return jax.tree.map(jnp.asarray, made)


def _images(task: Mapping[str, Any]) -> Dataset:
    draw = np.random.default_rng(0)

    def split(size: int) -> Split:
        label = draw.integers(0, 10, size)
        x = draw.random((size, 784), np.float32) * (draw.random((size, 784)) < 0.2)
        return _split(x.astype(np.float32), _one_hot(label, 10))

    return Dataset(split(task["train_size"]), split(task["test_size"] or 100), {})


def _words(task: Mapping[str, Any]) -> Dataset:
    draw = np.random.default_rng(0)

    def split(size: int) -> Split:
        words = draw.integers(1, task["vocabulary"] + 1, (size, task["length"]))
        y = draw.integers(0, 2, size).astype(np.float32)
        return _split(words.astype(np.int32), y)

    return Dataset(split(task["train_size"]), split(task["test_size"] or 100), {})


def _molecules(task: Mapping[str, Any]) -> Dataset:
    """Chains of 18 atoms of five kinds, as QM9's are on average, of single bonds."""
    draw, atoms = np.random.default_rng(0), task["atoms"]
    real = min(18, atoms)

    def split(size: int) -> Split:
        nodes = np.zeros((size, atoms, 11), np.float32)
        nodes[:, :real] = _one_hot(draw.integers(0, 5, (size, real)), 11)
        bonds = np.zeros((size, atoms, 4, atoms), np.float32)
        first = np.arange(real - 1)
        bonds[:, first, 0, first + 1] = bonds[:, first + 1, 0, first] = 1
        x = np.concatenate([nodes, bonds.reshape(size, atoms, -1)], axis=2)
        return _split(x, 75 + 8 * draw.standard_normal(size, np.float32))

    return Dataset(split(task["train_size"]), split(task["test_size"] or 100), {})


def _one_hot(label: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[label]


def _split(x: Any, y: Any) -> Split:
    weight: Any = np.ones(len(x), np.float32)
    return Split(x, y, weight)


STAND_INS: dict[str, Callable[[Mapping[str, Any]], Dataset]] = {
    "mnist": _images,
    "imdb": _words,
    "qm9": _molecules,
}
"""Task that reads files -> (its settings) -> data of the shapes that it would have."""
