"""Compiles for machines that are not present, with their own compilers.

    "tpu:v5e:2x4", "gpu:h100", "gpu:h100:8" -> Target: devices to compile for
    any swept function, or a group of a page -> Report: whether it compiles, how long
    that takes, bytes on each device, how many runs fit at once, the compiled program

The compilers come with `pip install 'grok_jax[tpu]'` and `'grok_jax[cuda12]'` and work
on any Linux machine; nothing is run. A TPU's compiler estimates how long a program
takes at best; a GPU's does not.
"""

import importlib.util
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from grok_jax import sweep, train
from grok_jax.engine import census, memory
from grok_jax.engine.memory import Bytes
from grok_jax.engine.planning import GIB, in_gib
from grok_jax.engine.programs import GroupProgram
from grok_jax.settings import SettingError, first_line
from grok_jax.types import Device

ROOM = 0.9
"""The fraction of memory that programs may use, as on devices that are present."""


class Gpu(NamedTuple):
    """What a GPU's compiler has to know about a card."""

    name: str
    capability: int  # the major CUDA compute capability
    cores: int  # streaming multiprocessors
    lanes: int  # float32 units per core
    clock_ghz: float
    bandwidth: int  # bytes per second
    l2: int  # bytes
    memory: int  # bytes
    shared: int  # bytes of shared memory per core
    shared_block: int  # bytes of it that one block may use


GPUS: Mapping[str, Gpu] = {
    "a100": Gpu(
        *("NVIDIA A100-SXM4-80GB", 8, 108, 64, 1.41, 2_039_040_000_000),
        *(41_943_040, 85_100_068_864, 167_936, 166_912),
    ),
    "h100": Gpu(
        *("NVIDIA H100 80GB HBM3", 9, 132, 128, 1.98, 3_352_320_000_000),
        *(52_428_800, 84_942_979_072, 233_472, 232_448),
    ),
    "h200": Gpu(
        *("NVIDIA H200 141GB HBM3e", 9, 132, 128, 1.98, 4_800_000_000_000),
        *(52_428_800, 151_397_597_184, 233_472, 232_448),
    ),
    "b200": Gpu(
        *("NVIDIA B200", 10, 148, 128, 1.965, 7_672_320_000_000),
        *(132_644_864, 191_514_411_008, 233_472, 232_448),
    ),
}
"""What the driver reports for each card, from XLA's descriptions
(github.com/openxla/xla, xla/backends/gpu/target_config/specs)."""

GPU_SHARE = 0.75
"""The fraction of a card's memory that JAX takes (XLA_PYTHON_CLIENT_MEM_FRACTION)."""


class Tpu(NamedTuple):
    """A generation of TPUs."""

    accelerator: str  # one of its TPU_ACCELERATOR_TYPEs
    memory_gib: float  # available on each chip, according to the compiler


TPUS: Mapping[str, Tpu] = {
    "v5e": Tpu("v5litepod-4", 15.75),
    "v5p": Tpu("v5p-8", 95.74),
    "v6e": Tpu("v6e-4", 31.25),
}

