"""How the cost of a run-step depends on the number of runs."""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax

from grok_jax import timing
from grok_jax.timing import Lot, Row, Settings, as_text
from grok_jax.types import Device


class Range(NamedTuple):
    """A workload over numbers of runs, in some modes."""

    settings: Settings
    runs: Sequence[int]
    modes: Sequence[str] = ("map",)


def runs(
    ranges: Mapping[str, Range], *, repeats: int = 3, seconds: float = 0.1
) -> list[Row]:
    """Seconds of a run-step (wall time over steps times runs) on all devices, at each
    number of runs."""
    devices = tuple(jax.local_devices())
    rows = []
    for name, (settings, counts, modes) in ranges.items():
        for mode in modes:
            lots = {count: timing.lot(settings, count, devices) for count in counts}
            times = _run_steps(lots, mode, repeats, seconds)
            rows += [
                Row(f"runs/{name} {mode}/{count}", spent, "s", None, as_text(spent))
                for count, spent in times.items()
            ]
    return rows


def _run_steps(
    lots: Mapping[int, Lot], mode: str, repeats: int, seconds: float
) -> dict[int, float]:
    def once(count: int, steps: int) -> float:
        return timing.advance(lots[count], steps, mode) / steps / count

    steps = {count: timing.steps_in(seconds, lot, mode) for count, lot in lots.items()}
    calls = {str(count): partial(once, count, steps[count]) for count in lots}
    times = timing.in_turns(calls, repeats)
    return {int(count): spent for count, spent in times.items()}


def many_runs(
    workloads: Mapping[str, Settings],
    *,
    runs: int = 64,
    repeats: int = 5,
    seconds: float = 0.05,
) -> list[Row]:
    """Cost of a run among `runs` (`map` mode) over its cost alone: on one device, and
    on all devices against one run on each."""
    sets = {1: jax.local_devices()[:1], jax.local_device_count(): jax.local_devices()}
    return [
        Row(
            f"many_runs/{name}/{count}",
            _cost_ratio(settings, runs, tuple(devices), repeats, seconds),
            "x",
            1.05,
            f"{runs} runs against {count} on as many devices",
        )
        for name, settings in workloads.items()
        for count, devices in sets.items()
    ]


def _cost_ratio(
    settings: Settings,
    runs: int,
    devices: tuple[Device, ...],
    repeats: int,
    seconds: float,
) -> float:
    few, many = (timing.lot(settings, count, devices) for count in (len(devices), runs))
    steps = timing.steps_in(seconds, few)
    share = runs // len(devices)  # as many calls of the few as make the same work
    ratios = []
    for number in range(repeats + 1):
        alone = sum(timing.advance(few, steps) for _ in range(share // 2))
        among = timing.advance(many, steps)
        alone += sum(timing.advance(few, steps) for _ in range(share - share // 2))
        if number:  # the first time warms up
            ratios.append(among * share * len(devices) / runs / alone)
    return statistics.median(ratios)
