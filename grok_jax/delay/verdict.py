"""Who wins: the theories against one another, against the settings and the floor.

The rule was written before the runs were made (experiments/delay/DESIGN.md).
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from grok_jax.delay import contest, theories
from grok_jax.delay.judges import QUANTILES, TASK, Judged, interval

MODEL, MOMENT = "Cox", "fitted"
"""The model and the moment that decide."""


class Difference(NamedTuple):
    """How much more concordance one theory has than another, over the tasks that were
    left out in turn, with its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def wins(self) -> bool:
        return self.low > 0


def difference(
    judged: Sequence[Judged],
    one: str,
    other: str,
    *,
    model: str = MODEL,
    moment: str = MOMENT,
    left_out: str = TASK,
) -> Difference:
    """Theory `one` minus theory `other` where `left_out` begins so, in the mean."""

    def of(theory: str) -> dict[str, Judged]:
        wanted = (theory, moment, model)
        if theory == "floor":
            wanted = ("floor", "fitted", "median")
        return {
            each.left_out: each
            for each in judged
            if each[:3] == wanted and each.left_out.startswith(left_out)
        }

    ours, theirs = of(one), of(other)
    mean = np.mean([ours[k].concordance - theirs[k].concordance for k in ours])
    draws = np.mean([ours[k].draws - theirs[k].draws for k in ours], axis=0)
    return Difference(float(mean), *interval(draws))


def winner(judged: Sequence[Judged], **options: Any) -> str:
    """The theory that beats all others, or "none"."""
    names = tuple(theories.NUMBER)
    for one in names:
        rest = [name for name in names if name != one]
        if all(difference(judged, one, other, **options).wins for other in rest):
            return one
    return "none"


def ends(table: xr.Dataset) -> dict[str, float]:
    """The share of runs that never fitted and, of the others, how they ended: at least
    a fifth each is wanted of the three."""
    found = contest.ends(table)
    fitted = float((~found["never fitted"]).sum())
    shares = {way: float(found[way].sum()) / fitted for way in contest.WAYS}
    return {**shares, "never fitted": float(found["never fitted"].mean())}


def cost(table: xr.Dataset) -> dict[str, float]:
    """For each task, what the looks at step 0 and at t_train take of the steps of a run
    (until it generalises, or all), in the median over the runs."""
    found = {}
    for task, look in json.loads(table.attrs.get("look_in_steps", "{}")).items():
        runs = table.isel(run=table.task.values == task)
        found[task] = float((2 * look / contest.ended(runs)).median())
    return found


def calibrated(judged: Sequence[Judged], within: float = 0.1) -> list[str]:
    """The theories whose shares of runs before the predicted quantiles are within so
    much of them, in the mean over the tasks that were left out."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for each in judged:
        by_task = each.left_out.startswith(TASK)
        if by_task and each[1:3] == (MOMENT, MODEL):
            found.setdefault(each.theory, []).append(each.below)
    return [
        theory
        for theory, shares in found.items()
        if np.all(np.abs(np.mean(shares, axis=0) - QUANTILES) <= within)
    ]


def totals(table: xr.Dataset, judged: Sequence[Judged]) -> dict[str, Any]:
    """All verdicts as plain JSON."""
    names = tuple(theories.NUMBER)
    pairs = {
        f"{one} - {other}": difference(judged, one, other)._asdict()
        for one in (*names, "theories", "together")
        for other in (*names, "settings", "train time", "floor")
        if one != other
    }
    return {
        "runs": table.sizes["run"],
        "ends": plain(ends(table)),
        "cost": plain(cost(table)),
        "winner": winner(judged),
        "beats_settings": [
            name for name in names if difference(judged, name, "settings").wins
        ],
        "calibrated": calibrated(judged),
        "differences": plain(pairs),
        "judged": [_row(one) for one in judged],
    }


def _row(one: Judged) -> dict[str, Any]:
    low, high = interval(one.draws)
    return plain(
        {
            "theory": one.theory,
            "moment": one.moment,
            "model": one.model,
            "left_out": one.left_out,
            "concordance": one.concordance,
            "low": low,
            "high": high,
            "error_log10": one.error,
            "far_off": one.far,
            "below": dict(zip(map(str, QUANTILES), one.below, strict=True)),
            "runs": one.runs,
            "censored": one.censored,
        }
    )


def plain(value: Any) -> Any:
    """The value as JSON has it: four digits, and null for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if np.isfinite(value) else None
    return value
