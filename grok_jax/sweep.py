"""Batched runs: one program over all devices, in chunks that fit in memory.

    runs [n, ...] -> chunks -> dealt over devices round-robin, padded -> shard_map over
    the axis `run` -> on each device a loop (`map`) or one batch (`vmap`) -> [n, ...]

`map` suits a CPU and `vmap` an accelerator; `auto` chooses between them. This module is
independent of papers, losses and disks. Exactness: `map` reproduces a stand-alone run
bit for bit for any grid, position in the grid and chunking, on 1 CPU device or as many
as there are cores. `vmap` agrees up to rounding at first and statistically later,
because batched products round differently.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grok_jax.engine import hosts, memory
from grok_jax.types import Device

Mode = Literal["auto", "map", "vmap"]
Order = Literal["in turns", "in rows", "any"]
"""The order in which runs use shared items a, b: a b a b, a a b b, or any other."""
BatchedFn = Any  # a jitted (shared, runs, carries, counts) -> (carries, outs)

_AXIS = "run"
_OVER_RUNS = PartitionSpec(_AXIS)
REPLICATED, LOCAL = PartitionSpec(), PartitionSpec(_AXIS)
"""Placement of data that runs share: a copy on each device, or a part on each."""


@dataclass(frozen=True)
class Layout:
    """Placement of `count` runs on D devices: run i in slot i // D of device i % D.

    Dealing round-robin puts neighbours in a grid, which cost about the same, on
    different devices. All devices have equally many slots; the last may be padding.
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
        """The number of real runs on each device, sharded over the devices."""
        size = len(self.devices)
        counts = [(self.count - d + size - 1) // size for d in range(size)]
        return self._put(np.asarray(counts, np.int32))

    def count_shapes(self) -> jax.ShapeDtypeStruct:
        """The shapes of `counts()`; the devices need not be attached."""
        return jax.ShapeDtypeStruct(
            (len(self.devices),), np.int32, sharding=self._sharding(_OVER_RUNS)
        )

    def place(self, runs: Any) -> Any:
        """Shards arrays [count, ...] as arrays [devices * slots, ...]."""
        order = self._order()
        return jax.tree.map(lambda leaf: self._put(leaf[order]), runs)

    def share(self, tree: Any) -> Any:
        """Puts one copy of `tree` on each device, instead of one for each run."""
        return jax.tree.map(lambda leaf: self._put(leaf, REPLICATED), tree)

    def deal(self, which: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
        """Assigns items that runs share to the devices whose runs use them.

        Args:
          which: for each run, the number of the item it uses [count].
          room: how many items a device has room for.

        Returns:
          The numbers of each device's items [devices, room], padded by repeating one,
          and for each run, the position of its item among them [count].
        """
        size = len(self.devices)
        numbers = np.full((size, room), which[0])
        places = np.zeros(len(which), np.int32)
        for device in range(min(size, len(which))):
            used, first, back = np.unique(
                which[device::size], return_index=True, return_inverse=True
            )
            order = np.argsort(first)  # in order of first use
            numbers[device, : len(used)] = used[order]
            places[device::size] = np.argsort(order)[back]
        return numbers, places

    def order_of(self, places: np.ndarray, room: int) -> Order:
        """The order in which the runs of every device use its `room` items, where
        `places` is the position of each run's item (see `deal`)."""
        slot, (turns, rest) = (
            np.arange(len(places)) // len(self.devices),
            divmod(self.slots, room),
        )
        if rest == 0 and (places == slot % room).all():
            return "in turns"
        if rest == 0 and (places == slot // turns).all():
            return "in rows"
        return "any"

    def local(self, things: Sequence[Sequence[Any]]) -> Any:
        """Stacks trees [devices][room] to arrays [devices * room, ...], of which each
        device stores only its own `room` rows."""
        room, sharding = len(things[0]), self._sharding(LOCAL)

        def put(*leaves: np.ndarray) -> Array:
            def part(index: Any) -> np.ndarray:
                first = index[0].start or 0
                return np.stack(leaves[first : first + room])

            shape = (len(leaves), *leaves[0].shape)
            return jax.make_array_from_callback(shape, sharding, part)

        return jax.tree.map(put, *(thing for row in things for thing in row))

    def local_shapes(self, thing: Any, room: int) -> Any:
        """The shapes that `local` returns for items of these shapes."""
        size, sharding = len(self.devices) * room, self._sharding(LOCAL)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (size, *leaf.shape), leaf.dtype, sharding=sharding
            ),
            thing,
        )

    def collect(self, runs: Any, *, everywhere: bool = False) -> Any:
        """The inverse of `place`, on the host. With several processes only the first
        gets it (the others None), or all do (`everywhere`, for small arrays)."""
        if not hosts.several():
            return jax.tree.map(self._collect, runs)
        order = self._order()
        slot_of = np.empty(self.count, int)
        slot_of[order[::-1]] = np.arange(len(order))[::-1]
        whole = hosts.everywhere(runs) if everywhere else hosts.gather(runs, self.mesh)
        return jax.tree.map(lambda leaf: leaf[slot_of], whole)

    def _collect(self, leaf: Array) -> Any:
        """Makes one copy; np.asarray would cache a second one in the device array."""
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._collect(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        out = np.empty((self.count, *leaf.shape[1:]), leaf.dtype)
        size = len(self.devices)
        for shard in leaf.addressable_shards:
            device = self.devices.index(shard.device)
            rows = out[device::size]
            rows[...] = np.asarray(shard.data)[: len(rows)]
        return out

    def shapes(self, runs: Any) -> Any:
        """The shapes that `collect` returns for these sharded arrays."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (self.count, *leaf.shape[1:]), leaf.dtype
            ),
            runs,
        )

    def placed_shapes(self, runs: Any) -> Any:
        """The shapes that `place` returns for arrays [n, ...]; allocates nothing."""
        size, sharding = self.slots * len(self.devices), self._sharding(_OVER_RUNS)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (size, *leaf.shape[1:]), leaf.dtype, sharding=sharding
            ),
            runs,
        )

    def shared_shapes(self, tree: Any) -> Any:
        """The shapes that `share` returns."""
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
    """The layout of `count` runs with room for `chunk` runs (default: `count`)."""
    slots = -(-(chunk or count) // len(devices))
    return Layout(count, slots, tuple(devices))


def batch(
    fn: Callable[[Any, Any, Any], tuple[Any, Any]],
    *,
    mode: str,
    devices: Sequence[Device],
    shared: Any = REPLICATED,
    deterministic: bool = True,
    over_runs: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
) -> BatchedFn:
    """Batches fn(shared, run, carry) -> (carry, out) over runs: returns a jitted
    (shared, runs, carries, counts) -> (carries, outs), with arguments from a `Layout`.

    Shared data are stored once per device, REPLICATED or LOCAL as `shared` says for all
    or for each part of them. `carries` are donated. In `map` mode the loop's length is
    the device's number of real runs, so padding costs nothing. Results in padded slots
    are meaningless. `deterministic`: see `compiler_options`. `over_runs` replaces
    `jax.vmap(fn)` over the runs of a device in `vmap` mode.
    """
    mesh = Mesh(np.array(devices), (_AXIS,))

    def on_device(common: Any, runs: Any, carries: Any, count: Array) -> Any:
        if mode == "vmap":
            together = over_runs or jax.vmap(fn, in_axes=(None, 0, 0))
            return together(common, runs, carries)
        return _loop(fn, common, runs, carries, count[0])

    sharded = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(shared, _OVER_RUNS, _OVER_RUNS, _OVER_RUNS),
        out_specs=_OVER_RUNS,
        check_vma=False,
    )
    options = compiler_options(devices, deterministic)
    return jax.jit(sharded, donate_argnums=(2,), compiler_options=options)


def compiler_options(
    devices: Sequence[Device], deterministic: bool = True
) -> dict[str, Any] | None:
    """XLA compiler options for these devices.

    On a GPU, matrix products use cuBLAS, which needs no search over Triton kernels,
    and a `deterministic` program gives the same bits each time it is compiled and run:
    kernels are not chosen by timing, and scatters sum in a fixed order. This makes
    scatters many times slower; the networks of `models` have none in their gradients.
    CPUs and TPUs are deterministic anyway.
    """
    if devices[0].platform not in ("gpu", "cuda", "rocm"):
        return None
    return {
        "xla_gpu_deterministic_ops": deterministic,
        "xla_gpu_enable_triton_gemm": False,
    }


def grouped(
    fn: Callable[[Any, Any, Any, Any], tuple[Any, Any]], order: Order
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Batches fn(item, common, run, carry) over runs that share items in this order:
    ((items, common), runs, carries) -> (carries, outs). Nested vmaps over items and
    over the runs of each avoid copying an item for the runs that share it."""
    over_items, over_runs = (0, None, 0, 0), (None, None, 0, 0)
    axes = (over_runs, over_items) if order == "in turns" else (over_items, over_runs)
    together = jax.vmap(jax.vmap(fn, in_axes=axes[1]), in_axes=axes[0])

    def batched(shared: Any, runs: Any, carries: Any) -> tuple[Any, Any]:
        items, common = shared
        slots = jax.tree.leaves(runs)[0].shape[0]
        room = jax.tree.leaves(items)[0].shape[0]
        sizes = (-1, room) if order == "in turns" else (room, slots // room)

        def split(leaf: Array) -> Array:
            return leaf.reshape(*sizes, *leaf.shape[1:])

        def merged(leaf: Array) -> Array:
            return leaf.reshape(slots, *leaf.shape[2:])

        split_runs, split_carries = jax.tree.map(split, (runs, carries))
        outs = together(items, common, split_runs, split_carries)
        return jax.tree.map(merged, outs)

    return batched


def _loop(
    fn: Callable, common: Any, runs: Any, carries: Any, count: Array
) -> tuple[Any, Any]:
    """Applies fn to the first `count` runs one after the other. `count` is an argument,
    so the compiled body is the same for one run and for a thousand."""
    fn = jax.jit(fn, inline=True)  # traced once, for shapes and for use

    def get(tree: Any, i: Any) -> Any:
        take = jax.lax.dynamic_index_in_dim
        return jax.tree.map(lambda leaf: take(leaf, i, 0, keepdims=False), tree)

    def put(tree: Any, i: Array, new: Any) -> Any:
        return jax.tree.map(
            lambda leaf, value: jax.lax.dynamic_update_index_in_dim(leaf, value, i, 0),
            tree,
            new,
        )

    def body(i: Array, so_far: tuple[Any, Any]) -> tuple[Any, Any]:
        carries, outs = so_far
        carry, out = fn(common, get(runs, i), get(carries, i))
        return put(carries, i, carry), put(outs, i, out)

    slots = jax.tree.leaves(runs)[0].shape[0]
    _, shapes = jax.eval_shape(lambda: fn(common, get(runs, 0), get(carries, 0)))
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
    """Maps fn over the leading axis of `inputs`, in chunks over all devices.

    Args:
      fn: a pure function of a tree of scalars, arrays or keys to a tree of arrays.
      inputs: the same tree with a leading run axis [n, ...] on every leaf.
      mode: `map` (exact, see the module), `vmap`, or `auto`: `map` on a CPU and
        `vmap` on an accelerator.
      runs_per_chunk: the most runs at once, over all devices together; default: as
        many as fit by the predicted memory. It is halved if memory still runs out.
      devices: default: all local devices.

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
    chosen = mode_for(devices) if mode == "auto" else mode
    program = _program(fn, chosen, devices)
    if runs_per_chunk is None:

        def needed(slots: int) -> int:
            place = layout(min(count, slots * len(devices)), devices)
            runs = place.placed_shapes(inputs)
            lowered = program.lower((), runs, (), place.counts())
            return memory.of_program(lowered.compile()).total

        most = layout(count, devices).slots
        slots, _ = slots_that_fit(needed, most, memory_budget(devices))
        runs_per_chunk = max(slots, 1) * len(devices)
    chunks, start, size = [], 0, min(runs_per_chunk, count)
    while start < count:
        part = jax.tree.map(operator.itemgetter(slice(start, start + size)), inputs)
        place = layout(_count(part), devices, size)
        try:
            _, outs = program((), place.place(part), (), place.counts())
            chunks.append(place.collect(outs))
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error) or place.slots == 1:
                raise
            size = halved(size, devices)
            continue
        start += size
    return jax.tree.map(lambda *parts: _concatenate(parts), *chunks)


def mode_for(devices: Sequence[Device]) -> Literal["map", "vmap"]:
    """The mode that suits these devices: `map` on a CPU, whose caches fit one run, and
    `vmap` on an accelerator, which one run does not fill."""
    return "map" if devices[0].platform == "cpu" else "vmap"


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` is XLA's report that a device is out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def halved(runs: int, devices: Sequence[Device]) -> int:
    """Half as many runs per chunk as `runs`, and at least one per device."""
    slots = layout(runs, devices).slots
    return max(1, slots // 2) * len(devices)


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


def memory_budget(devices: Sequence[Device]) -> int:
    """Bytes that a program may use on each device: 90% of the free memory."""
    local = [d for d in devices if d.process_index == jax.process_index()]
    stats = local[0].memory_stats() if local[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(0.9 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(0.9 * _free_host_bytes() / len(local))


def _free_host_bytes() -> int:
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return 4 * 2**30


def slots_that_fit(
    needed: Callable[[int], int], most: int, budget: int
) -> tuple[int, int | None]:
    """The most slots on each device, up to `most`, that fit in `budget` bytes, and the
    bytes that they need; 0 slots and the bytes of one if not even one fits.

    `needed` compiles for a number of slots and returns the bytes on each device. It may
    raise that memory is exhausted, as a TPU's compiler does; the bytes are then not
    known (None), and half as many slots are tried. Memory is about linear in the slots,
    so otherwise the next number is where the line through one slot reaches the budget.
    """

    @functools.cache
    def bytes_of(slots: int) -> int | None:
        try:
            return needed(slots)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None

    slots = most
    while True:
        size = bytes_of(slots)
        if size is not None and size <= budget:
            return slots, size
        if slots == 1:
            return 0, size
        if size is None:
            slots //= 2
            continue
        least = bytes_of(1)
        if least is None or least > budget:
            return 0, least
        per_slot = max((size - least) / (slots - 1), 1)
        slots = min(1 + int((budget - least) / per_slot), slots - 1)