_GPU_DESCRIPTION = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {lanes}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2}
  clock_rate_ghz: {clock_ghz}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {shared_block}
  cuda_compute_capability {{ major: {capability} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{name}"
"""


class Target(NamedTuple):
    """Devices to compile for, which need not be present, and their memory."""

    name: str
    devices: tuple[Device, ...]
    memory: int  # bytes available to programs on each device


def parse(text: str) -> Target:
    """The machine named by `tpu:CHIP:TOPOLOGY` or `gpu:CHIP[:COUNT]`.

    Raises:
      SettingError: an unknown chip, a compiler that is not installed, or a topology
        that the compiler refuses.
    """
    platform, _, rest = text.partition(":")
    chip, _, shape = rest.partition(":")
    chips = {"tpu": TPUS, "gpu": GPUS}.get(platform)
    if chips is None:
        raise SettingError(
            f"--target={text} is neither tpu:CHIP:TOPOLOGY nor gpu:CHIP[:COUNT]."
        )
    if chip not in chips:
        raise SettingError(
            f"--target={text} does not name a known chip; {platform} has "
            f"{', '.join(chips)}."
        )
    return _tpu(text, chip, shape) if platform == "tpu" else _gpu(text, chip, shape)


def _tpu(text: str, chip: str, topology: str) -> Target:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", topology):
        raise SettingError(
            f"--target={text} needs the topology of its chips: tpu:{chip}:2x2"
            f"{'x1' if chip == 'v5p' else ''}, for example."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise _missing(text, "TPUs", "tpu")
    os.environ.update(  # read by libtpu when it is loaded; there is no TPU to query
        TPU_SKIP_MDS_QUERY="1",
        TPU_ACCELERATOR_TYPE=TPUS[chip].accelerator,
        TPU_WORKER_HOSTNAMES="localhost",
    )
    devices = _devices(text, platform="tpu", topology_name=f"{chip}:{topology}")
    return Target(text, devices, int(TPUS[chip].memory_gib * GIB))


def _gpu(text: str, chip: str, count: str) -> Target:
    if not re.fullmatch(r"[1-9]\d*", count or "1"):
        raise SettingError(f"--target={text}: {count!r} is not a number of GPUs.")
    plugins = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
    if not any(map(_is_installed, plugins)):
        raise _missing(text, "CUDA", "cuda12")
    devices = _devices(
        text,
        platform="cuda",
        target_config=_GPU_DESCRIPTION.format(**GPUS[chip]._asdict()),
        topology=f"1x1x{count or 1}",
    )
    return Target(text, devices, int(GPU_SHARE * GPUS[chip].memory))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package
        return False


def _missing(text: str, what: str, extra: str) -> SettingError:
    return SettingError(
        f"--target={text} needs the compiler for {what}: "
        f"pip install 'grok_jax[{extra}]'."
    )


def _devices(text: str, **about: Any) -> tuple[Device, ...]:
    logger = logging.getLogger("jax._src.xla_bridge")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it warns that there is no such device
    try:
        return tuple(topologies.get_topology_desc(**about).devices)
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        raise SettingError(f"--target={text} is refused: {reason}.") from error
    finally:
        logger.setLevel(before)


class Report(NamedTuple):
    """The result of compiling a batch of runs for a target."""

    runs: int  # requested
    slots: int  # runs at once on each device
    at_once: int  # runs at once on all devices
    seconds: float  # to compile
    bytes: Bytes  # on each device
    at_best: float | None
    """Seconds per call, if the compiler estimates it; an operation that it has no
    estimate for, such as a sort on a TPU, counts as -1."""
    program: census.Program
    doubles: int  # float64 or complex128 types in the program before compilation

    @property
    def kernels(self) -> int:
        """The kernels in one step of a segment's training loop."""
        loops = self.program.loops(train.TRAIN_STEPS)
        return self.program.census(loops[0] if loops else None)["kernel"]


Lowered = Any  # what `jax.jit(...).lower(...)` returns
Lower = Callable[[sweep.Layout], tuple[Lowered, Any]]


def of_function(
    fn: Callable[[Any], Any],
    inputs: Any,
    target: Target,
    *,
    memory_budget: int | None = None,
) -> Report:
    """Compiles `fn`, vmapped over the leading axis of `inputs`, for a target, as
    `sweep.run_batched` would; nothing is computed.

    Args:
      fn: maps one tree of scalars, arrays or keys to a tree of arrays; pure.
      inputs: the same tree, arrays or shapes, with a leading run axis [n, ...].
      memory_budget: bytes for programs on each device (default: nine tenths of the
        target's memory).

    Raises:
      SettingError: a single run needs more memory than that.
      jax.errors.JaxRuntimeError: the compiler refuses the program.
    """
    batched = sweep.batch(
        lambda _, run, carry: (carry, fn(run)), mode="vmap", devices=target.devices
    )

    def lower(place: sweep.Layout) -> tuple[Lowered, Any]:
        runs = place.placed_shapes(inputs)
        return batched.lower((), runs, (), place.count_shapes()), runs

    count = len(jax.tree.leaves(inputs)[0])
    return _report(lower, count, target, memory_budget)


def _report(lower: Lower, runs: int, target: Target, budget: int | None) -> Report:
    """Compiles for all runs at once or, if they do not fit, for as many as do."""
    budget = budget or int(ROOM * target.memory)
    made: dict[int, Report] = {}

    def needed(slots: int) -> int:
        count = min(runs, slots * len(target.devices))
        made[slots] = _compile(lower, sweep.layout(count, target.devices), runs)
        return made[slots].bytes.total

    most = sweep.layout(runs, target.devices).slots
    slots, size = sweep.slots_that_fit(needed, most, budget)
    if not slots:
        raise SettingError(
            f"One run needs {in_gib(size)} GiB on each device of {target.name}, and "
            f"there are {in_gib(budget)}."
        )
    return made[slots]


def _compile(lower: Lower, place: sweep.Layout, runs: int) -> Report:
    """The report of a layout for some of `runs` runs."""
    lowered, arguments = lower(place)
    started = time.perf_counter()
    compiled = lowered.compile()
    return Report(
        runs=runs,
        slots=place.slots,
        at_once=place.count,
        seconds=time.perf_counter() - started,
        bytes=memory.of_program(compiled, arguments),
        at_best=(compiled.cost_analysis() or {}).get("optimal_seconds"),
        program=census.read(compiled.as_text()),
        doubles=len(re.findall(r"xf64>|<f64>|xcomplex<f64>", lowered.as_text())),
    )


class GroupReport(NamedTuple):
    """The result of compiling a group of a page."""

    initial: Report  # makes the states
    segment: Report  # trains and measures
    step: Report | None  # a single step, if the compiler estimates times

    @property
    def run_step(self) -> float | None:
        """Seconds per step of one run at best, on the whole machine."""
        return self._timed(lambda step, seconds: seconds / step.at_once)

    def steps_alone(self, runs: int, steps: int) -> float | None:
        """Seconds for `steps` steps of `runs` runs at best, in chunks."""
        return self._timed(
            lambda step, seconds: -(-runs // step.at_once) * int(steps) * seconds
        )

    def _timed(self, of: Callable[[Report, float], float]) -> float | None:
        if self.step is None or self.step.at_best is None or self.step.at_best <= 0:
            return None
        return of(self.step, self.step.at_best)

    @property
    def bytes(self) -> int:
        """Bytes on each device, of the program that takes most."""
        return max(self.initial.bytes.total, self.segment.bytes.total)

    @property
    def seconds(self) -> float:
        """Seconds to compile the programs that would run."""
        return self.initial.seconds + self.segment.seconds


def of_group(
    program: GroupProgram, target: Target, *, memory_budget: int | None = None
) -> GroupReport:
    """Compiles the programs of a group, whose devices are the target's, in `vmap`.

    If the compiler estimates times, a step of all runs that fit is compiled separately,
    because in the whole program every loop counts as one iteration. Work that is done
    at some steps only, such as a shuffle, counts as if it were done at every step, and
    operations count at their best rate, one after the other. Adaptive dynamics choose
    their own steps and have no such time.

    Raises: as `of_function`.
    """
    count = len(program.group.members)

    def report(lowered: Callable, runs: int) -> Report:
        def lower(place: sweep.Layout) -> tuple[Lowered, Any]:
            return lowered("vmap", program.order("vmap", place), place)

        return _report(lower, runs, target, memory_budget)

    segment = report(program.lowered_segment, count)
    step = None
    if segment.at_best is not None and not program.adaptive:
        step = report(program.lowered_step, segment.at_once)
    initial = report(program.lowered_initial, segment.at_once)
    return GroupReport(initial, segment, step)
