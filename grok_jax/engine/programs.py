"""The compiled programs of the runs that share shapes, and what they work on.

    group of runs -> GroupProgram: init and segment, compiled for a number of slots
    some members  -> Chunk: their settings, data and states, laid out on the devices

A data set is held once on each device whose runs use it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from grok_jax import experiment, reference, sweep, train
from grok_jax.engine import census, memory, products, registry
from grok_jax.engine.grid import Grid
from grok_jax.experiment import (
    CHOSEN,
    NAMED,
    WEAK,
    Experiment,
    settings_of,
    with_settings,
)
from grok_jax.settings import SettingError
from grok_jax.types import Dataset, Device

PIECES = 32
"""Records (or parts of the way to one) in a compiled segment."""


@dataclass(frozen=True)
class Group:
    """Runs that one compiled program serves: they differ in traced settings alone."""

    members: tuple[int, ...]  # run numbers
    runs: tuple[Experiment, ...]
    after: int = 0  # the step that the runs have come to already

    @property
    def experiment(self) -> Experiment:
        """The first run's; what is static in it is that of all."""
        return self.runs[0]

    @property
    def steps(self) -> np.ndarray:
        """At which a run is measured."""
        own = self.experiment.train
        steps = train.record_steps(own["steps"], own["records"], own["spacing"])
        return steps[steps > self.after] if self.after else steps


@dataclass(frozen=True)
class Plan:
    """What is to run: the points of a grid, whose first axis is "arm" where several
    experiments are run side by side; `experiment` is the first of those."""

    experiment: Experiment
    grid: Grid
    arms: Mapping[str, Experiment] = field(default_factory=dict)
    only: frozenset[int] | None = None
    """The numbers of the runs to make; None: all"""
    after: int = 0
    """The step from which they go on"""

    def groups(self) -> list[Group]:
        """The runs of the grid, together where their experiments have one structure."""
        return self._groups

    @cached_property
    def _groups(self) -> list[Group]:
        groups: dict[Any, dict[int, Experiment]] = {}
        for number, changes in enumerate(self.grid.runs()):
            if self.only is not None and number not in self.only:
                continue
            run = with_settings(self._of(changes), changes)
            groups.setdefault(jax.tree.structure(run), {})[number] = run
        ordered = map(_side_by_side, groups.values())
        return [Group(tuple(own), tuple(own.values()), self.after) for own in ordered]

    def _of(self, changes: Mapping[str, Any]) -> Experiment:
        return self.arms[changes["arm"]] if self.arms else self.experiment

    @cached_property
    def settings(self) -> dict[str, Any]:
        """path -> value, with the names of the parts; of arms, those of the first."""
        return named_settings(self.experiment)

    def settings_of_runs(self) -> list[dict[str, Any]]:
        """For each run path -> value, with the names of the parts."""
        arms = {name: named_settings(own) for name, own in self.arms.items()}
        runs = self.grid.runs()
        return [
            {**(arms[run["arm"]] if arms else self.settings), **run} for run in runs
        ]


def _side_by_side(own: dict[int, Experiment]) -> dict[int, Experiment]:
    """Runs in an order in which they use their data sets in turns or in rows, where
    each is used as often: then none is copied for the runs that share it under vmap."""
    users: dict[Any, list[int]] = {}
    for number, run in own.items():
        users.setdefault(experiment.data_identity(run), []).append(number)
    if len(set(map(len, users.values()))) > 1:
        return own
    rows = [number for numbers in users.values() for number in numbers]
    turns = [n for numbers in zip(*users.values(), strict=True) for n in numbers]
    return {number: own[number] for number in (rows if rows == [*own] else turns)}


def named_settings(
    own: Experiment, name_of: Callable[[str, Any], str] = registry.label
) -> dict[str, Any]:
    """path -> value, of every setting and with the names of the parts."""
    kinds = {section: what for section, (what, _) in [*CHOSEN.items(), *WEAK.items()]}
    names = {}
    for section, part in experiment.parts_of(own):
        first = section.partition(".")[0]
        if f"{section}.name" in names:
            continue  # what stands around a part comes after it
        if section in kinds:
            names[f"{section}.name"] = name_of(kinds[section], part.make)
        elif first in NAMED:
            names[f"{section}.name"] = name_of(NAMED[first], part.make)
    return {**names, **settings_of(own)}


def check_data(plan: Plan) -> None:
    """Reads what the tasks of a plan need and takes its shapes, before anything runs.

    Every group's data and parts are made; its functions are traced once for each set of
    parts, with the settings of the first and the last run.

    Raises: SettingError or DataError where data are missing, damaged or too few, or
    where parts do not go together.
    """
    seen = set()
    for group in plan.groups():
        own = group.experiment
        make = partial(experiment.make_dataset, own)
        data = jax.eval_shape(make, **experiment.load_files(own))
        if own.reference["lazy"]:
            reference.check(own, data)
        experiment.make(own)
        parts = tuple(part.make for _, part in experiment.parts_of(own))
        for each in () if parts in seen else {0, len(group.runs) - 1}:
            run = experiment.make(group.runs[each])
            state = jax.eval_shape(run.init, data)
            _check_loss(group.runs[each], state, data)
            jax.eval_shape(run.measure, state, data, 0, 0)
        seen.add(parts)


