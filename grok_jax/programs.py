"""The compiled programs of the runs that share shapes, and what they work on.

    group of runs -> GroupProgram: init and segment, compiled for a number of slots
    some members  -> Chunk: their settings, data and states, laid out on the devices

A data set is held once on each device whose runs use it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grok_jax import build, census, sweep, train
from grok_jax.grid import Grid, Group, group_runs
from grok_jax.settings import Leaf, SettingError
from grok_jax.types import Dataset, Device

PIECES = 32
"""Records (or parts of the way to one) in a compiled segment."""


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

    Raises: SettingError or DataError where data are missing, damaged or too few, or
    where what is to be transferred does not fit the target.
    """
    for group in plan.groups():
        make = partial(build.make_dataset, group.settings)
        data = jax.eval_shape(make, **build.load_files(group.settings))
        if group.settings["transfer.source"] != "none":
            run = build.make({**group.settings, "train.count_flops": False})
            try:
                jax.eval_shape(run.init, data)
            except ValueError as error:
                raise SettingError(f"transfer: {error}") from error


class GroupProgram:
    """The compiled programs of one group, and the data sets of its runs."""

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
        members = range(len(group.members))
        known = [self._identity(member) for member in members]
        first = {identity: n for n, identity in reversed([*enumerate(known)])}
        self.owners, numbers = np.unique(
            [first[identity] for identity in known], return_inverse=True
        )
        self.data_of = numbers.astype(np.int32)
        """For each member the number of its data set."""
        self._files = self._read()
        self._make = jax.jit(self._make_dataset)
        self._held: dict[int, Dataset] = {}
        self._compiled: dict[Any, Any] = {}

    def settings_of(self, member: int) -> dict[str, Any]:
        """The settings of one run as plain numbers."""
        own = {path: values[member] for path, values in self.group.traced.items()}
        return {**self.group.settings, **own}

    def _read(self) -> Any:
        return build.load_files(self.group.settings)

    def _identity(self, member: int) -> Any:
        """Runs that agree in it have the same data."""
        return build.data_identity(self.settings_of(member))

    def _make_dataset(self, own: Mapping[str, Any], files: Any) -> Dataset:
        return build.make_dataset({**self.group.settings, **own}, **files)

    def _own(self, member: Any) -> dict[str, Any]:
        return {path: values[member] for path, values in self.traced.items()}

    def dataset(self, member: int) -> Dataset:
        """The data of one run, on the host."""
        return self._dataset(int(self.data_of[member]))

    def datasets(self, numbers: np.ndarray) -> dict[int, Dataset]:
        """number -> data set, on the host; all others are let go."""
        self._held = {n: self._dataset(n) for n in np.unique(numbers).tolist()}
        return self._held

    def _dataset(self, number: int) -> Dataset:
        if number in self._held:
            return self._held[number]
        made = self._make(self._own(self.owners[number]), self._files)
        return jax.tree.map(np.asarray, made)

    def room(self, place: sweep.Layout) -> int:
        """The data sets that a device has room for: one for each slot, if there are so
        many."""
        return min(place.slots, len(self.owners))

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

    def _shapes(self, place: sweep.Layout) -> tuple[Any, Any, Any]:
        """(data, runs, counts) of a layout, as shapes."""
        runs = {"settings": self._own(slice(None)), "data": self.data_of}
        return (
            place.local_shapes(self.data_shapes(), self.room(place)),
            place.placed_shapes(runs),
            place.count_shapes(),
        )

    def data_shapes(self) -> Any:
        """A data set, as shapes."""
        return jax.eval_shape(self._make, self._own(0), self._files)

    # What follows lowers for devices that need not be here: nothing is made. Each
    # returns what is lowered and the arguments that it takes, as shapes.

    def lowered_initial(self, place: sweep.Layout) -> tuple[Any, Any]:
        data, runs, counts = self._shapes(place)
        return self._batched_init().lower(data, runs, (), counts), (data, runs)

    def lowered_segment(self, place: sweep.Layout) -> tuple[Any, Any]:
        data, runs, _ = self._shapes(place)
        states = self.state_shapes(place)
        return self._lower("vmap", place), (data, runs, place.placed_shapes(states))

    def lowered_step(self, place: sweep.Layout) -> tuple[Any, Any]:
        """One step of all runs."""
        data, runs, counts = self._shapes(place)
        states = place.placed_shapes(self.state_shapes(place))

        def step(data: Any, run: Mapping[str, Any], state: Any) -> Any:
            own = self._pick(data, run)
            return self._run_of(run).advance(state, own, jnp.int32(1)), ()

        batched = sweep.batch(
            step, mode="vmap", devices=self.devices, shared=sweep.LOCAL
        )
        return batched.lower(data, runs, states, counts), (data, runs, states)

    def batched_conditionals(self) -> int:
        """How many conditionals of a segment ask for a run's own state."""
        place = sweep.layout(2, jax.devices("cpu")[:1])
        data, runs, _ = self._shapes(place)
        pieces = train.Pieces(*(np.zeros(PIECES, np.int32) for _ in range(2)))
        init = jax.vmap(self._init, (None, 0, None))
        states = jax.eval_shape(init, data, runs, ())[1]
        return census.batched_conditionals(
            self._segment, (None, 0, 0), (data, pieces), runs, states
        )

    def initial(self, place: sweep.Layout) -> Any:
        """(data, runs, (), counts) -> ((), states at step 0), compiled once."""
        return self._once(("init", place.slots), lambda: self._lower_init(place))

    def _lower_init(self, place: sweep.Layout) -> Any:
        data, runs, counts = self._shapes(place)
        return self._batched_init().lower(data, runs, (), counts)

    def _batched_init(self) -> Any:
        return sweep.batch(
            self._init, mode="map", devices=self.devices, shared=sweep.LOCAL
        )

    def compiled(self, mode: str, place: sweep.Layout) -> Any:
        """The segment program for this many slots, compiled once."""
        return self._once((mode, place.slots), lambda: self._lower(mode, place))

    def _lower(self, mode: str, place: sweep.Layout) -> Any:
        pieces = train.Pieces(*(np.zeros(PIECES, np.int32) for _ in range(2)))
        data, runs, counts = self._shapes(place)
        states = place.placed_shapes(self.state_shapes(place))
        program = sweep.batch(
            self._segment,
            mode=mode,
            devices=self.devices,
            shared=(sweep.LOCAL, sweep.REPLICATED),
        )
        shared = (data, place.shared_shapes(pieces))
        return program.lower(shared, runs, states, counts)

    def _once(self, key: Any, lower: Callable[[], Any]) -> Any:
        if key not in self._compiled:
            self._compiled[key] = lower().compile()
        return self._compiled[key]

    def state_shapes(self, place: sweep.Layout) -> Any:
        """The states of all slots of a layout, as shapes."""
        data, runs, counts = self._shapes(place)
        return jax.eval_shape(self._batched_init(), data, runs, (), counts)[1]

    def own_shapes(self, place: sweep.Layout) -> Any:
        """What each run of a layout has of its own: state, records of a segment, and
        data unless all share it; as shapes."""
        data, _, _ = self._shapes(place)
        records = self.compiled("map", place).out_info[1]
        return self.state_shapes(place), records, data if len(self.owners) > 1 else ()

    def inputs(self, members: Any, local: np.ndarray) -> dict[str, Any]:
        """What tells runs apart; `local` says where on its device each has its data."""
        return {"settings": self._own(members), "data": local}


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
        which = program.data_of[members]
        numbers, local = self.place.deal(which, program.room(self.place))
        held = program.datasets(numbers)
        self._data = self.place.local([[held[n] for n in own] for own in numbers])
        self._runs = self.place.place(program.inputs(members, local))
        if state is None:
            start = (self._data, self._runs, (), self._counts)
            _, self.state = program.initial(self.place)(*start)
        else:
            shapes = self.place.shapes(program.state_shapes(self.place))
            self.state = self.place.place(state(shapes))

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
