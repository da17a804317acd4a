"""Random data of the right shapes in place of files, so that a program can be compiled
where the data are not, and nothing is downloaded."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax.engine import programs, registry
from grok_jax.types import Dataset, Device, Split


def program_of(
    group: programs.Group, devices: Sequence[Device]
) -> programs.GroupProgram:
    """The program of a group; a task that reads files is replaced by its stand-in."""
    make = STAND_INS.get(group.experiment.task.make)
    kind = programs.GroupProgram if make is None else _OnStandIn
    return kind(group, tuple(devices))


class _OnStandIn(programs.GroupProgram):
    """A group whose runs all train on one random data set."""

    def _read(self) -> Any:
        return {}

    def _identity(self, member: int) -> Any:
        return ()

    def _make_dataset(self, own: Mapping[str, Any], files: Any) -> Dataset:
        task = self.group.experiment.task
        made = STAND_INS[task.make](task.settings)
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
    """Chains of 18 atoms, QM9's average, of five kinds, with single bonds."""
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


STAND_INS: dict[Any, Callable[[Mapping[str, Any]], Dataset]] = {
    registry.TASKS["mnist"]: _images,
    registry.TASKS["imdb"]: _words,
    registry.TASKS["qm9"]: _molecules,
}
"""Task that reads files -> (its settings) -> random data of the same shapes."""