def _check_loss(own: Experiment, state: train.RunState, data: Dataset) -> None:
    """That the loss makes one number of each example."""
    network, (x, y, _) = experiment.network_of(own), data.train
    f = jax.eval_shape(lambda p, x: network.apply(p)(p, x), state.params, x)
    try:
        shape = jax.eval_shape(own.loss().value, f, y).shape
    except (TypeError, ValueError):
        shape = None
    if shape != (len(x),):
        raise SettingError(
            f"loss.name {registry.label('loss', own.loss.make)} does not make one "
            f"number of an example's output of shape {f.shape[1:]} and target of shape "
            f"{y.shape[1:]}."
        )


class GroupProgram:
    """The compiled programs of one group, and the data sets of its runs."""

    def __init__(
        self,
        group: Group,
        devices: tuple[Device, ...],
        deterministic: bool = True,
    ):
        self._deterministic = deterministic
        self.group, self.devices, self.steps = group, devices, group.steps
        self.traced = experiment.stack(group.runs)
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

    @property
    def adaptive(self) -> bool:
        """Whether the dynamics choose their own steps, so that a step has no cost."""
        return experiment.network_of(self.group.experiment).model.adaptive

    def _read(self) -> Any:
        return experiment.load_files(self.group.experiment)

    def _identity(self, member: int) -> Any:
        """Runs that agree in it have the same data."""
        return experiment.data_identity(self.group.runs[member])

    def _make_dataset(self, own: Experiment, files: Any) -> Dataset:
        return experiment.make_dataset(own, **files)

    def _own(self, member: Any) -> Experiment:
        return jax.tree.map(lambda values: values[member], self.traced)

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

    def _run_of(self, run: Mapping[str, Any]) -> train.Run:
        return experiment.make(run["experiment"])

    def _init(self, data: Dataset, _: Any, run: Mapping[str, Any], carry: Any) -> Any:
        return carry, self._run_of(run).init(data)

    def _segment(
        self, data: Dataset, pieces: Any, run: Mapping[str, Any], state: Any
    ) -> Any:
        return train.segment(self._run_of(run), state, data, pieces)

    def _shapes(self, place: sweep.Layout) -> tuple[Any, Any, Any]:
        """(data, runs, counts) of a layout, as shapes."""
        runs = {"experiment": self._own(slice(None)), "data": self.data_of}
        return (
            place.local_shapes(self.data_shapes(), self.room(place)),
            place.placed_shapes(runs),
            place.count_shapes(),
        )

    def data_shapes(self) -> Any:
        """A data set, as shapes."""
        return jax.eval_shape(self._make, self._own(0), self._files)

    def order(
        self, mode: str, place: sweep.Layout, members: np.ndarray | None = None
    ) -> sweep.Order:
        """In which order the members of a chunk (default: the first ones) use their
        data; it matters under vmap alone."""
        if mode == "map":
            return "any"
        members = np.arange(place.count) if members is None else members
        room = self.room(place)
        _, places = place.deal(self.data_of[members], room)
        return place.order_of(places, room)

    def compile(self, mode: str, place: sweep.Layout) -> tuple[Any, Any]:
        """(`initial`, `compiled`) of a layout, compiled side by side."""
        with ThreadPoolExecutor(1) as beside:
            segment = beside.submit(self.compiled, mode, place)
            return self.initial(mode, place), segment.result()

    def bytes(self, mode: str, place: sweep.Layout) -> tuple[memory.Bytes, ...]:
        """What the two programs of a layout take on each device."""
        key = ("bytes", mode, place.slots)
        if key not in self._compiled:
            both = self.compile(mode, place)
            self._compiled[key] = tuple(map(memory.of_program, both))
        return self._compiled[key]

    def initial(
        self, mode: str, place: sweep.Layout, order: sweep.Order | None = None
    ) -> Any:
        """((data, ()), runs, (), counts) -> ((), states at step 0), compiled once."""
        order = order or self.order(mode, place)
        key = ("init", mode, place.slots, order)
        return self._once(key, lambda: self.lowered_initial(mode, order, place)[0])

    def compiled(
        self, mode: str, place: sweep.Layout, order: sweep.Order | None = None
    ) -> Any:
        """((data, pieces), runs, states, counts) -> (states, records): the segment
        program for this many slots, compiled once."""
        order = order or self.order(mode, place)
        key = (mode, place.slots, order)
        return self._once(key, lambda: self.lowered_segment(mode, order, place)[0])

    # What follows lowers for devices that need not be here: nothing is made. Each
    # returns what is lowered and the arguments that it takes, as shapes.

    def lowered_initial(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """See `initial`."""
        data, runs, counts = self._shapes(place)
        program = self._batched(self._init, mode, order)
        return program.lower((data, ()), runs, (), counts), (data, runs)

    def lowered_segment(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """See `compiled`."""
        pieces = place.shared_shapes(make_pieces(self.steps, 0, 0, 0))
        return self._lower_on_states(self._segment, pieces, mode, order, place)

    def lowered_step(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """One step of all runs."""

        def step(data: Dataset, at: Any, run: Mapping[str, Any], state: Any) -> Any:
            return self._run_of(run).advance(state, data, at, 1), ()

        at = place.shared_shapes(np.zeros((), np.int32))
        return self._lower_on_states(step, at, mode, order, place)

    def _lower_on_states(
        self,
        function: Callable,
        common: Any,
        mode: str,
        order: sweep.Order,
        place: sweep.Layout,
    ) -> tuple[Any, Any]:
        data, runs, counts = self._shapes(place)
        states = place.placed_shapes(self.state_shapes(place))
        program = self._batched(function, mode, order)
        lowered = program.lower((data, common), runs, states, counts)
        return lowered, (data, runs, states)

    def batched_conditionals(self) -> int:
        """How many conditionals of a segment ask for a run's own state."""
        one = {"experiment": self._own(0), "data": self.data_of[0]}
        runs = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), one)
        arguments = (
            self.data_shapes(),
            make_pieces(self.steps, 0, 0, 0),
            runs,
            self._stacked_states(2),
        )
        return census.batched_conditionals(
            self._segment, (None, None, 0, 0), *arguments
        )

    def _batched(self, function: Callable, mode: str, order: sweep.Order) -> Any:
        """`function(data, common, run, carry)` over runs; see `sweep.batch`."""

        def one(shared: Any, run: Mapping[str, Any], carry: Any) -> Any:
            data, common = shared
            only = len(jax.tree.leaves(data)[0]) == 1  # stays unbatched under vmap
            own = jax.tree.map(lambda leaf: leaf[0 if only else run["data"]], data)
            return function(own, common, run, carry)

        return sweep.batch(
            one,
            mode=mode,
            devices=self.devices,
            shared=(sweep.LOCAL, sweep.REPLICATED),
            deterministic=self._deterministic,
            over_runs=None if order == "any" else sweep.grouped(function, order),
        )

    def _once(self, key: Any, lower: Callable[[], Any]) -> Any:
        if key not in self._compiled:
            self._compiled[key] = lower().compile()
        return self._compiled[key]

    def state_shapes(self, place: sweep.Layout) -> Any:
        """The states of all slots of a layout, as shapes."""
        return self._stacked_states(place.slots * len(place.devices))

    def _stacked_states(self, count: int) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype),
            self._state_shape,
        )

    @cached_property
    def _state_shape(self) -> Any:
        """The state of one run, as shapes; traced once, weak networks and all."""
        run = {"experiment": self._own(0)}
        return jax.eval_shape(self._init, self.data_shapes(), (), run, ())[1]

    def operations(self) -> dict[str, float]:
        """Floating-point operations of the matrix products of a step of one run, and of
        a step of its weak network where it has one."""
        own = self.group.experiment
        runs = {"flops_per_step": own}
        if own.transfer is not None:
            runs["weak_flops_per_step"] = experiment.weak_experiment(own)
        data = self.data_shapes()
        number = jax.ShapeDtypeStruct((), np.int32)

        def of(own: Experiment) -> float:
            run = experiment.make(own)
            state = jax.eval_shape(run.init, data)
            step = products.products_of(run.advance, state, data, number, number)
            return float(products.flops(step))

        return {name: of(own) for name, own in runs.items()}

    def inputs(self, members: Any, local: np.ndarray) -> dict[str, Any]:
        """What tells runs apart; `local` says where on its device each has its data."""
        return {"experiment": self._own(members), "data": local}


