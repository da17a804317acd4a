"""What the benchmark times, and how: runs of given settings on given devices. Several
contenders are called in turn, so that other load on the machine affects all alike.

This is the only module of the benchmark that touches the programs of a sweep: how runs
are compiled and advanced is defined here.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax import experiment, sweep
from grok_jax.engine import config as config_lib
from grok_jax.engine import machine, memory, programs
from grok_jax.engine.dry_run import as_text
from grok_jax.engine.stand_ins import program_of
from grok_jax.settings import first_line
from grok_jax.types import Device

Settings = Mapping[str, Any]
"""The nested settings of a configuration."""


class Row(NamedTuple):
    """One measured number and its goal, an upper bound (or a lower one, `at_least`)."""

    name: str  # benchmark/what; a position on an axis comes last: steps/mnist/map/64
    measured: float | None  # None: could not be measured; the note says why
    unit: str
    goal: float | None = None
    note: str = ""
    at_least: bool = False
    numbers: Mapping[str, Any] | None = None  # other numbers measured with it

    @property
    def met(self) -> str:
        if self.goal is None or self.measured is None:
            return "-"
        high = self.measured >= self.goal
        return "yes" if self.measured == self.goal or high == self.at_least else "NO"


# --- times ----------------------------------------------------------------------------


class Line(NamedTuple):
    """Seconds as a line over a count: `start` once and `slope` for each unit."""

    slope: float
    start: float


def fit(times: Mapping[int, float]) -> Line:
    """Fits a line to count -> seconds: the slope by least squares, the start from the
    smallest count. If noise makes the slope negative, or if there is only one count,
    the slope is the seconds of the largest count divided by it.

    >>> print("{:.3f} {:.3f}".format(*fit({1: 3.0, 2: 5.0, 5: 11.0})))
    2.000 1.000
    """
    least, most = min(times), max(times)
    if len(times) > 1:
        counts, seconds = np.array([*times]), np.array([*times.values()])
        off = counts - counts.mean()
        slope = float(off @ seconds / (off @ off))
        if slope > 0:
            return Line(slope, max(0.0, times[least] - slope * least))
    return Line(times[most] / most, 0.0)


class Contender(NamedTuple):
    """A call that does something `count` times and returns the seconds, and the counts
    at which it is timed."""

    call: Callable[[int], float]
    counts: tuple[int, ...] = (1,)


def contender(
    call: Callable[[int], float], seconds: float, expected: float = 0.0
) -> Contender:
    """A contender timed at one, at as many as take `seconds`, and halfway, which also
    warms it up; at one and two if a single one is `expected` to take that long."""
    if expected >= seconds:
        return Contender(call, (1, 2))
    call(1)
    fixed, count = min(call(1), call(1)), 2
    while (more := call(count) - fixed) < seconds / 4 and count < 10**7:
        count *= max(2, min(16, int(seconds / 4 / max(more, 1e-9))))
    count = max(2, round((count - 1) * seconds / max(more, 1e-9)) + 1)
    return Contender(call, tuple(sorted({1, (1 + count) // 2, count})))


def lines(contenders: Mapping[str, Contender], repeats: int) -> dict[str, Line]:
    """The line of each contender through its median seconds at each of its counts; all
    of them are called in turn, `repeats` times."""
    times: dict[str, dict[int, list[float]]] = {
        name: {count: [] for count in each.counts} for name, each in contenders.items()
    }
    for _ in range(repeats):
        for name, each in contenders.items():
            for count in each.counts:
                times[name][count].append(each.call(count))
    return {
        name: fit({count: statistics.median(values) for count, values in at.items()})
        for name, at in times.items()
    }


def in_turns(
    calls: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, float]:
    """The median of the seconds that each call returns; all are warmed up, then called
    in turn, `repeats` times."""
    for call in calls.values():
        call()
    timed = {n: Contender(lambda _, call=call: call()) for n, call in calls.items()}
    return {name: line.slope for name, line in lines(timed, repeats).items()}


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds until the result of a call is ready."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


# --- runs -----------------------------------------------------------------------------


@dataclass
class TimedSweep:
    """Runs on the devices, and the step that they have reached."""

    program: programs.GroupProgram
    chunk: programs.Chunk
    mode: str
    at: int = 0


def plan(settings: Settings, runs: int) -> programs.Plan:
    """The plan of `runs` seeds of these settings."""
    sweeping = dict(train=dict(steps=10**6), sweep=dict(seed=tuple(range(runs))))
    return config_lib.resolve(config_lib.make_config(settings, sweeping)).plan


def group_program(
    settings: Settings, runs: int, devices: Sequence[Device]
) -> programs.GroupProgram:
    """The program of `runs` seeds of these settings, which must form one group."""
    seeds = plan(settings, runs)
    (group,) = seeds.groups()
    return program_of(group, devices)


def compile_segment(program: programs.GroupProgram, mode: str) -> Any:
    """Compiles the segment of all runs of a program."""
    return program.compiled(mode, _place(program))


def _place(program: programs.GroupProgram) -> sweep.Layout:
    return sweep.layout(len(program.group.members), program.devices)


def timed_sweep(program: programs.GroupProgram, mode: str) -> TimedSweep:
    """All runs of a program on its devices, at step 0."""
    count = len(program.group.members)
    return TimedSweep(
        program, programs.Chunk(program, np.arange(count), count, mode), mode
    )


def advance(timed: TimedSweep, steps: int) -> float:
    """Advances all runs of a sweep by `steps` in one segment; returns the seconds."""
    compiled = timed.program.compiled(timed.mode, timed.chunk.place, timed.chunk.order)
    pieces = programs.make_pieces(np.asarray([steps]), 0, 0, steps)
    pieces = pieces._replace(index=np.full_like(pieces.index, -1))
    arguments = timed.chunk.arguments(pieces)
    started = time.perf_counter()
    timed.chunk.state, new = compiled(*arguments)
    jax.block_until_ready((timed.chunk.state, new))
    timed.at += steps
    return time.perf_counter() - started


def one_step(
    program: programs.GroupProgram, stacked: int = 0
) -> tuple[Callable[[Any, Any], Any], Any, Any]:
    """(a step, its state, its data) of one run of a program, the latter two as shapes;
    or of `stacked` runs, which share their data if the program's runs do."""
    run = experiment.make(program.group.experiment)
    data = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, program.dataset(0)))
    state = jax.eval_shape(run.init, data)

    def step(state: Any, data: Any) -> Any:
        return run.advance(state, data, 0, 1)

    def stack(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((stacked, *leaf.shape), leaf.dtype), tree
        )

    if not stacked:
        return step, state, data
    if len(program.owners) == 1:
        return jax.vmap(step, in_axes=(0, None)), stack(state), data
    return jax.vmap(step), stack(state), stack(data)


