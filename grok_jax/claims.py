"""Claims of the papers and our own, tested on measured values."""

import math
from typing import Any, NamedTuple

import numpy as np

OURS = "ours"
"""The place of a claim that stands in no paper."""


class Claim(NamedTuple):
    """One statement, what is expected, what was measured and whether it holds."""

    id: str  # for example "K3a"
    place: str
    """Where in the paper it stands, for example "Sec. 5.1, Fig. 3a"; or `OURS`."""
    statement: str
    """What stands there, in our words."""
    expected: str
    """What the run must show: the test."""
    measured: Any  # a number, a sentence, or a list or dict of these
    holds: bool
    less: str = ""
    """What the statement says and the test leaves out; empty if nothing."""

    def as_json(self) -> dict[str, Any]:
        """The claim as plain JSON; NaN and infinities become None."""
        return {**_plain(self._asdict()), "holds": bool(self.holds)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def min_max(values: Any) -> dict[str, float]:
    """The smallest and largest of the runs' values, for a claim about every run."""
    values = np.asarray(values)
    return {"min": float(np.min(values)), "max": float(np.max(values))}


def format_value(value: Any) -> str:
    """A measured value as text; NaN and None (never reached) are "never".

    >>> format_value({"alpha 1": 2150.0, "alpha 2": float("nan")})
    'alpha 1: 2,150; alpha 2: never'
    """
    if isinstance(value, dict):
        return "; ".join(f"{key}: {format_value(each)}" for key, each in value.items())
    if hasattr(value, "tolist"):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(each) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "never" if value is None else str(value)
    if not math.isfinite(value):
        return "never" if math.isnan(value) else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def lines_of(measured: Any) -> list[str]:
    """A measured value as text, with a line for each entry of a dict.

    >>> lines_of({"alpha 1": 2150.0, "alpha 2": None})
    ['alpha 1: 2,150', 'alpha 2: never']
    """
    if isinstance(measured, dict):
        return [format_value({key: value}) for key, value in measured.items()]
    return [format_value(measured)]
