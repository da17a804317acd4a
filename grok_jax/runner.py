"""A grid of settings -> results: groups, chunks, segments, checkpoints.

    for group (one shape, compiled once):
      data: one copy for each distinct data set, shared by the runs that agree in it
      for chunk (what fits memory):
        init -> [ segment -> records -> progress -> checkpoint if due ] ...

Only the settings decide the numbers: where a run is cut into segments or chunks, on
how many devices it lies and how often it was resumed leave no trace in them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from grok_jax import build, checkpoint, hosts, measures, record, sweep, train
from grok_jax.grid import Grid, Group, group_runs
from grok_jax.settings import Leaf
from grok_jax.types import Device

PIECES = 32
"""Records (or parts of the way to one) in a compiled segment."""


class Interrupted(Exception):
    """The run was asked to stop; everything is saved."""


@dataclass(frozen=True)
class Engine:
    """How to run; nothing here changes a result in `map` mode."""

    mode: str = "auto"
    runs_per_chunk: int = 0  # 0: as many as fit
    segment_seconds: float = 2.0
    checkpoint_seconds: float = 30.0
    memory_gb: float = 0.0  # for each device; 0: what is free
    devices: tuple[Device, ...] = ()


_grokking_times = jax.jit(measures.grokking_times)
_first_step_reaching = jax.jit(measures.first_step_reaching)


@dataclass(frozen=True)
class Grok:
    """When a run counts as memorised and as generalised."""

    kind: str = "loss"  # loss: shares of the start and the peak; accuracy: levels
    train: float = 0.05
    test: float = 0.1

    def times(self, steps: np.ndarray, results: Any):
        """(t_train, t_test) [...], NaN where never."""
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


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands."""

    seconds: float
    run_steps: int  # done, over all runs; a run that ended early counts as done
    run_steps_total: int
    rate: float  # run-steps per second, lately
    runs: int
    memorised: int
    generalised: int
    diverged: int

    @property
    def eta(self) -> float:
        left = self.run_steps_total - self.run_steps
        return left / self.rate if self.rate > 0 else float("nan")


class Records(NamedTuple):
    """Curves of some runs at some steps; NaN where a run was not measured."""

    runs: np.ndarray  # [n] run numbers of the grid
    steps: np.ndarray  # [S]
    curves: dict[str, np.ndarray]  # [n, S]; what is more than a number is left out


@dataclass(frozen=True)
class Plan:
    """What is to run."""

    settings: dict[str, Any]
    leaves: dict[str, Leaf]
    grid: Grid

    def groups(self) -> list[Group]:
        return group_runs(self.grid, self.settings, self.leaves)


def check_data(plan: Plan) -> None:
    """Reads what the tasks of a plan need and takes its shapes, before anything runs.

    Raises: SettingError or DataError where data are missing, damaged or too few.
    """
    for group in plan.groups():
        make = partial(build.make_dataset, group.settings)
        jax.eval_shape(make, **build.load_files(group.settings))