def states(timed: TimedSweep) -> Any:
    """The states of all runs of a sweep, on the host."""
    return timed.chunk.place.collect(timed.chunk.state)


def first_run(timed: TimedSweep) -> tuple[dict[str, Any], Any, Any]:
    """(settings, parameters, training examples) of a sweep's first run, on the host."""
    params = jax.tree.map(lambda leaf: leaf[0], states(timed).params)
    settings = programs.named_settings(timed.program.group.experiment)
    return settings, params, timed.program.dataset(0).train


def planned_bytes(compiled: Any) -> dict[str, int]:
    """Bytes that the compiler plans on a device: in total, and of temporaries."""
    needed = memory.of_program(compiled)
    return dict(planned_bytes=needed.total, temporary_bytes=needed.temporaries)


def peak_bytes(devices: Sequence[Device]) -> int | None:
    """The peak bytes in use on a device in this process so far; None if the device does
    not report it, like a CPU."""
    return (devices[0].memory_stats() or {}).get("peak_bytes_in_use")


# --- a benchmark ----------------------------------------------------------------------


@dataclass
class Setup:
    """What is measured, where, and for how long; programs are compiled once."""

    workloads: Mapping[str, Settings]
    runs: Sequence[int] = (1, 16, 128, 1024)
    mode: str = "auto"  # map, vmap, both; auto: map on a CPU, else vmap
    seconds: float = 0.5  # of the longest timed segment
    repeats: int = 5
    most: float = 60.0  # seconds that measuring one number of runs may take
    rates: dict[str, float] = field(default_factory=dict)
    """Flop/s of matrix products in each precision measured so far."""
    _programs: dict[tuple[str, int], Any] = field(default_factory=dict)
    _compiled: dict[tuple[str, int, str], Any] = field(default_factory=dict)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The available devices; JAX is set up when they are first used."""
        resolved = config_lib.resolve(config_lib.make_config())
        return machine.set_up_jax(resolved.engine).devices

    @property
    def platform(self) -> str:
        return self.devices[0].platform

    @property
    def modes(self) -> tuple[str, ...]:
        auto = "map" if self.platform == "cpu" else "vmap"
        return {"auto": (auto,), "both": ("map", "vmap")}.get(self.mode, (self.mode,))

    def program(self, name: str, runs: int) -> programs.GroupProgram:
        """The program of `runs` runs of a workload."""
        key = (name, runs)
        if key not in self._programs:
            self._programs[key] = group_program(
                self.workloads[name], runs, self.devices
            )
        return self._programs[key]

    def compiled(self, name: str, runs: int, mode: str) -> tuple[Any, float]:
        """(compiled segment, seconds that compiling took).

        Raises: what the compiler raises, at every call.
        """
        key = (name, runs, mode)
        if key not in self._compiled:
            started = time.perf_counter()
            try:
                made: Any = compile_segment(self.program(name, runs), mode)
            except jax.errors.JaxRuntimeError as error:
                made = error
            self._compiled[key] = made, time.perf_counter() - started
        made, seconds = self._compiled[key]
        if isinstance(made, Exception):
            raise made
        return made, seconds

    def compile_side_by_side(
        self, keys: Iterable[tuple[str, int, str]], workers: int
    ) -> None:
        """Compiles programs in parallel; `compiled` then raises the errors of each."""
        keys = list(keys)
        for name, runs, _ in keys:
            self.program(name, runs)

        def one(key: tuple[str, int, str]) -> None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self.compiled(*key)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, keys))

    def too_much(self, compiled: Any, step_seconds: float) -> str:
        """The reason why a program is too large to be timed; "" if it is not."""
        spent = 3 * self.repeats * step_seconds
        if spent > self.most:
            return f"timing it would take {as_text(spent)}"
        planned = planned_bytes(compiled)["planned_bytes"] or 0
        if planned > sweep.memory_budget(self.devices):
            return f"it is planned to need {planned / 2**30:.3g} GiB on a device"
        return ""


def failure(error: BaseException) -> str:
    """The type of an error and the first line of its message, shortened."""
    return f"{type(error).__name__}: {first_line(error)}"
