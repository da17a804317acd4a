"""Runs one sweep on several processes (a TPU pod, SLURM, any cluster).

    process 0 .. P-1, each with its own devices -> one mesh over all of them
    inputs, data     made by every process; each places its own share
    segments         no communication while the processes compute
    decisions        `agree`: how long the next segment is, stop, save, done
    records, states  `gather`: a ring that ends at process 0, the only one that writes
    restore          process 0 reads, `broadcast` sends to the others

A process never holds more than one share of another process's states in the ring. With
one process, all functions return at once.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from grok_jax.settings import SettingError, first_line

HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 3600
"""How long the others wait for process 0 to test the claims and draw figures."""


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool = False,
) -> None:
    """Joins this process to the others, before JAX looks for devices.

    With `coordinator` ("host:port" of process 0) all three are needed. Without it,
    jax.distributed detects the cluster (TPU pods, SLURM and Open MPI) if `distributed`
    is set, the environment shows several tasks, or the machine has a TPU; otherwise
    there is one process and nothing happens. JAX ends a process (status 134) if the
    others do not come within five minutes.

    Raises:
      SettingError: a flag is missing or out of range, or no cluster is found.
    """
    guess = False
    wanted: dict[str, Any] = {}
    given = (coordinator, num_processes, process_id)
    if any(value is not None for value in given):
        _check(*given)
        wanted = dict(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
        )
    elif not (distributed or is_one_of_several(os.environ)):
        guess = has_tpu(os.environ)
        if not guess:
            return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **wanted,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError, OSError) as error:
        if guess and not joined():  # `devices` raises if there are others after all
            return
        raise SettingError(
            f"The processes of this run did not find each other: {first_line(error)}"
        ) from error
    if one_task_a_node(os.environ):  # JAX takes only the GPU of the task's number
        for kind in ("cuda", "rocm"):
            jax.config.update(f"jax_{kind}_visible_devices", "all")


def is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Whether SLURM (srun) or a GKE pod started this process as one of several."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    pod = environment.get("TPU_WORKER_HOSTNAMES", "")
    return (tasks.isdigit() and int(tasks) > 1) or "," in pod


def has_tpu(environment: Mapping[str, str]) -> bool:
    """Whether JAX has found TPU chips here and set TPU_ML_PLATFORM for their runtime.
    Only the metadata server knows whether such a machine is one of several."""
    return "TPU_ML_PLATFORM" in environment


def one_task_a_node(environment: Mapping[str, str]) -> bool:
    """Whether SLURM gives each node one task, with no choice of its GPUs."""
    tasks, nodes = (environment.get(f"SLURM_STEP_NUM_{n}") for n in ("TASKS", "NODES"))
    chosen = "JAX_LOCAL_DEVICE_IDS" in environment
    return tasks is not None and tasks == nodes and not chosen


def _check(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if coordinator is None or num_processes is None or process_id is None:
        raise SettingError(
            "Several processes need --coordinator=HOST:PORT, --num_processes=N and "
            "--process_id=I, all three."
        )
    if not coordinator.rpartition(":")[2].isdigit() or ":" not in coordinator:
        raise SettingError(f"--coordinator is {coordinator!r}; write HOST:PORT.")
    if num_processes < 1:
        raise SettingError(f"--num_processes is {num_processes}; it must be 1 or more.")
    if not 0 <= process_id < num_processes:
        raise SettingError(
            f"--process_id is {process_id}; it must be from 0 to {num_processes - 1}."
        )


def joined() -> bool:
    """Whether `initialize` found a cluster, perhaps of this process alone. Does not set
    up JAX's devices, whose number and platform may still be chosen."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Whether there are other processes; if `joined`, makes JAX set up its devices."""
    return joined() and jax.process_count() > 1


def is_writer() -> bool:
    """Whether this is the process that reads and writes the workdir."""
    return not several() or jax.process_index() == 0