class GroupProgram:
    """The compiled programs of one group and the data its runs share."""

    def __init__(self, plan: Plan, group: Group, devices: tuple[Device, ...]):
        self.group, self.leaves, self.devices = group, plan.leaves, devices
        self.steps = train.record_steps(
            group.settings["train.steps"],
            group.settings["train.records"],
            group.settings["train.spacing"],
        )
        self.traced = {
            path: build.as_traced(values, plan.leaves[path])
            for path, values in group.traced.items()
        }
        self.data, self.data_of = self._datasets()
        self.initial = sweep.batch(self._init, mode="map", devices=devices)
        self._programs: dict[Any, Any] = {}

    def settings_of(self, member: int) -> dict[str, Any]:
        """The settings of one run as plain numbers."""
        own = {path: values[member] for path, values in self.group.traced.items()}
        return {**self.group.settings, **own}

    def _datasets(self) -> tuple[Any, np.ndarray]:
        """Distinct data sets [n, ...], and for each member which one is its own."""
        files = build.load_files(self.group.settings)
        make = jax.jit(
            lambda own, files: build.make_dataset(
                {**self.group.settings, **own}, **files
            )
        )
        first: dict[Any, int] = {}
        made, which = [], []
        for member in range(len(self.group.members)):
            identity = build.data_identity(self.settings_of(member))
            if identity not in first:
                first[identity] = len(made)
                own = {path: values[member] for path, values in self.traced.items()}
                made.append(jax.tree.map(np.asarray, make(own, files)))
            which.append(first[identity])
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *made)
        return stacked, np.asarray(which, np.int32)

    def dataset(self, member: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[self.data_of[member]], self.data)

    def _pick(self, data: Any, run: Mapping[str, Any]) -> Any:
        """A run's data; a data set that all share stays unbatched under vmap."""
        only = len(jax.tree.leaves(data)[0]) == 1
        return jax.tree.map(lambda leaf: leaf[0 if only else run["data"]], data)

    def _run_of(self, run: Mapping[str, Any]) -> train.Run:
        return build.make({**self.group.settings, **run["settings"]})

    def _init(self, data: Any, run: Mapping[str, Any], carry: Any) -> Any:
        return carry, self._run_of(run).init(self._pick(data, run))

    def _segment(self, shared: Any, run: Mapping[str, Any], state: Any) -> Any:
        data, pieces = shared
        own = self._pick(data, run)
        return train.segment(self._run_of(run), state, own, pieces)

    def compiled(self, mode: str, place: sweep.Layout) -> Any:
        """The segment program for this many slots, compiled once."""
        if (mode, place.slots) not in self._programs:
            pieces = train.Pieces(*(np.zeros(PIECES, np.int32) for _ in range(2)))
            data, runs = place.shared_shapes(self.data), self.inputs(slice(None))
            counts = place.counts()
            runs = place.placed_shapes(runs)
            _, states = jax.eval_shape(self.initial, data, runs, (), counts)
            args = ((data, place.shared_shapes(pieces)), runs)
            program = sweep.batch(self._segment, mode=mode, devices=self.devices)
            self._programs[mode, place.slots] = program.lower(
                *args, place.placed_shapes(states), counts
            ).compile()
        return self._programs[mode, place.slots]

    def inputs(self, members: Any) -> dict[str, Any]:
        """What tells the runs of a group apart."""
        settings = {path: values[members] for path, values in self.traced.items()}
        return {"settings": settings, "data": self.data_of[members]}