class Chunk:
    """Some members of a group on the devices: their settings, data and states."""

    def __init__(
        self,
        program: GroupProgram,
        members: np.ndarray,
        capacity: int,
        mode: str,
        state: Callable[[Any], Any] | None = None,
    ):
        """`capacity` runs have room; `state` makes the host states from their shapes
        (default: the states at step 0, made as `mode` says)."""
        self.members = members
        self.place = sweep.layout(len(members), program.devices, capacity)
        self._counts = self.place.counts()
        which = program.data_of[members]
        numbers, local = self.place.deal(which, program.room(self.place))
        self.order: sweep.Order = program.order(mode, self.place, members)
        held = program.datasets(numbers)
        self._data = self.place.local([[held[n] for n in own] for own in numbers])
        self._runs = self.place.place(program.inputs(members, local))
        if state is None:
            start = ((self._data, ()), self._runs, (), self._counts)
            _, self.state = program.initial(mode, self.place, self.order)(*start)
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


def make_pieces(
    steps: np.ndarray, at: int, index: int, budget: int, until: int | None = None
) -> train.Pieces:
    """The next segment from step `at`, whose next record is `index`, of at most
    `budget` steps and PIECES pieces; it does not go beyond record `until`."""
    lengths, indices = [], []
    start, last = at, len(steps) if until is None else min(until + 1, len(steps))
    while index < last and len(lengths) < PIECES and budget >= 0:
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
        np.asarray(start, np.int32),
        np.asarray(lengths + [0] * fill, np.int32),
        np.asarray(indices + [-1] * fill, np.int32),
    )
