"""The compiled programs of runs that share shapes, and the arrays they work on.

    group of runs -> GroupProgram: init and segment, compiled for a number of slots
    some members  -> Chunk: their settings, data and states, laid out on the devices

A data set is stored once on each device whose runs use it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from grok_jax import experiment, reference, sweep, train
from grok_jax.engine import memory, products, registry
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
"""Pieces in a compiled segment; each ends at a record or on the way to one."""


@dataclass(frozen=True)
class Group:
    """Runs that share one compiled program: they differ only in traced settings."""

    members: tuple[int, ...]  # run numbers
    runs: tuple[Experiment, ...]
    after: int = 0  # the step that the runs have already reached

    @property
    def experiment(self) -> Experiment:
        """The experiment of the first run; all runs share its static settings."""
        return self.runs[0]

    @property
    def steps(self) -> np.ndarray:
        """The steps at which a run is measured."""
        how = self.experiment.train
        steps = train.record_steps(how["steps"], how["records"], how["spacing"])
        return steps[steps > self.after] if self.after else steps


@dataclass(frozen=True)
class Plan:
    """The points of a grid to run. With several experiments side by side, the first
    axis is "arm" and `experiment` is the first of them."""

    experiment: Experiment
    grid: Grid
    arms: Mapping[str, Experiment] = field(default_factory=dict)
    only: frozenset[int] | None = None
    """Numbers of the runs to make; None: all"""
    after: int = 0
    """The step from which the runs continue"""

    def groups(self) -> list[Group]:
        """The runs of the grid, grouped by the structure of their experiments."""
        return self._groups

    @cached_property
    def _groups(self) -> list[Group]:
        groups: dict[Any, dict[int, Experiment]] = {}
        for number, changes in enumerate(self.grid.runs()):
            if self.only is not None and number not in self.only:
                continue
            run = with_settings(self._experiment_of(changes), changes)
            groups.setdefault(jax.tree.structure(run), {})[number] = run
        ordered = map(_order_by_data, groups.values())
        return [Group(tuple(r), tuple(r.values()), self.after) for r in ordered]

    def _experiment_of(self, changes: Mapping[str, Any]) -> Experiment:
        return self.arms[changes["arm"]] if self.arms else self.experiment

    @cached_property
    def settings(self) -> dict[str, Any]:
        """path -> value with the names of the parts; with arms, those of the first."""
        return named_settings(self.experiment)

    def settings_of_runs(self) -> list[dict[str, Any]]:
        """For each run, path -> value with the names of the parts."""
        arms = {name: named_settings(arm) for name, arm in self.arms.items()}
        runs = self.grid.runs()
        return [
            {**(arms[run["arm"]] if arms else self.settings), **run} for run in runs
        ]


def _order_by_data(runs: dict[int, Experiment]) -> dict[int, Experiment]:
    """Orders runs so that they use their data sets in turns or in rows, if all are used
    equally often; vmap then copies no data set for the runs that share it."""
    users: dict[Any, list[int]] = {}
    for number, run in runs.items():
        users.setdefault(experiment.data_identity(run), []).append(number)
    if len(set(map(len, users.values()))) > 1:
        return runs
    rows = [number for numbers in users.values() for number in numbers]
    turns = [n for numbers in zip(*users.values(), strict=True) for n in numbers]
    return {number: runs[number] for number in (rows if rows == [*runs] else turns)}


def named_settings(
    own: Experiment, name_of: Callable[[str, Any], str] = registry.label
) -> dict[str, Any]:
    """path -> value of every setting, with the names of the parts."""
    kinds = {section: what for section, (what, _) in [*CHOSEN.items(), *WEAK.items()]}
    names = {}
    for section, part in experiment.parts_of(own):
        first = section.partition(".")[0]
        if f"{section}.name" in names:
            continue  # what wraps a part comes after it
        if section in kinds:
            names[f"{section}.name"] = name_of(kinds[section], part.make)
        elif first in NAMED:
            names[f"{section}.name"] = name_of(NAMED[first], part.make)
    return {**names, **settings_of(own)}


def check_data(plan: Plan) -> None:
    """Reads the files that a plan's tasks need and checks shapes, before anything runs.

    Makes the data (as shapes) of every group and the parts of its first and last run;
    traces the functions of the first once for each set of parts.

    Raises: SettingError or DataError if data are missing, damaged or too few, or if
    parts do not fit together.
    """
    seen = set()
    for group in plan.groups():
        first = group.experiment
        make = partial(experiment.make_dataset, first)
        data = jax.eval_shape(make, **experiment.load_files(first))
        if first.reference["lazy"]:
            reference.check(first, data)
        run = experiment.make(first)
        experiment.make(group.runs[-1])
        parts = tuple(part.make for _, part in experiment.parts_of(first))
        if parts not in seen:
            state = jax.eval_shape(run.init, data)
            _check_examples(first, data)
            _check_loss(first, state, data)
            jax.eval_shape(run.measure, state, data, 0, 0)
        seen.add(parts)


def _check_examples(run: Experiment, data: Dataset) -> None:
    """Raises SettingError unless both sets have as many targets and weights as
    inputs."""
    for name in ("train", "test"):
        inputs, targets, weights = map(len, getattr(data, name))
        if not inputs == targets == weights:
            raise SettingError(
                f"task.name {registry.label('task', run.task.make)} has {inputs} "
                f"{name} inputs, {targets} targets and {weights} weights; they must "
                "be as many."
            )


def _check_loss(run: Experiment, state: train.RunState, data: Dataset) -> None:
    """Raises SettingError unless the loss returns one number per example."""
    network, (x, y, _) = experiment.network_of(run), data.train
    f = jax.eval_shape(lambda p, x: network.apply(p)(p, x), state.params, x)
    try:
        shape = jax.eval_shape(experiment.make_loss(run).value, f, y).shape
    except (TypeError, ValueError):
        shape = None
    if shape != (len(x),):
        raise SettingError(
            f"loss.name {registry.label('loss', run.loss.make)} does not return one "
            f"number for an example's output of shape {f.shape[1:]} and target of "
            f"shape {y.shape[1:]}."
        )


class GroupProgram:
    """The compiled programs of one group and the data sets of its runs."""

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
        identities = [self._identity(member) for member in members]
        first = {identity: n for n, identity in reversed([*enumerate(identities)])}
        self.owners, numbers = np.unique(
            [first[identity] for identity in identities], return_inverse=True
        )
        self.data_of = numbers.astype(np.int32)
        """For each member, the number of its data set."""
        self._files = self._read()
        self._make = jax.jit(self._make_dataset)
        self._cached: dict[int, Dataset] = {}
        self._compiled: dict[Any, Any] = {}

    @property
    def adaptive(self) -> bool:
        """Whether the dynamics choose their step sizes, so that steps vary in cost."""
        return experiment.network_of(self.group.experiment).model.adaptive

    def _read(self) -> Any:
        return experiment.load_files(self.group.experiment)

    def _identity(self, member: int) -> Any:
        """A key that is equal for runs with the same data."""
        return experiment.data_identity(self.group.runs[member])

    def _make_dataset(self, own: Experiment, files: Any) -> Dataset:
        return experiment.make_dataset(own, **files)

    def _experiment_of(self, member: Any) -> Experiment:
        return jax.tree.map(lambda values: values[member], self.traced)

    def dataset(self, member: int) -> Dataset:
        """The data of one run, on the host."""
        return self._dataset(int(self.data_of[member]))

    def datasets(self, numbers: np.ndarray) -> dict[int, Dataset]:
        """number -> data set, on the host; all others are released."""
        self._cached = {n: self._dataset(n) for n in np.unique(numbers).tolist()}
        return self._cached

    def _dataset(self, number: int) -> Dataset:
        if number in self._cached:
            return self._cached[number]
        made = self._make(self._experiment_of(self.owners[number]), self._files)
        return jax.tree.map(np.asarray, made)

    def room(self, place: sweep.Layout) -> int:
        """Room for data sets on a device: one per slot, but no more than there are."""
        return min(place.slots, len(self.owners))

    def _run_of(self, run: Mapping[str, Any]) -> train.Run:
        return experiment.make(run["experiment"])

    def _init(self, data: Dataset, _: Any, run: Mapping[str, Any], carry: Any) -> Any:
        return carry, self._run_of(run).init(data)

    def segment(
        self, data: Dataset, pieces: Any, run: Mapping[str, Any], state: Any
    ) -> Any:
        return train.segment(self._run_of(run), state, data, pieces)

    def _shapes(self, place: sweep.Layout) -> tuple[Any, Any, Any]:
        """(data, runs, counts) of a layout, as shapes."""
        runs = {"experiment": self._experiment_of(slice(None)), "data": self.data_of}
        return (
            place.local_shapes(self.data_shapes(), self.room(place)),
            place.placed_shapes(runs),
            place.count_shapes(),
        )

    def data_shapes(self) -> Any:
        """The shapes of a data set."""
        return jax.eval_shape(self._make, self._experiment_of(0), self._files)

    def order(
        self, mode: str, place: sweep.Layout, members: np.ndarray | None = None
    ) -> sweep.Order:
        """The order in which the members of a chunk (default: the first ones) use their
        data sets; it matters only under vmap."""
        if mode == "map":
            return "any"
        members = np.arange(place.count) if members is None else members
        room = self.room(place)
        _, places = place.deal(self.data_of[members], room)
        return place.order_of(places, room)

    def compile(self, mode: str, place: sweep.Layout) -> tuple[Any, Any]:
        """(`initial`, `compiled`) of a layout, compiled concurrently."""
        with ThreadPoolExecutor(1) as pool:
            segment = pool.submit(self.compiled, mode, place)
            return self.initial(mode, place), segment.result()

    def bytes(self, mode: str, place: sweep.Layout) -> tuple[memory.Bytes, ...]:
        """Memory that the two programs of a layout need on each device."""
        key = ("bytes", mode, place.slots)
        if key not in self._compiled:
            both = self.compile(mode, place)
            self._compiled[key] = tuple(map(memory.of_program, both))
        return self._compiled[key]

    def initial(
        self, mode: str, place: sweep.Layout, order: sweep.Order | None = None
    ) -> Any:
        """((data, ()), runs, (), counts) -> ((), states at step 0); compiled once."""
        order = order or self.order(mode, place)
        key = ("init", mode, place.slots, order)
        return self._once(key, lambda: self.lowered_initial(mode, order, place)[0])

    def compiled(
        self, mode: str, place: sweep.Layout, order: sweep.Order | None = None
    ) -> Any:
        """((data, pieces), runs, states, counts) -> (states, records): the segment
        program for this number of slots; compiled once."""
        order = order or self.order(mode, place)
        key = (mode, place.slots, order)
        return self._once(key, lambda: self.lowered_segment(mode, order, place)[0])

    # The methods below lower for devices that need not be present; no array is made.
    # Each returns the lowered program and its arguments, as shapes.

    def lowered_initial(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """Lowers `initial`."""
        data, runs, counts = self._shapes(place)
        program = self._batched(self._init, mode, order)
        return program.lower((data, ()), runs, (), counts), (data, runs)

    def lowered_segment(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """Lowers `compiled`."""
        pieces = place.shared_shapes(make_pieces(self.steps, 0, 0, 0))
        return self._lower_on_states(self.segment, pieces, mode, order, place)

    def lowered_step(
        self, mode: str, order: sweep.Order, place: sweep.Layout
    ) -> tuple[Any, Any]:
        """Lowers one training step of all runs."""

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

    def _batched(self, function: Callable, mode: str, order: sweep.Order) -> Any:
        """`function(data, common, run, carry)` over runs; see `sweep.batch`."""

        def one(shared: Any, run: Mapping[str, Any], carry: Any) -> Any:
            data, common = shared
            only = len(jax.tree.leaves(data)[0]) == 1  # stays unbatched under vmap
            dataset = jax.tree.map(lambda leaf: leaf[0 if only else run["data"]], data)
            return function(dataset, common, run, carry)

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
        """The state of one run, as shapes; traced once, with any weak network."""
        run = {"experiment": self._experiment_of(0)}
        return jax.eval_shape(self._init, self.data_shapes(), (), run, ())[1]

    def operations(self) -> dict[str, float]:
        """Floating-point operations of the matrix products in one step of a run and, if
        it has a weak network, in one step of that."""
        first = self.group.experiment
        runs = {"flops_per_step": first}
        if first.transfer is not None:
            runs["weak_flops_per_step"] = experiment.weak_experiment(first)
        data = self.data_shapes()
        number = jax.ShapeDtypeStruct((), np.int32)

        def flops(settings: Experiment) -> float:
            run = experiment.make(settings)
            state = jax.eval_shape(run.init, data)
            step = products.products_of(run.advance, state, data, number, number)
            return float(products.flops(step))

        return {name: flops(settings) for name, settings in runs.items()}

    def inputs(self, members: Any, local: np.ndarray) -> dict[str, Any]:
        """The settings of runs and the places, `local`, of their data on a device."""
        return {"experiment": self._experiment_of(members), "data": local}


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
        """Makes room for `capacity` runs; `state` makes the host states from their
        shapes (default: the states at step 0, initialised in `mode`)."""
        self.members = members
        self.place = sweep.layout(len(members), program.devices, capacity)
        self._counts = self.place.counts()
        which = program.data_of[members]
        numbers, local = self.place.deal(which, program.room(self.place))
        self.order: sweep.Order = program.order(mode, self.place, members)
        datasets = program.datasets(numbers)
        self._data = self.place.local([[datasets[n] for n in row] for row in numbers])
        self._runs = self.place.place(program.inputs(members, local))
        if state is None:
            start = ((self._data, ()), self._runs, (), self._counts)
            _, self.state = program.initial(mode, self.place, self.order)(*start)
        else:
            shapes = self.place.shapes(program.state_shapes(self.place))
            self.state = self.place.place(state(shapes))

    def balanced(self, alive: np.ndarray) -> bool:
        """Whether redistributing the active runs would relieve no device."""
        devices = len(self.place.devices)
        most = max(int(alive[d::devices].sum()) for d in range(devices))
        return most <= -(-int(alive.sum()) // devices)

    def arguments(self, pieces: train.Pieces) -> tuple:
        """The arguments of the segment program; calling it donates the states."""
        shared = (self._data, self.place.share(pieces))
        return shared, self._runs, self.state, self._counts


def make_pieces(
    steps: np.ndarray, at: int, index: int, budget: int, until: int | None = None
) -> train.Pieces:
    """The next segment, from step `at` with next record `index`: at most `budget` steps
    and PIECES pieces, and not beyond record `until`."""
    lengths, indices = [], []
    start, last = at, len(steps) if until is None else min(until + 1, len(steps))
    while index < last and len(lengths) < PIECES:
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