def devices(per_process: int) -> tuple[Any, ...]:
    """The first `per_process` devices of every process, process by process.

    Raises:
      SettingError: a process has fewer, or has not joined the others.
    """
    if jax.process_count() > 1 and not joined():
        raise SettingError(
            f"This is one of {jax.process_count()} hosts of an accelerator; give "
            "--distributed, on all of them."
        )
    chosen = []
    for process in range(jax.process_count()):
        local = [d for d in jax.devices() if d.process_index == process]
        if len(local) < per_process:
            raise SettingError(
                f"Process {process} has {len(local)} devices where {per_process} are "
                "used; every process needs as many (engine.devices)."
            )
        chosen += sorted(local, key=lambda device: device.id)[:per_process]
    return tuple(chosen)


def agree(*values: float) -> np.ndarray:
    """The maximum of each value over all processes [len(values)]."""
    local = np.asarray(values, np.float32)
    if not several():
        return local
    return np.asarray(multihost_utils.process_allgather(local)).max(axis=0)


def broadcast(
    content: Any = None, arrays: Mapping[str, np.ndarray] | None = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """The arguments of process 0 (a JSON value, arrays by name), in all processes."""
    sent = dict(arrays or {})
    if not several():
        return content, sent
    kinds = {name: (a.shape, np.dtype(a.dtype).name) for name, a in sent.items()}
    text = json.dumps([content, kinds]).encode() if is_writer() else b""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    content, kinds = json.loads(_broadcast_bytes(np.frombuffer(text, np.uint8), length))
    for name, (shape, kind) in kinds.items():
        size = math.prod(shape) * np.dtype(kind).itemsize
        whole = np.ascontiguousarray(sent[name]) if is_writer() else np.zeros(0)
        flat = _broadcast_bytes(whole.reshape(-1).view(np.uint8), size)
        sent[name] = np.frombuffer(flat, np.dtype(kind)).reshape(shape)
    return content, sent


def _broadcast_bytes(data: np.ndarray, length: int) -> bytes:
    """Sends bytes as integers: a broadcast sums, which loses the sign of float -0.0."""
    words = np.zeros(-(-length // 4), np.int32)
    words.view(np.uint8)[: len(data)] = data
    words = np.asarray(multihost_utils.broadcast_one_to_all(words), np.int32)
    return words.tobytes()[:length]


@contextmanager
def together() -> Iterator[None]:
    """All processes complete this block, or none does.

    Raises:
      SettingError: another process failed; that process reports why.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        any_failed = agree(failed)[0] > 0
        if any_failed and not failed:
            raise SettingError("Another process of this run could not start.")


def everywhere(runs: Any) -> Any:
    """Sharded arrays [n, ...] as numpy, in all processes (for small arrays)."""
    return jax.tree.map(
        lambda leaf: np.asarray(multihost_utils.process_allgather(leaf, tiled=True)),
        runs,
    )


def gather(runs: Any, mesh: Mesh) -> Any:
    """Sharded arrays [n, ...] over the one axis of `mesh`, as numpy on process 0 and
    None on all others.

    In each of P - 1 turns every process passes the share that it holds to the process
    before it, so that process 0 receives all shares in order.
    """
    shares = []
    for turn in range(jax.process_count()):
        if turn:
            runs = _turn(mesh)(runs)
        share = jax.tree.map(_local_share, runs)
        if is_writer():
            shares.append(share)
    if not is_writer():
        return None
    return jax.tree.map(lambda *parts: np.concatenate(parts), *shares)


@lru_cache(maxsize=8)
def _turn(mesh: Mesh) -> Any:
    size, step = mesh.size, mesh.size // jax.process_count()
    ring = [(device, (device - step) % size) for device in range(size)]
    (axis,) = mesh.axis_names
    spec = PartitionSpec(axis)

    def turn(runs: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.lax.ppermute(leaf, axis, ring), runs)

    return jax.jit(
        jax.shard_map(turn, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    )


def _local_share(leaf: jax.Array) -> np.ndarray:
    shards = sorted(leaf.addressable_shards, key=lambda s: s.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
