"""Plans how a group runs and what it needs: mode, runs per chunk, memory, time.

platform                       -> `map` or `vmap`
compiled programs of a layout  -> bytes on each device
bytes of one slot and of all slots, and free memory -> runs per chunk
a few timed steps              -> seconds on this machine
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from grok_jax import sweep, train
from grok_jax.engine.programs import PIECES, Chunk, Group, GroupProgram, make_pieces
from grok_jax.settings import SettingError
from grok_jax.types import Device

GIB = 2**30
SAVING = 3
"""Copies of the states on the host during a save: the gathered one, and the two with
which orbax takes and writes them."""

AT_ONCE = 2**27
"""Bytes of a chunk's states in `map` mode if no chunk size is set: runs go one after
another there, so a larger chunk is no faster, and each save copies all of it.
"""
PROBED = 4
"""Runs per device that are timed in `map` mode, to represent all of them."""


@dataclass(frozen=True)
class Engine:
    """Execution settings; in `map` mode none of them changes a result."""

    mode: str = "auto"
    runs_per_chunk: int = 0  # 0: as many as fit
    segment_seconds: float = 2.0
    checkpoint_seconds: float = 30.0
    memory_gb: float = 0.0  # per device; 0: the free memory
    deterministic: bool = True  # bitwise reproducible, on a GPU too
    devices: tuple[Device, ...] = ()


def device_bytes(program: GroupProgram, mode: str, place: sweep.Layout) -> int:
    """Bytes on each device that the compiler plans: the larger of the program that
    initialises a chunk and the segment program."""
    return max(planned.total for planned in program.bytes(mode, place))


def needed(program: GroupProgram, mode: str, place: sweep.Layout) -> int:
    """`device_bytes`; on a CPU, whose memory is the host's, at least the arguments of a
    segment and the copies made while saving the states."""
    planned = device_bytes(program, mode, place)
    if place.devices[0].platform != "cpu":
        return planned
    _, segment = program.bytes(mode, place)
    size = state_bytes(program, place) // len(place.devices)
    return max(planned, segment.arguments + SAVING * size)


def state_bytes(program: GroupProgram, place: sweep.Layout) -> int:
    """Bytes of the states of all slots of a layout."""
    states = jax.tree.leaves(program.state_shapes(place))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in states)


def choose(program: GroupProgram, engine: Engine) -> tuple[str, int]:
    """(mode, runs per chunk) of a group: the mode of `engine` or the platform's, and as
    many runs as are asked for and predicted to fit.

    Raises:
      SettingError: one run per device does not fit in memory.
    """
    mode = engine.mode
    if mode == "auto":
        mode = sweep.mode_for(program.devices)
    count = len(program.group.members)
    wanted = engine.runs_per_chunk or count
    if mode == "map" and not engine.runs_per_chunk:
        on_each = state_bytes(program, sweep.layout(1, program.devices))
        wanted = max(AT_ONCE // on_each, 1) * len(program.devices)
    return mode, _fit_count(program, engine, mode, min(wanted, count))


def _budget(engine: Engine, devices: tuple[Device, ...]) -> int:
    return int(engine.memory_gb * GIB) or sweep.memory_budget(devices)


def _fit_count(program: GroupProgram, engine: Engine, mode: str, wanted: int) -> int:
    """How many of `wanted` runs fit at once."""
    devices = program.devices
    budget = _budget(engine, devices)

    def bytes_of(slots: int) -> int:
        count = min(wanted, slots * len(devices))
        return needed(program, mode, sweep.layout(count, devices))

    most = sweep.layout(wanted, devices).slots
    slots, size = sweep.slots_that_fit(bytes_of, most, budget)
    if not slots:
        raise SettingError(
            f"One run needs {in_gib(size)} GiB on each device, but only "
            f"{in_gib(budget)} are available; use a smaller model, less data or "
            "fewer devices (engine.devices), or set the memory (engine.memory_gb)."
        )
    return min(wanted, slots * len(devices))


def in_gib(size: int | None) -> str:
    """Bytes as a number of GiB; "more" for what no device has."""
    return "more" if size is None else f"{size / GIB:.3g}"


@dataclass(frozen=True)
class Estimate:
    """The predicted cost of a group."""

    mode: str
    chunk: int
    bytes: int  # per device
    seconds_per_run_step: float
    seconds: float  # in total, if no run ends early


def estimate(group: Group, engine: Engine) -> Estimate:
    """Estimates a group's cost: compiles it, starts a chunk and times a few steps and
    measurements, and a few steps of its weak networks; in `map` mode only for a few
    runs from all over the grid, as time is proportional to their number."""
    devices = engine.devices or tuple(jax.local_devices())
    program = GroupProgram(group, devices, engine.deterministic)
    mode, size = choose(program, engine)
    runs = len(group.members)
    count = min(size, runs)
    if mode == "map":
        count = min(count, PROBED * len(devices))
    spread = np.arange(count) * runs // count
    program.initial(mode, sweep.layout(count, devices, size))
    chunk, start = _start(program, lambda: Chunk(program, spread, size, mode))
    compiled = program.compiled(mode, chunk.place, chunk.order)

    def slots(runs: int) -> int:
        return sweep.layout(runs, devices).slots

    def seconds(pieces: train.Pieces) -> float:
        started = time.perf_counter()
        chunk.state, new = compiled(*chunk.arguments(pieces))
        jax.block_until_ready(new)
        return time.perf_counter() - started

    seconds(make_pieces(program.steps, 0, 0, 0))  # warm
    probe = _by_records if program.adaptive else _by_steps
    a_step, a_record = probe(program.steps, seconds)
    whole, rest = divmod(runs, size)
    times = whole + bool(rest)
    if mode == "map":
        times = (whole * slots(size) + slots(rest)) / slots(count)
    training = a_step * int(program.steps[-1]) + a_record * len(program.steps)
    total = times * (start + training)
    return Estimate(
        mode, size, needed(program, mode, chunk.place), a_step / count, total
    )


def _start(program: GroupProgram, chunk: Callable[[], Chunk]) -> tuple[Chunk, float]:
    """A chunk at step 0, compiled already, and the seconds to start it: data, initial
    values and weak networks, whose time is extrapolated from a few steps."""

    def timed() -> tuple[Chunk, float]:
        started = time.perf_counter()
        made = chunk()
        jax.block_until_ready(made.state)
        return made, time.perf_counter() - started

    weak = program.traced.transfer
    if weak is None:
        return timed()
    whole, every = np.asarray(weak.how["steps"]), weak.how["every"]
    seconds, made = {}, None
    for checks in (1, 5):
        few = np.minimum(whole, checks * every).astype(whole.dtype)
        program.traced = program.traced._replace(
            transfer=weak._replace(how=weak.how.replace(steps=few))
        )
        made, seconds[checks] = timed()
    program.traced = program.traced._replace(transfer=weak)
    assert made is not None
    a_step = max(seconds[5] - seconds[1], 0.0) / (4 * every)
    return made, seconds[1] + a_step * float(np.maximum(whole.mean() - every, 0))


def _by_steps(
    _: np.ndarray, seconds: Callable[[train.Pieces], float]
) -> tuple[float, float]:
    """(seconds per step, seconds per record)."""
    steps = 20

    def timed(steps: int, records: int) -> float:
        fill = (0, PIECES - records)
        lengths = np.pad(np.full(records, steps // records, np.int32), fill)
        index = np.pad(np.zeros(records, np.int32), fill, constant_values=-1)
        return seconds(train.Pieces(np.asarray(0, np.int32), lengths, index))

    one_record, many_records = timed(0, 1), timed(0, 5)
    a_record = max((many_records - one_record) / 4, 0.0)
    return max((timed(steps, 1) - one_record) / steps, 1e-9), a_record


def _by_records(
    steps: np.ndarray, seconds: Callable[[train.Pieces], float]
) -> tuple[float, float]:
    """The same for dynamics that choose their own step sizes: the cost is per record,
    whatever the distance between records, and is divided over the steps."""
    first = make_pieces(steps, 0, 1, int(steps[-1]))
    a_record = seconds(first) / max(1, int((first.index >= 0).sum()))
    return a_record * len(steps) / max(1, int(steps[-1])), 0.0
