"""How a group is to run and what it takes: mode, runs per chunk, memory, time.

platform                     -> `map` or `vmap`
compiled programs of a layout -> bytes on each device
what one slot and all slots need, and what is free -> runs per chunk
a few timed steps            -> seconds on this machine
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
"""Copies of the states on the host while they are saved: gathered, and as orbax takes
and writes them."""

AT_ONCE = 2**27
"""Bytes of the states of a chunk in `map` mode, where no size is asked for: runs go one
after another there, so that a larger chunk is no faster, and each save holds all of it.
"""
PROBED = 4
"""Runs on each device that are timed in `map` mode, for all of them."""


@dataclass(frozen=True)
class Engine:
    """How to run; nothing here changes a result in `map` mode."""

    mode: str = "auto"
    runs_per_chunk: int = 0  # 0: as many as fit
    segment_seconds: float = 2.0
    checkpoint_seconds: float = 30.0
    memory_gb: float = 0.0  # for each device; 0: what is free
    deterministic: bool = True  # the same bits twice, on a GPU too
    devices: tuple[Device, ...] = ()


def device_bytes(program: GroupProgram, mode: str, place: sweep.Layout) -> int:
    """Bytes on each device: the larger of what the compiler plans for making the
    states of a chunk and for a segment."""
    return max(own.total for own in program.bytes(mode, place))


def needed(program: GroupProgram, mode: str, place: sweep.Layout) -> int:
    """`device_bytes`; on a CPU, whose memory is the host's, what lies there between
    segments and the copies that saving the states takes, if that is more."""
    own = device_bytes(program, mode, place)
    if place.devices[0].platform != "cpu":
        return own
    _, segment = program.bytes(mode, place)
    size = state_bytes(program, place) // len(place.devices)
    return max(own, segment.arguments + SAVING * size)


def state_bytes(program: GroupProgram, place: sweep.Layout) -> int:
    """Bytes of the states of all slots of a layout."""
    states = jax.tree.leaves(program.state_shapes(place))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in states)


def choose(program: GroupProgram, engine: Engine) -> tuple[str, int]:
    """(mode, runs per chunk) of a group: the mode as asked, else that of the platform;
    as many runs as are asked for and predicted to fit.

    Raises:
      SettingError: one run for each device is more than there is room for.
    """
    mode = engine.mode
    if mode == "auto":
        mode = sweep.mode_for(program.devices)
    count = len(program.group.members)
    wanted = engine.runs_per_chunk or count
    if mode == "map" and not engine.runs_per_chunk:
        on_each = state_bytes(program, sweep.layout(1, program.devices))
        wanted = max(AT_ONCE // on_each, 1) * len(program.devices)
    return mode, _that_fit(program, engine, mode, min(wanted, count))


def _budget(engine: Engine, devices: tuple[Device, ...]) -> int:
    return int(engine.memory_gb * GIB) or sweep.memory_budget(devices)


def _that_fit(program: GroupProgram, engine: Engine, mode: str, wanted: int) -> int:
    """Of `wanted` runs as many as fit at once; what a chunk needs is linear in its
    slots, and is asked of the compiler at both ends."""
    devices = program.devices
    budget = _budget(engine, devices)
    whole = sweep.layout(wanted, devices)
    most = needed(program, mode, whole)
    if most <= budget:
        return wanted
    least = most
    if whole.slots > 1:
        least = needed(program, mode, sweep.layout(len(devices), devices))
    if least > budget:
        raise SettingError(
            f"One run needs {least / GIB:.3g} GiB on each device, and there are "
            f"{budget / GIB:.3g}; give it a smaller model, fewer data or fewer "
            "devices (engine.devices), or say what there is (engine.memory_gb)."
        )
    per_slot = (most - least) / (whole.slots - 1)
    slots = 1 + int((budget - least) / max(per_slot, 1))
    return min(slots, whole.slots - 1) * len(devices)


@dataclass(frozen=True)
class Estimate:
    """What a group would take."""

    mode: str
    chunk: int
    bytes: int  # on each device
    seconds_per_run_step: float
    seconds: float  # in all, if no run ends early


def estimate(group: Group, engine: Engine) -> Estimate:
    """Compiles a group, begins a chunk of it and times a few of its steps and
    measurements, and of the steps of its weak networks; in `map` mode those of a few
    runs from all over the grid, as the time goes with their number."""
    devices = engine.devices or tuple(jax.local_devices())
    program = GroupProgram(group, devices, engine.deterministic)
    mode, size = choose(program, engine)
    runs = len(group.members)
    count = min(size, runs)
    if mode == "map":
        count = min(count, PROBED * len(devices))
    spread = np.arange(count) * runs // count
    program.initial(mode, sweep.layout(count, devices, size))
    chunk, beginning = _begin(program, lambda: Chunk(program, spread, size, mode))
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
    total = times * (beginning + training)
    return Estimate(
        mode, size, needed(program, mode, chunk.place), a_step / count, total
    )


def _begin(program: GroupProgram, chunk: Callable[[], Chunk]) -> tuple[Chunk, float]:
    """A chunk at step 0, compiled already, and the seconds of beginning it: data,
    initial values, and weak networks, of which a few steps are timed for all."""

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
    for looks in (1, 5):
        few = np.minimum(whole, looks * every).astype(whole.dtype)
        program.traced = program.traced._replace(
            transfer=weak._replace(how=weak.how.replace(steps=few))
        )
        made, seconds[looks] = timed()
    program.traced = program.traced._replace(transfer=weak)
    assert made is not None
    a_step = max(seconds[5] - seconds[1], 0.0) / (4 * every)
    return made, seconds[1] + a_step * float(np.maximum(whole.mean() - every, 0))


def _by_steps(
    _: np.ndarray, seconds: Callable[[train.Pieces], float], steps: int = 20
) -> tuple[float, float]:
    """Seconds of a step and of a record."""

    def of(steps: int, records: int) -> float:
        fill = (0, PIECES - records)
        lengths = np.pad(np.full(records, steps // records, np.int32), fill)
        index = np.pad(np.zeros(records, np.int32), fill, constant_values=-1)
        return seconds(train.Pieces(np.asarray(0, np.int32), lengths, index))

    one_record, many_records = of(0, 1), of(0, 5)
    a_record = max((many_records - one_record) / 4, 0.0)
    return max((of(steps, 1) - one_record) / steps, 1e-9), a_record


def _by_records(
    steps: np.ndarray, seconds: Callable[[train.Pieces], float]
) -> tuple[float, float]:
    """The same where dynamics choose their own steps: the way from record to record,
    not its length, is what costs. Seconds of a step are those of all records, shared
    out."""
    first = make_pieces(steps, 0, 1, int(steps[-1]))
    a_record = seconds(first) / max(1, int((first.index >= 0).sum()))
    return a_record * len(steps) / max(1, int(steps[-1])), 0.0