class Chunk:
    """Some members of a group on the devices: their settings, data and states."""

    def __init__(
        self,
        program: GroupProgram,
        members: np.ndarray,
        capacity: int,
        state: Callable[[Any], Any] | None = None,
    ):
        """`capacity` runs have room; `state` makes the host states from their shapes
        (default: the states at step 0)."""
        self.members = members
        self.place = sweep.layout(len(members), program.devices, capacity)
        self._counts = self.place.counts()
        self._data = self.place.share(program.data)
        self._runs = self.place.place(program.inputs(members))
        start = (self._data, self._runs, (), self._counts)
        if state is None:
            _, self.state = program.initial(*start)
        else:
            _, shapes = jax.eval_shape(program.initial, *start)
            self.state = self.place.place(state(self.place.shapes(shapes)))

    def balanced(self, alive: np.ndarray) -> bool:
        """Whether no device would have less to do, were the living dealt again."""
        devices = len(self.place.devices)
        most = max(int(alive[d::devices].sum()) for d in range(devices))
        return most <= -(-int(alive.sum()) // devices)

    def arguments(self, pieces: train.Pieces) -> tuple:
        """What the segment program takes; it takes the states away."""
        shared = (self._data, self.place.share(pieces))
        return shared, self._runs, self.state, self._counts


def make_pieces(steps: np.ndarray, at: int, index: int, budget: int) -> train.Pieces:
    """The next segment from step `at`, whose next record is `index`, of at most
    `budget` steps and PIECES pieces."""
    lengths, indices = [], []
    while index < len(steps) and len(lengths) < PIECES and budget >= 0:
        length = int(min(steps[index] - at, budget))
        at, budget = at + length, budget - length
        reached = at == steps[index]
        lengths.append(length)
        indices.append(index if reached else -1)
        index += reached
        if budget == 0:
            break
    fill = PIECES - len(lengths)
    return train.Pieces(
        np.asarray(lengths + [0] * fill, np.int32),
        np.asarray(indices + [-1] * fill, np.int32),
    )


@dataclass
class Position:
    """How far a sweep has come; with the records this is all that a resume needs."""

    group: int = 0
    start: int = 0  # first member of the chunk
    at: int = 0  # step
    index: int = 0  # next record
    living: list[int] = field(default_factory=list)  # members that the states are of
    modes: dict[str, str] = field(default_factory=dict)  # group -> mode
    chunks: dict[str, int] = field(default_factory=dict)  # group -> runs per chunk
    seconds: float = 0.0
    saves: int = 0


class Sweeper:
    """Runs a plan to its end, saving as it goes."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        *,
        folder: Path | None = None,
        grok: Grok | None = None,
        say: Callable[[str], None] = print,
        progress: Callable[[Progress], None] = lambda _: None,
        stop_requested: Callable[[], bool] = lambda: False,
        seen: Callable[[Records], None] | None = None,
    ):
        """`seen` gets the records of each segment, after a resume those before it."""
        self.plan, self.engine, self.folder = plan, engine, folder
        self.grok, self.say, self.progress = grok or Grok(), say, progress
        self.stop_requested, self.seen = stop_requested, seen
        self.groups = plan.groups()
        self.devices = engine.devices or tuple(jax.local_devices())
        self.records: dict[int, dict[str, np.ndarray]] = {}
        self.per_step: dict[int, set[str]] = {}
        self.position = Position()
        self._state: Any = None
        self._resumed: dict[str, np.ndarray] = {}
        self._saved_at = self._clock = time.perf_counter()
        self._rate = 0.0

    def run(self) -> xr.Dataset:
        """Results over the whole grid; of several processes (`hosts`) the first alone
        has them, and the others an empty dataset.

        Raises:
          Interrupted: `stop_requested` became true; a checkpoint was saved.
          checkpoint.CheckpointError: a checkpoint could not be read or written.
        """
        self._restore()
        self._saved_at = self._clock = time.perf_counter()
        while self.position.group < len(self.groups):
            self._run_group(self.groups[self.position.group])
            self.position.group += 1
            self.position.start = 0
        self._save()
        return self._results() if hosts.is_writer() else xr.Dataset()

    def _run_group(self, group: Group) -> None:
        program = GroupProgram(self.plan, group, self.devices)
        key = str(self.position.group)
        if key not in self.position.modes:
            (mode, chunk), _ = hosts.broadcast(choose(program, self.engine))
            self.position.modes[key], self.position.chunks[key] = mode, chunk
        chunk = self.position.chunks[key]
        while self.position.start < len(group.members):
            self._run_chunk(program, chunk)
            self.position.start += chunk
            self.position.at = self.position.index = 0
            self.position.living, self._state = [], None

    def _run_chunk(self, program: GroupProgram, capacity: int) -> None:
        lot = self._first_lot(program, capacity)
        mode = self.position.modes[str(self.position.group)]
        compiled = program.compiled(mode, lot.place)
        budget = 8
        while self.position.index < len(program.steps):
            pieces = make_pieces(
                program.steps, self.position.at, self.position.index, budget
            )
            started = time.perf_counter()
            lot.state, new = compiled(*lot.arguments(pieces))
            new = lot.place.collect(new)  # waits
            spent = float(hosts.agree(time.perf_counter() - started)[0])
            if hosts.is_writer():
                self._keep(program, lot.members, pieces, new)
            advanced = int(pieces.steps.sum())
            self.position.at += advanced
            self.position.index += int((pieces.index >= 0).sum())
            if advanced:
                wanted = int(self.engine.segment_seconds * advanced / spent)
                budget = max(1, min(wanted, 4 * budget))
            ends = lot.place.collect(_ends(lot.state), everywhere=True)
            alive = ends.pop("alive")
            self._keep_ends(lot.members, ends)
            if not alive.any():
                self.position.index = len(program.steps)
            elif mode == "map" and not (hosts.several() or lot.balanced(alive)):
                lot = self._deal_again(program, lot, alive, capacity)
                alive = alive[alive]
            self.position.living = lot.members.tolist()
            self._tell(int(alive.sum()), advanced, spent)
            self._state = partial(lot.place.collect, lot.state)
            self._save_if_due()

    def _first_lot(self, program: GroupProgram, capacity: int) -> Chunk:
        """The runs of a chunk at step 0, or where a checkpoint left them."""
        if self._resumed:
            living = np.asarray(self.position.living)
            resumed, self._resumed = self._resumed, {}
            return Chunk(program, living, capacity, partial(checkpoint.fit, resumed))
        start, count = self.position.start, len(program.group.members)
        members = np.arange(start, min(start + capacity, count))
        lot = Chunk(program, members, capacity)
        if program.group.settings["reference.lazy"]:
            anchors = lot.place.collect(lot.state.anchor)
            if hosts.is_writer():
                self._reference(program, members, anchors)
        return lot

    def _deal_again(
        self, program: GroupProgram, lot: Chunk, alive: np.ndarray, capacity: int
    ) -> Chunk:
        """The runs that still live, spread evenly over the devices."""
        living = jax.tree.map(lambda leaf: leaf[alive], lot.place.collect(lot.state))
        return Chunk(program, lot.members[alive], capacity, lambda _: living)

    def _reference(
        self, program: GroupProgram, members: np.ndarray, anchors: Any
    ) -> None:
        for i, member in enumerate(members):
            reference = build.lazy_reference(
                program.settings_of(member),
                program.dataset(member),
                jax.tree.map(lambda leaf, i=i: leaf[i], anchors),
                program.steps,
            )
            for name, values in reference.items():
                values = np.asarray(values)
                buffer = self._buffer(name, values.shape, values.dtype, values.ndim > 0)
                buffer[member] = values

    def _buffer(
        self, name: str, shape: tuple[int, ...], dtype: Any, has_steps: bool
    ) -> np.ndarray:
        group = self.position.group
        records = self.records.setdefault(group, {})
        if name not in records:
            members = len(self.groups[group].members)
            records[name] = np.full((members, *shape), np.nan, dtype)
            if has_steps:
                self.per_step.setdefault(group, set()).add(name)
        return records[name]

    def _keep(
        self, program: GroupProgram, members: np.ndarray, pieces: train.Pieces, new: Any
    ) -> None:
        measured = np.flatnonzero(pieces.index >= 0)
        for name, values in new.items():
            shape = (len(program.steps), *values.shape[2:])
            buffer = self._buffer(name, shape, values.dtype, True)
            cells = np.ix_(members, pieces.index[measured])
            buffer[cells] = values[:, measured]
        self._show(self.position.group, members, pieces.index[measured])

    def _show(self, group: int, members: np.ndarray, indices: np.ndarray) -> None:
        if not (self.seen and len(indices)):
            return
        held, cells = self.records[group], np.ix_(members, indices)
        measured = np.isfinite(held["train_loss"][cells])
        names = (n for n in sorted(self.per_step[group]) if held[n].ndim == 2)
        curves = {name: np.where(measured, held[name][cells], np.nan) for name in names}
        numbers = np.asarray(self.groups[group].members)[members]
        self.seen(Records(numbers, self._steps(self.groups[group])[indices], curves))

    def _keep_ends(self, members: np.ndarray, ends: Mapping[str, np.ndarray]) -> None:
        for name, values in ends.items():
            buffer = self._buffer(name, (), np.dtype(float), False)
            buffer[members] = np.where(values < 0, np.nan, values)

    def _tell(self, living: int, advanced: int, spent: float) -> None:
        if not hosts.is_writer():
            return
        if advanced:
            self._rate = living * advanced / spent
        reached = np.zeros(2, int)
        diverged = 0
        for group, records in self.records.items():
            times = self.grok.times(self._steps(self.groups[group]), records)
            reached += [int(np.isfinite(np.asarray(t)).sum()) for t in times]
            diverged += int(np.isfinite(records["diverged_at"]).sum())
        lengths = [g.settings["train.steps"] * len(g.members) for g in self.groups]
        group = self.groups[self.position.group]
        capacity = self.position.chunks[str(self.position.group)]
        before = min(self.position.start + capacity, len(group.members)) - living
        done = before * group.settings["train.steps"] + living * self.position.at
        self.progress(
            Progress(
                seconds=self._seconds(),
                run_steps=sum(lengths[: self.position.group]) + done,
                run_steps_total=sum(lengths),
                rate=self._rate,
                runs=len(self.plan.grid),
                memorised=int(reached[0]),
                generalised=int(reached[1]),
                diverged=diverged,
            )
        )

    def _seconds(self) -> float:
        return self.position.seconds + time.perf_counter() - self._clock

    def _steps(self, group: Group) -> np.ndarray:
        s = group.settings
        return train.record_steps(
            s["train.steps"], s["train.records"], s["train.spacing"]
        )

    def _save_if_due(self) -> None:
        waited = time.perf_counter() - self._saved_at
        due = waited >= self.engine.checkpoint_seconds
        asked, due = hosts.agree(self.stop_requested(), due) > 0
        if asked or due:
            self._save()
        if asked:
            raise Interrupted

    def _save(self) -> None:
        if self.folder is None:
            return
        self.position.seconds = self._seconds()
        self._clock = self._saved_at = time.perf_counter()
        self.position.saves += 1
        state = self._state() if self._state is not None else {}
        if not hosts.is_writer():
            return
        content = {
            "state": state,
            "records": {str(g): values for g, values in self.records.items()},
        }
        about = {
            "position": self.position.__dict__,
            "per_step": {g: sorted(names) for g, names in self.per_step.items()},
        }
        checkpoint.save(self.folder, self.position.saves, content, about)

    def _restore(self) -> None:
        if self.folder is None:
            return
        leaves, about, skipped = {}, {}, []
        with hosts.together():
            if hosts.is_writer():
                leaves, about, skipped = checkpoint.restore_newest(self.folder)
        (about, skipped), leaves = hosts.broadcast([about, skipped], leaves)
        for sentence in skipped:
            self.say(sentence)
        if not about:
            return
        self.position = Position(**about["position"])
        self.per_step = {int(g): set(names) for g, names in about["per_step"].items()}
        for name, leaf in leaves.items():
            kind, rest = name.split(".", 1)
            if kind == "state":
                self._resumed[rest] = leaf
            else:
                group, variable = rest.split(".", 1)
                self.records.setdefault(int(group), {})[variable] = leaf.copy()
        self.say(
            f"Going on from checkpoint {self.position.saves}: group "
            f"{min(self.position.group + 1, len(self.groups))} of {len(self.groups)}, "
            f"step {self.position.at:,}, after {self.position.seconds:.0f} s."
        )
        for number, held in self.records.items():
            self._show(number, *map(np.arange, held["train_loss"].shape))

    def _results(self) -> xr.Dataset:
        numbers = range(len(self.groups))
        results = record.assemble(
            self.plan.grid,
            [group.members for group in self.groups],
            [self._steps(group) for group in self.groups],
            [self.records[g] for g in numbers],
            [self.per_step[g] for g in numbers],
        )
        t_train, t_test = self.grok.times(results["step"].values, results)
        dims = self.plan.grid.dims
        results["t_train"] = (dims, np.asarray(t_train))
        results["t_test"] = (dims, np.asarray(t_test))
        results["diverged"] = results["diverged_at"].notnull()
        results.attrs = {
            "seconds": self._seconds(),
            "modes": ", ".join(sorted(set(self.position.modes.values()))),
            "groups": len(self.groups),
        }
        return results


def _ends(state: train.RunState) -> dict[str, Any]:
    return {
        "alive": state.alive,
        "diverged_at": state.diverged_at,
        "stop_met_at": state.met_at,
    }


def choose(program: GroupProgram, engine: Engine) -> tuple[str, int]:
    """(mode, runs per chunk) of a group: as asked, else by a short timed probe and
    by predicted memory."""
    count = len(program.group.members)
    wanted = min(engine.runs_per_chunk or count, count)
    budget = int(engine.memory_gb * 2**30) or None
    place = sweep.layout(wanted, program.devices)

    def fits(mode: str) -> int:
        if engine.runs_per_chunk:
            return wanted
        compiled = program.compiled(mode, place)
        return min(wanted, sweep.chunk_that_fits(compiled, place, mode, budget))

    if engine.mode != "auto":
        return engine.mode, fits(engine.mode)
    if wanted <= len(program.devices) or fits("vmap") < wanted:
        return "map", fits("map")
    steps = min(5, int(program.steps[-1]))
    pieces = make_pieces(np.asarray([steps]), 0, 0, steps)

    def call(mode: str) -> Any:
        chunk = Chunk(program, np.arange(wanted), wanted)
        return program.compiled(mode, place)(*chunk.arguments(pieces))

    mode = sweep.faster({mode: partial(call, mode) for mode in ("map", "vmap")})
    return mode, fits(mode)


@dataclass(frozen=True)
class Estimate:
    """What a group would take."""

    mode: str
    chunk: int
    bytes: int  # on each device
    seconds_per_run_step: float
    seconds: float  # in all, if no run ends early


def estimate(plan: Plan, group: Group, engine: Engine, steps: int = 20) -> Estimate:
    """Compiles a group and times a few steps and measurements of it."""
    devices = engine.devices or tuple(jax.local_devices())
    program = GroupProgram(plan, group, devices)
    mode, size = choose(program, engine)
    count = min(size, len(group.members))
    chunk = Chunk(program, np.arange(count), size)
    compiled = program.compiled(mode, chunk.place)

    def seconds(steps: int, records: int) -> float:
        fill = PIECES - records
        lengths = np.full(records, steps // records, np.int32)
        pieces = train.Pieces(
            np.pad(lengths, (0, fill)),
            np.pad(np.zeros(records, np.int32), (0, fill), constant_values=-1),
        )
        started = time.perf_counter()
        chunk.state, new = compiled(*chunk.arguments(pieces))
        jax.block_until_ready(new)
        return time.perf_counter() - started

    seconds(1, 1)  # warm
    one_record, many_records = seconds(0, 1), seconds(0, 5)
    a_record = max((many_records - one_record) / 4, 0.0)
    a_step = max((seconds(steps, 1) - one_record) / steps, 1e-9)
    chunks = -(-len(group.members) // size)
    total = chunks * (a_step * int(program.steps[-1]) + a_record * len(program.steps))
    return Estimate(mode, size, sweep.predicted_bytes(compiled), a_step / count, total)
