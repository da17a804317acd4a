"""A workload in a process of its own: on any number of virtual devices, and with a
memory that nothing else has filled.

    python -m grok_jax.benchmarks.alone REQUEST

where REQUEST is the JSON of a `Request`; the answer is one line of JSON.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from grok_jax import config as config_lib
from grok_jax import memory as memory_lib
from grok_jax import timing
from grok_jax.timing import Row, Settings, as_text


class Request(NamedTuple):
    """What a process is to do: some runs of some settings on some CPU devices."""

    settings: dict[str, Any]
    runs: int = 1
    devices: int = 0  # 0: one for each core
    seconds: float = 0.2  # about so long it advances, three times
    mode: str = "map"


class Answer(NamedTuple):
    """What a workload took."""

    run_step: float  # seconds, wall time over steps times runs
    compile: float  # seconds, of the segment program
    predicted: int  # bytes, by the compiler, on all devices together
    before: int  # bytes resident at most, before the workload
    peak: int  # and in the end


def ask(request: Request) -> Answer:
    """What a fresh process answers.

    Raises:
      RuntimeError: it failed, with what it said.
    """
    line = [
        sys.executable,
        "-m",
        "grok_jax.benchmarks.alone",
        json.dumps(request._asdict()),
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Answer(**json.loads(done.stdout.splitlines()[-1]))


def answer(request: Request) -> Answer:
    """Does what is asked for in this process."""
    engine = dict(engine=dict(devices=request.devices))
    resolved = config_lib.resolve(config_lib.make_config(engine))
    devices = config_lib.set_up_jax(resolved.engine).devices
    jax.block_until_ready(jax.numpy.zeros(()))
    before = _peak()
    lot = timing.lot(request.settings, request.runs, devices)
    started = time.perf_counter()
    compiled = lot.program.compiled(request.mode, lot.chunk.place)
    compiling = time.perf_counter() - started
    steps = timing.steps_in(request.seconds, lot, request.mode)
    spent = min(timing.advance(lot, steps, request.mode) for _ in range(3))
    return Answer(
        run_step=spent / steps / request.runs,
        compile=compiling,
        predicted=memory_lib.of_program(compiled).total * len(devices),
        before=before,
        peak=_peak(),
    )


def _peak() -> int:
    """The most bytes that this process has had resident. Linux counts with
    `ru_maxrss` what the process that started this one held; its own is VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        return int(kib) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def devices(
    workloads: Mapping[str, Settings],
    *,
    counts: Sequence[int] = (1, 2, 8),
    runs: int = 8,
    seconds: float = 0.2,
) -> list[Row]:
    """Seconds of a run-step of `runs` runs on each number of virtual CPU devices, each
    in a process of its own."""
    rows = []
    for name, settings in workloads.items():
        for count in counts:
            found = ask(Request(dict(settings), runs, count, seconds))
            note = f"{as_text(found.run_step)}, {runs} runs"
            rows.append(Row(f"devices/{name}/{count}", found.run_step, "s", None, note))
    return rows


def memory(
    workloads: Mapping[str, Settings], *, runs: int = 0, seconds: float = 0.05
) -> list[Row]:
    """For each workload in a process of its own, with a run on each device unless
    `runs` says how many: the resident memory at its highest (MiB) and the time to
    compile the segment program."""
    rows = []
    for name, settings in workloads.items():
        own = Request(dict(settings), runs or jax.local_device_count(), 0, seconds)
        found = ask(own)
        mib = 2.0**-20
        note = (
            f"{own.runs} runs; {mib * found.before:.0f} MiB before it; its program is "
            f"predicted to need {mib * found.predicted:.1f} MiB"
        )
        rows.append(Row(f"memory/{name}", mib * found.peak, "MiB", None, note))
        rows.append(Row(f"memory/{name}/compile", found.compile, "s"))
    return rows


if __name__ == "__main__":
    print(json.dumps(answer(Request(**json.loads(sys.argv[1])))._asdict()))
