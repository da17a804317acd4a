"""Runs a grid of settings and returns results: groups, chunks, segments, checkpoints.

    for group (one shape, compiled once):
      for chunk (what fits memory):
        init -> [ segment -> records -> progress -> checkpoint if due ] ...

The results depend only on the settings, not on how a sweep is cut into chunks and
segments, on how many devices it runs or how often it was resumed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from grok_jax import sweep, train, tree
from grok_jax.engine import checkpoint, hosts
from grok_jax.engine.measured import Grok, Measured, Records
from grok_jax.engine.planning import Engine, choose
from grok_jax.engine.programs import Chunk, Group, GroupProgram, Plan, make_pieces
from grok_jax.engine.states import States
from grok_jax.reference import lazy_reference
from grok_jax.settings import SettingError
from grok_jax.types import Device

COMPACTION = 16
"""Under vmap, ended runs are removed only at multiples of this record number, wherever
segments are cut: batch shapes affect rounding, so only the runs may determine them."""


BY_CLOCK = {"start_seconds": 0, "step_seconds": 2}
"""Variables of the results that are measured by the clock, so no two launches agree ->
their index in `Position.spent`."""


class Interrupted(Exception):
    """The sweep was asked to stop; everything is saved."""


KNOWN_SHARE = 0.01
"""From this share of the run-steps on, the time that is left is foretold."""


@dataclass(frozen=True)
class Progress:
    """The progress of a sweep."""

    seconds: float
    run_steps: int  # done, over all runs; a run that ended early counts as done
    run_steps_total: int
    rate: float  # run-steps per second, in the last segment
    pace: float  # the same, in all segments of the present group
    runs: int
    memorised: int
    generalised: int
    diverged: int

    @property
    def share(self) -> float:
        """The share of the run-steps that are done; of none, all of them."""
        total = self.run_steps_total
        return self.run_steps / total if total else 1.0

    @property
    def eta(self) -> float:
        """Seconds left at the group's pace so far, as adaptive steps make segments of
        any rate; NaN at first, when segments are so short that most of their time is
        not spent in steps."""
        left = self.run_steps_total - self.run_steps
        known = self.pace > 0 and self.share >= KNOWN_SHARE
        return left / self.pace if known else float("nan")


class HostCopy(NamedTuple):
    """The states of a chunk on the host, and how far they are."""

    at: int  # step
    index: int  # next record
    members: list[int]
    leaves: dict[str, np.ndarray]  # by name, [member, ...]


@dataclass
class Position:
    """How far a sweep has come; stored in checkpoints beside states and records."""

    group: int = 0
    start: int = 0  # first member of the chunk
    until: int = 0  # first member after the chunk
    at: int = 0  # step
    index: int = 0  # next record
    living: list[int] = field(default_factory=list)  # members of the states
    modes: dict[str, str] = field(default_factory=dict)  # group -> mode
    chunks: dict[str, int] = field(default_factory=dict)  # group -> runs per chunk
    slots: dict[str, int] = field(default_factory=dict)  # group -> slots per device
    room: int = 0  # capacity of the chunk, after ended runs were removed
    seconds: float = 0.0
    spent: dict[str, list[float]] = field(default_factory=dict)
    """group -> seconds and runs of starting, seconds and run-steps of training"""
    saves: int = 0


class Sweeper:
    """Runs a plan to its end, saving checkpoints on the way."""

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
        states: States | None = None,
    ):
        """`seen` gets the records of each segment and, after a resume, earlier ones;
        `states` stores the states of ended runs, and has those from which a plan with
        `after` continues."""
        self.states = states
        self.plan, self.engine, self.folder = plan, engine, folder
        self.grok, self.say, self.progress = grok or Grok(), say, progress
        self.stop_requested, self.seen = stop_requested, seen
        self.groups = plan.groups()
        self._points = plan.grid.runs()
        self.devices = engine.devices or tuple(jax.local_devices())
        self.measured = Measured(self.groups)
        self.position = Position()
        self._state: Any = None
        self._resumed: dict[str, np.ndarray] = {}
        self._host_copy: HostCopy | None = None
        self._saved_at = self._clock = time.perf_counter()
        self._rate = 0.0

    def run(self) -> xr.Dataset:
        """Returns results over the whole grid; with several processes (`hosts`) all but
        the first return an empty dataset.

        Raises:
          Interrupted: `stop_requested` became true; a checkpoint was saved.
          checkpoint.CheckpointError: a checkpoint could not be read or written.
        """
        self._restore()
        self._saved_at = self._clock = time.perf_counter()
        while self.position.group < len(self.groups):
            self._run_group(self.groups[self.position.group])
            self.position.group += 1
            self.position.start = self.position.until = 0
        self._save()
        return self._results() if hosts.is_writer() else xr.Dataset()

    def _run_group(self, group: Group) -> None:
        program = GroupProgram(group, self.devices, self.engine.deterministic)
        key = str(self.position.group)
        if key not in self.position.modes:
            (mode, chunk), _ = hosts.broadcast(choose(program, self.engine))
            self.position.modes[key] = mode
            self._set_chunk(key, chunk)
        elif self._slots(self.position.chunks[key]) > self.position.slots[key]:
            mode, chunk = self.position.modes[key], self.position.chunks[key]
            wanted = replace(self.engine, mode=mode, runs_per_chunk=chunk)
            (_, chunk), _ = hosts.broadcast(choose(program, wanted))
            self._set_chunk(key, chunk)
        if group.experiment.train["count_flops"]:
            for name, value in program.operations().items():
                self.measured.set(self.position.group, name, slice(None), value)
        while self.position.start < len(group.members):
            try:
                self._run_chunk(program, self.position.chunks[key])
            except jax.errors.JaxRuntimeError as error:
                self._halve_chunk(key, error)
                continue
            self._state = self._host_copy = None
            self.position.start = self.position.until
            self.position.index = self.position.room = 0
            self.position.living = []

    def _halve_chunk(self, key: str, error: Exception) -> None:
        """Halves the runs at once after a device has run out of memory, continuing from
        the newest states on the host; the other runs start anew afterwards."""
        position, chunk = self.position, self.position.chunks[key]
        if not sweep.is_out_of_memory(error) or hosts.several():
            raise error
        if self._slots(chunk) == 1:
            raise SettingError(
                "The device ran out of memory with one run; use a smaller model or "
                "less data."
            ) from error
        self._set_chunk(key, sweep.halved(chunk, self.devices))
        position.until = min(position.until, position.start + position.chunks[key])
        copy = self._host_copy
        position.at = position.index = position.room = 0
        position.living = []
        if copy and min(copy.members) < position.until:
            kept = np.asarray(copy.members) < position.until
            position.at, position.index = copy.at, copy.index
            position.living = np.asarray(copy.members)[kept].tolist()
            self._resumed = {name: leaf[kept] for name, leaf in copy.leaves.items()}
        self._state = None
        self.say(
            f"The device ran out of memory with {chunk} runs at once; going on with "
            f"{position.chunks[key]} from step {position.at:,}."
        )

    def _slots(self, runs: int) -> int:
        return sweep.layout(runs, self.devices).slots

    def _set_chunk(self, key: str, chunk: int) -> None:
        """Sets how many runs of a group run at once from now on."""
        self.position.chunks[key] = chunk
        self.position.slots[key] = self._slots(chunk)

    def _run_chunk(self, program: GroupProgram, capacity: int) -> None:
        mode = self.position.modes[str(self.position.group)]
        chunk = self._first_chunk(program, capacity, mode)
        budget, working = 8, len(chunk.members)
        fixed = self._seconds_without_steps(program, chunk, mode)
        while self.position.index < len(program.steps):
            pieces = self._pieces(program, mode, budget)
            compiled = program.compiled(mode, chunk.place, chunk.order)
            started = time.perf_counter()
            chunk.state, new = compiled(*chunk.arguments(pieces))
            new = chunk.place.collect(new)  # waits
            spent = float(hosts.agree(time.perf_counter() - started)[0])
            if hosts.is_writer():
                self._add(chunk.members, pieces, new)
            advanced = int(pieces.steps.sum())
            self.position.at += advanced
            self.position.index += int((pieces.index >= 0).sum())
            if advanced:
                self._note_seconds(2, spent, working * advanced)
                stepping = max(spent - fixed, 0.2 * spent)  # `fixed` is one measurement
                wanted = int(self.engine.segment_seconds * advanced / stepping)
                budget = max(1, min(wanted, 4 * budget))
            ends = chunk.place.collect(_ends(chunk.state), everywhere=True)
            alive = ends.pop("alive")
            self._set_ends(chunk.members, ends)
            if not alive.any():
                self.position.index = len(program.steps)
            elif not hosts.several():
                chunk = self._without_ended(program, chunk, alive, mode)
            self.position.living, working = chunk.members.tolist(), int(alive.sum())
            self._report_progress(working, advanced, spent)
            self._state = partial(chunk.place.collect, chunk.state)
            self._save_if_due()
        if self.states is not None:
            self._keep_states(program, chunk.members, chunk.place.collect(chunk.state))

    def _seconds_without_steps(
        self, program: GroupProgram, chunk: Chunk, mode: str
    ) -> float:
        """Seconds that a segment takes beside its steps: those of one without any."""
        empty = make_pieces(program.steps, self.position.at, len(program.steps), 0)
        compiled = program.compiled(mode, chunk.place, chunk.order)
        started = time.perf_counter()
        chunk.state, new = compiled(*chunk.arguments(empty))
        chunk.place.collect(new)  # waits
        return float(hosts.agree(time.perf_counter() - started)[0])

    def _keep_states(
        self, program: GroupProgram, members: np.ndarray, states: Any
    ) -> None:
        """Stores the states of ended runs, for their weights and for extensions."""
        if self.states is None or not (hosts.is_writer() and len(members)):
            return
        numbers = np.asarray(program.group.members)[members]
        points = [self._points[number] for number in numbers]
        self.states.keep(points, int(program.steps[-1]), states, self.say)

    def _pieces(self, program: GroupProgram, mode: str, budget: int) -> train.Pieces:
        at, index = self.position.at, self.position.index
        until = None if mode == "map" else -(-index // COMPACTION) * COMPACTION
        return make_pieces(program.steps, at, index, budget, until)

    def _without_ended(
        self, program: GroupProgram, chunk: Chunk, alive: np.ndarray, mode: str
    ) -> Chunk:
        """The chunk without its ended runs, where that saves time: in `map` mode when
        redistributing the active runs relieves a device; under `vmap` at every
        `COMPACTION`-th record if a quarter of the capacity is enough, since another
        capacity needs another program."""
        room, size = self.position.room, len(self.devices)
        if mode == "map":
            if chunk.balanced(alive):
                return chunk
        else:
            reached = self.position.index - 1
            if reached % COMPACTION or self.position.at != program.steps[reached]:
                return chunk
            smaller = -(-self._slots(room) // 4) * size
            if alive.sum() > smaller or smaller == room:
                return chunk
            while alive.sum() <= -(-self._slots(smaller) // 4) * size < smaller:
                smaller = -(-self._slots(smaller) // 4) * size
            self.position.room = room = smaller
        states = chunk.place.collect(chunk.state)
        living, ended = (
            jax.tree.map(lambda leaf, which=which: leaf[which], states)
            for which in (alive, ~alive)
        )
        self._keep_states(program, chunk.members[~alive], ended)
        return Chunk(program, chunk.members[alive], room, mode, lambda _: living)

    def _first_chunk(self, program: GroupProgram, capacity: int, mode: str) -> Chunk:
        """A chunk at its first step, or as a checkpoint left it."""
        position = self.position
        if self._resumed:
            if len(position.living) > capacity:
                raise SettingError(
                    f"The checkpoint holds {len(position.living)} runs at once, but "
                    f"only {capacity} fit here; resume it on as many devices."
                )
            position.room = min(position.room or capacity, capacity)
            living = np.asarray(position.living)
            resumed, self._resumed = self._resumed, {}
            if keeps_host_copies(self.devices):
                self._host_copy = HostCopy(
                    position.at, position.index, position.living, resumed
                )
            fitted = partial(checkpoint.fit, resumed)
            return Chunk(program, living, position.room, mode, fitted)
        position.until = min(position.start + capacity, len(program.group.members))
        position.room, position.at = capacity, self.plan.after
        members = np.arange(position.start, position.until)
        state = None
        if self.plan.after:
            assert self.states is not None
            numbers = np.asarray(program.group.members)[members]
            points = [self._points[number] for number in numbers]
            state = partial(checkpoint.fit, self.states.read(points, self.plan.after))
        else:
            program.initial(mode, sweep.layout(len(members), program.devices, capacity))
        started = time.perf_counter()  # it is compiled already
        chunk = Chunk(program, members, capacity, mode, state)
        jax.block_until_ready(chunk.state)
        self._note_seconds(0, time.perf_counter() - started, len(members))
        if program.group.experiment.reference["lazy"]:
            anchors = chunk.place.collect(chunk.state.anchor)
            if hosts.is_writer():
                self._reference(program, members, anchors)
        return chunk

    def _note_seconds(self, index: int, seconds: float, amount: float) -> None:
        spent = self.position.spent.setdefault(str(self.position.group), [0.0] * 4)
        spent[index] += seconds
        spent[index + 1] += amount

    def _reference(
        self, program: GroupProgram, members: np.ndarray, anchors: Any
    ) -> None:
        for i, member in enumerate(members):
            reference = lazy_reference(
                program.group.runs[member],
                program.dataset(member),
                jax.tree.map(lambda leaf, i=i: leaf[i], anchors),
                program.steps,
            )
            for name, values in reference.items():
                self.measured.set_curve(self.position.group, name, member, values)

    def _add(self, members: np.ndarray, pieces: train.Pieces, new: Any) -> None:
        at = np.flatnonzero(pieces.index >= 0)
        group, indices = self.position.group, pieces.index[at]
        new = {name: values[:, at] for name, values in new.items()}
        self.measured.add(group, members, indices, new)
        if self.seen and len(indices):
            self.seen(self.measured.curves(group, members, indices))

    def _set_ends(self, members: np.ndarray, ends: Mapping[str, np.ndarray]) -> None:
        for name, values in ends.items():
            reached = np.where(values < 0, np.nan, values)
            self.measured.set(self.position.group, name, members, reached)

    def _report_progress(self, living: int, advanced: int, spent: float) -> None:
        if not hosts.is_writer():
            return
        if advanced:
            self._rate = living * advanced / spent
        reached = np.zeros(2, int)
        diverged = 0
        for group, curves in self.measured.of_groups():
            times = self.grok.times(group.steps, curves)
            reached += [int(np.isfinite(np.asarray(t)).sum()) for t in times]
            diverged += int(np.isfinite(curves["diverged_at"]).sum())
        lengths = [g.experiment.train["steps"] * len(g.members) for g in self.groups]
        group = self.groups[self.position.group]
        _, _, seconds, run_steps = self.position.spent[str(self.position.group)]
        before = self.position.until - living
        done = before * group.experiment.train["steps"] + living * self.position.at
        self.progress(
            Progress(
                seconds=self._seconds(),
                run_steps=sum(lengths[: self.position.group]) + done,
                run_steps_total=sum(lengths),
                rate=self._rate,
                pace=run_steps / seconds if seconds else 0.0,
                runs=sum(len(group.members) for group in self.groups),
                memorised=int(reached[0]),
                generalised=int(reached[1]),
                diverged=diverged,
            )
        )

    def _seconds(self) -> float:
        return self.position.seconds + time.perf_counter() - self._clock

    def _save_if_due(self) -> None:
        waited = time.perf_counter() - self._saved_at
        due = waited >= self.engine.checkpoint_seconds
        asked, due = hosts.agree(self.stop_requested(), due) > 0
        if asked or due:
            self._save()
        if asked:
            raise Interrupted

    def _save(self) -> None:
        keeps = keeps_host_copies(self.devices)
        if self.folder is None and not keeps:
            return
        self.position.seconds = self._seconds()
        self._clock = self._saved_at = time.perf_counter()
        state = self._state() if self._state is not None else {}
        if state and keeps:
            where, leaves = self.position, tree.flat_names(tree.without_keys(state))
            self._host_copy = HostCopy(where.at, where.index, where.living, leaves)
        if self.folder is None:
            return
        self.position.saves += 1
        if not hosts.is_writer():
            return
        records, per_step = self.measured.stored()
        content = {"state": state, "records": records}
        about = {"position": self.position.__dict__, "per_step": per_step}
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
        records: dict[str, np.ndarray] = {}
        for name, leaf in leaves.items():
            kind, rest = name.split(".", 1)
            (self._resumed if kind == "state" else records)[rest] = leaf
        measured = self.measured.restore(records, about["per_step"])
        self.say(
            f"Going on from checkpoint {self.position.saves}: group "
            f"{min(self.position.group + 1, len(self.groups))} of {len(self.groups)}, "
            f"step {self.position.at:,}, after {self.position.seconds:.0f} s."
        )
        if self.seen:
            for group in measured:
                self.seen(self.measured.curves(group))

    def _results(self) -> xr.Dataset:
        results = self.measured.dataset(self.plan.grid)
        for name, index in BY_CLOCK.items():
            results[name] = self._per_run(index)
        results = self.grok.judged(results)
        results.attrs = {
            "seconds": self._seconds(),
            "modes": ", ".join(sorted(set(self.position.modes.values()))),
            "groups": len(self.groups),
        }
        return results

    def _per_run(self, index: int) -> tuple[tuple[str, ...], np.ndarray]:
        """For each run of the grid, its share of the wall time: for starting (0; data,
        initial values, weak networks) or for a step with its records (2)."""
        shares = np.full(len(self.plan.grid), np.nan)
        for number, group in enumerate(self.groups):
            seconds, amount = self.position.spent[str(number)][index : index + 2]
            shares[list(group.members)] = seconds / amount if amount else np.nan
        return self.plan.grid.dims, shares.reshape(self.plan.grid.shape)


def keeps_host_copies(devices: Sequence[Device]) -> bool:
    """Whether saved states also stay on the host, from which a device that ran out of
    memory can reload them. A CPU's memory is the host's."""
    return devices[0].platform != "cpu"


def _ends(state: train.RunState) -> dict[str, Any]:
    return {
        "alive": state.alive,
        "diverged_at": state.diverged_at,
        "stop_met_at": state.met_at,
    }
