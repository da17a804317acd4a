"""Settings drawn by a quasi-random sequence: the runs of the tournament.

    drawn = draw({"model.output_scale": Log(0.1, 10), ...}, runs=1024, shift=0)

The points of a Sobol sequence fill the box of all settings evenly. They are shifted by
one random vector modulo 1, so that each point is uniform, and do not depend on the
version of a library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import qmc


class Axis(Protocol):
    """The values of one setting."""

    def at(self, place: float) -> Any:
        """The value at a place in [0, 1)."""
        ...


@dataclass(frozen=True)
class Log:
    """Numbers between `low` and `high`, even in their logarithm; 0 for the first
    `zeros` of all places."""

    low: float
    high: float
    zeros: float = 0.0

    def at(self, place: float) -> float:
        if place < self.zeros:
            return 0.0
        rest = (place - self.zeros) / (1 - self.zeros)
        return rounded(self.low * (self.high / self.low) ** rest)


@dataclass(frozen=True)
class Linear:
    """Numbers between `low` and `high`."""

    low: float
    high: float

    def at(self, place: float) -> float:
        return rounded(self.low + (self.high - self.low) * place)


@dataclass(frozen=True)
class Choice:
    """One of some values, each as often."""

    values: tuple[Any, ...]

    def at(self, place: float) -> Any:
        return self.values[int(place * len(self.values))]


def rounded(value: float) -> float:
    """The number with four significant digits."""
    return float(f"{value:.4g}")


def draw(
    axes: Mapping[str, Axis], runs: int, *, shift: int
) -> dict[str, tuple[Any, ...]]:
    """The values of each setting in `runs` runs.

    Args:
      runs: a power of 2, with which the sequence is balanced.
      shift: the seed of the random vector that is added to all points.

    Raises: ValueError if `runs` is no power of 2.

    >>> draw({"a": Log(1, 100), "b": Choice(("x", "y"))}, 4, shift=0)["b"]
    ('x', 'y', 'y', 'x')
    """
    sobol = qmc.Sobol(d=len(axes), scramble=False)
    doublings = runs.bit_length() - 1
    if runs < 1 or runs != 2**doublings:
        raise ValueError(f"runs is {runs}; it must be a power of 2.")
    places = sobol.random_base2(doublings) + np.random.default_rng(shift).random(
        len(axes)
    )
    columns = zip(axes.items(), (places % 1).T, strict=True)
    return {
        path: tuple(axis.at(float(place)) for place in column)
        for (path, axis), column in columns
    }
