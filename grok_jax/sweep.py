"""Many runs at once: one batched program over all devices, in chunks that fit memory.

    runs [n, ...] -> chunks -> dealt over devices like cards, padded -> shard_map over
    the axis `run` -> on each device a loop (`map`) or one batch (`vmap`) -> [n, ...]

This module knows nothing of papers, losses or disks. Exactness: `map` reproduces a
stand-alone run bit for bit whatever the grid, the run's place in it and the chunking,
on 1 or as many CPU devices as there are cores. `vmap` agrees up to rounding at first
and statistically later, as batched products round differently.
"""

import functools
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grok_jax import hosts
from grok_jax.types import Device

Mode = Literal["auto", "map", "vmap"]
BatchedFn = Any  # a jitted (shared, runs, carries, counts) -> (carries, outs)

_AXIS = "run"
_OVER_RUNS = PartitionSpec(_AXIS)
REPLICATED, LOCAL = PartitionSpec(), PartitionSpec(_AXIS)
"""How devices share what is not a run's own: all alike, or to each a part of it."""


@dataclass(frozen=True)
class Layout:
    """Where `count` runs lie on the devices: run i in slot i // D of device i % D.

    Dealing like cards keeps neighbours of a grid, which cost alike, on different
    devices. Every device has the same number of slots; the last may be padding.
    """

    count: int
    slots: int
    devices: tuple[Device, ...]

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (_AXIS,))

    def _order(self) -> np.ndarray:
        size = len(self.devices)
        order = np.arange(self.slots * size).reshape(self.slots, size).T.ravel()
        return np.where(order < self.count, order, 0)

    def counts(self) -> Array:
        """The number of real runs on each device, placed on it."""
        size = len(self.devices)
        counts = [(self.count - d + size - 1) // size for d in range(size)]
        return self._put(np.asarray(counts, np.int32))

    def count_shapes(self) -> jax.ShapeDtypeStruct:
        """What `counts` returns, as shapes; the devices need not be here."""
        return jax.ShapeDtypeStruct(
            (len(self.devices),), np.int32, sharding=self._sharding(_OVER_RUNS)
        )

    def place(self, runs: Any) -> Any:
        """Arrays [count, ...] -> sharded arrays [devices * slots, ...]."""
        order = self._order()
        return jax.tree.map(lambda leaf: self._put(leaf[order]), runs)

    def share(self, tree: Any) -> Any:
        """One copy of `tree` on each device, not one for each run."""
        return jax.tree.map(lambda leaf: self._put(leaf, REPLICATED), tree)

    def deal(self, which: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
        """Things that runs share, for the devices whose runs use them.

        Args:
          which: for each run the number of the thing it uses [count].
          room: how many things a device has room for.

        Returns:
          The numbers of each device's things [devices, room] (room that is not needed
          repeats one), and for each run the place of its own among them [count].
        """
        size = len(self.devices)
        numbers = np.full((size, room), which[0])
        places = np.zeros(len(which), np.int32)
        for device in range(min(size, len(which))):
            own, back = np.unique(which[device::size], return_inverse=True)
            numbers[device, : len(own)] = own
            places[device::size] = back
        return numbers, places

    def local(self, things: Sequence[Sequence[Any]]) -> Any:
        """Trees for each device, [devices][room] -> arrays [devices * room, ...] of
        which each device has its own."""
        room, sharding = len(things[0]), self._sharding(LOCAL)

        def put(*leaves: np.ndarray) -> Array:
            def part(index: Any) -> np.ndarray:
                first = index[0].start or 0
                return np.stack(leaves[first : first + room])

            shape = (len(leaves), *leaves[0].shape)
            return jax.make_array_from_callback(shape, sharding, part)

        return jax.tree.map(put, *(thing for own in things for thing in own))

    def local_shapes(self, thing: Any, room: int) -> Any:
        """What `local` returns for things of these shapes, as shapes."""
        size, sharding = len(self.devices) * room, self._sharding(LOCAL)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (size, *leaf.shape), leaf.dtype, sharding=sharding
            ),
            thing,
        )

    def collect(self, runs: Any, *, everywhere: bool = False) -> Any:
        """The inverse of `place`, on the host. Of several processes the first alone has
        it, and the others None, or all have it (`everywhere`; for small arrays)."""
        if not hosts.several():
            return jax.tree.map(self._collect, runs)
        order = self._order()
        slot_of = np.empty(self.count, int)
        slot_of[order[::-1]] = np.arange(len(order))[::-1]
        whole = hosts.everywhere(runs) if everywhere else hosts.gather(runs, self.mesh)
        return jax.tree.map(lambda leaf: leaf[slot_of], whole)

    def _collect(self, leaf: Array) -> Any:
        """One copy, and none that stays with the device array, as its numpy would."""
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._collect(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        out = np.empty((self.count, *leaf.shape[1:]), leaf.dtype)
        size = len(self.devices)
        for shard in leaf.addressable_shards:
            device = self.devices.index(shard.device)
            own = out[device::size]
            own[...] = np.asarray(shard.data)[: len(own)]
        return out

    def shapes(self, runs: Any) -> Any:
        """What `collect` returns for these sharded arrays, as shapes."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (self.count, *leaf.shape[1:]), leaf.dtype
            ),
            runs,
        )

    def placed_shapes(self, runs: Any) -> Any:
        """What `place` returns for arrays [n, ...], as shapes: nothing is allocated."""
        size, sharding = self.slots * len(self.devices), self._sharding(_OVER_RUNS)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (size, *leaf.shape[1:]), leaf.dtype, sharding=sharding
            ),
            runs,
        )

    def shared_shapes(self, tree: Any) -> Any:
        """What `share` returns, as shapes."""
        sharding = self._sharding(REPLICATED)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding
            ),
            tree,
        )

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _put(self, leaf: Any, spec: PartitionSpec = _OVER_RUNS) -> Array:
        sharding = self._sharding(spec)
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_callback(
            np.shape(leaf), sharding, lambda part: np.asarray(leaf)[part]
        )


def layout(count: int, devices: Sequence[Device], chunk: int | None = None):
    """The layout of `count` runs with room for `chunk` (default: just those)."""
    slots = -(-(chunk or count) // len(devices))
    return Layout(count, slots, tuple(devices))


def batch(
    fn: Callable[[Any, Any, Any], tuple[Any, Any]],
    *,
    mode: str,
    devices: Sequence[Device],
    shared: Any = REPLICATED,
) -> BatchedFn:
    """fn(shared, run, carry) -> (carry, out), over runs: jitted
    (shared, runs, carries, counts) -> (carries, outs).

    What is shared is held once per device, REPLICATED or LOCAL as `shared` says for it
    or for its parts; it, `runs`, `carries` and `counts` come from a `Layout`. The
    memory of `carries` is given to the new ones. In `map` mode the loop's length is
    the device's number of real runs, so that padding costs nothing. Results in padded
    slots mean nothing.
    """
    mesh = Mesh(np.array(devices), (_AXIS,))

    def on_device(common: Any, runs: Any, carries: Any, count: Array) -> Any:
        if mode == "vmap":
            return jax.vmap(fn, in_axes=(None, 0, 0))(common, runs, carries)
        return _loop(functools.partial(fn, common), runs, carries, count[0])

    sharded = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(shared, _OVER_RUNS, _OVER_RUNS, _OVER_RUNS),
        out_specs=_OVER_RUNS,
        check_vma=False,
    )
    return jax.jit(sharded, donate_argnums=(2,))


def _loop(fn: Callable, runs: Any, carries: Any, count: Array) -> tuple[Any, Any]:
    """fn on the first `count` runs, one after the other. The length is an argument,
    so the compiled body is the same for one run and for a thousand."""

    def get(tree: Any, i: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], tree)

    def put(tree: Any, i: Array, new: Any) -> Any:
        return jax.tree.map(lambda leaf, value: leaf.at[i].set(value), tree, new)

    def body(i: Array, so_far: tuple[Any, Any]) -> tuple[Any, Any]:
        carries, outs = so_far
        carry, out = fn(get(runs, i), get(carries, i))
        return put(carries, i, carry), put(outs, i, out)

    slots = jax.tree.leaves(runs)[0].shape[0]
    _, shapes = jax.eval_shape(lambda: fn(get(runs, 0), get(carries, 0)))
    outs = jax.tree.map(
        lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype), shapes
    )
    return jax.lax.fori_loop(0, count, body, (carries, outs))


def run_batched(
    fn: Callable[[Any], Any],
    inputs: Any,
    *,
    mode: Mode = "auto",
    runs_per_chunk: int | None = None,
    devices: Sequence[Device] | None = None,
) -> Any:
    """fn over the leading axis of `inputs`, batched, chunked and over all devices.

    Args:
      fn: maps one tree of scalars, arrays or keys to a tree of arrays; pure.
      inputs: the same tree with a leading run axis [n, ...] on every leaf.
      mode: `map` (exact, see the module), `vmap`, or `auto`: the faster of the two by
        a short timed probe on the first runs.
      runs_per_chunk: at most so many runs at once, over all devices together; by
        default as many as the predicted memory allows.
      devices: default all local devices.

    Returns:
      The tree of results with a leading run axis, on the host.

    Raises:
      ValueError: no runs, leaves of different lengths, unknown mode, chunk below 1.

    >>> run_batched(lambda x: {"y": x**2}, np.arange(3.0), mode="map")["y"].tolist()
    [0.0, 1.0, 4.0]
    """
    devices = tuple(devices or jax.local_devices())
    inputs = jax.tree.map(_as_array, inputs)
    count = _count(inputs)
    if mode not in ("auto", "map", "vmap"):
        raise ValueError(f"mode is {mode!r}; it must be auto, map or vmap.")
    if runs_per_chunk is not None and runs_per_chunk < 1:
        raise ValueError(f"runs_per_chunk must be at least 1, not {runs_per_chunk}.")
    chosen = _probe(fn, inputs, count, devices) if mode == "auto" else mode
    program = _program(fn, chosen, devices)
    if runs_per_chunk is None:
        place = layout(count, devices)
        runs = place.placed_shapes(inputs)
        lowered = program.lower((), runs, (), place.counts())
        runs_per_chunk = chunk_that_fits(lowered.compile(), place, chosen)
    chunks = []
    for start in range(0, count, runs_per_chunk):
        here = slice(start, start + runs_per_chunk)
        part = jax.tree.map(operator.itemgetter(here), inputs)
        place = layout(_count(part), devices, min(runs_per_chunk, count))
        _, outs = program((), place.place(part), (), place.counts())
        chunks.append(place.collect(outs))
    return jax.tree.map(lambda *parts: _concatenate(parts), *chunks)


@functools.lru_cache(maxsize=32)
def _program(fn: Callable, mode: str, devices: tuple[Device, ...]) -> Any:
    return batch(lambda _, run, carry: (carry, fn(run)), mode=mode, devices=devices)


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, Array) else np.asarray(leaf)


def _concatenate(parts: Sequence[Any]) -> Any:
    is_numpy = isinstance(parts[0], np.ndarray)
    return (np if is_numpy else jnp).concatenate(parts)


def _count(inputs: Any) -> int:
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(inputs)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "Every leaf of inputs needs the same leading run axis of at least 1; "
            f"found lengths {sorted(lengths)}."
        )
    return lengths.pop()


def _probe(fn: Callable, inputs: Any, count: int, devices: tuple) -> str:
    """`map` or `vmap`, timed on the first runs (two per device and more)."""
    few = min(count, 4 * len(devices))
    if few <= len(devices):
        return "map"
    place = layout(few, devices)
    runs = place.place(jax.tree.map(lambda leaf: leaf[:few], inputs))
    programs = {mode: _program(fn, mode, devices) for mode in ("map", "vmap")}
    return faster(
        {
            mode: functools.partial(program, (), runs, (), place.counts())
            for mode, program in programs.items()
        }
    )


def faster(calls: dict[str, Callable[[], Any]]) -> str:
    """The name of the call that takes less time, each warmed up first."""
    seconds = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds[name] = time.perf_counter() - start
    return min(seconds, key=lambda name: seconds[name])


def predicted_bytes(compiled: Any) -> int:
    """Memory of one call of a compiled program on one device: arguments, results and
    temporaries, as the compiler plans them."""
    plan = compiled.memory_analysis()
    if plan is None:
        return 0
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )


def memory_budget(devices: Sequence[Device]) -> int:
    """Bytes that a program may take on each device: nine tenths of what is free."""
    own = [d for d in devices if d.process_index == jax.process_index()]
    stats = own[0].memory_stats() if own[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(0.9 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(0.9 * _free_host_bytes() / len(own))


def _free_host_bytes() -> int:
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return 4 * 2**30


def chunk_that_fits(
    compiled: Any, place: Layout, mode: str, budget: int | None = None
) -> int:
    """Runs per chunk whose predicted memory stays within `budget` bytes a device.

    In `map` mode temporaries are one run's; in `vmap` mode they grow with the runs.
    """
    budget = budget or memory_budget(place.devices)
    needed = predicted_bytes(compiled)
    if needed <= budget or place.slots == 1:
        return place.slots * len(place.devices)
    plan = compiled.memory_analysis()
    temporaries = plan.temp_size_in_bytes if mode == "map" else 0
    per_slot = (needed - temporaries) / place.slots
    slots = max(1, int((budget - temporaries) / per_slot))
    return min(slots, place.slots) * len(place.devices)
