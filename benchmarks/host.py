"""What a sweep costs besides its steps: host overhead, results and checkpoints,
compiling, starting."""

import itertools
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks import timing
from benchmarks.timing import Row, Settings, Setup, as_text
from grok_jax.engine import checkpoint, machine, programs, runner, workdirs
from grok_jax.engine import config as config_lib
from grok_jax.engine.override import apply_overrides
from grok_jax.settings import SettingError

K3 = Path(__file__).parents[1] / "experiments" / "lazy_to_rich" / "k3_laziness.py"

Calls = list[tuple[float, float]]
"""(start, end) of each call."""


def _k3() -> dict[str, Any]:
    if not K3.exists():
        raise SettingError(f"This measurement needs a checkout: there is no {K3}.")
    return runpy.run_path(str(K3))


def overhead(setup: Setup, config: Any = None, *, steps: int = 3000) -> Iterator[Row]:
    """Fractions of a sweep's wall time, from its first segment until its results are
    written, that are spent outside the compiled program, and on checkpoints and results
    alone. The sweep is K3 `cpu`, shortened, with progress."""
    config = config or _k3()["get_config"]("cpu")
    config = apply_overrides(config, [f"train.steps={steps}"])
    resolved = config_lib.resolve(config)
    assert setup.devices  # sets up JAX as for all other benchmarks
    engine = machine.set_up_jax(resolved.engine)
    for _ in range(2):  # the first time warms up
        inside: Calls = []
        writing: Calls = []
        with tempfile.TemporaryDirectory() as name, _watched(inside, writing):
            folder = Path(name)
            results = runner.Sweeper(
                resolved.plan,
                engine,
                folder=folder / "checkpoints",
                grok=resolved.grok,
                say=lambda _: None,
                progress=lambda progress, folder=folder: workdirs.write_json(
                    folder / "progress.json", progress.__dict__
                ),
            ).run()
            workdirs.write_results(folder / "results.nc", results)
    whole = writing[-1][1] - inside[0][0]
    note = f"{len(inside)} segments, {as_text(whole)}"
    words = f"{len(writing) - 1} checkpoints and the results, {as_text(_sum(writing))}"
    yield Row("host_overhead/k3", 1 - _sum(inside) / whole, "", 0.02, note)
    yield Row("host_overhead/writing", _sum(writing) / whole, "", 0.03, words)


def _sum(calls: Calls) -> float:
    return sum(end - start for start, end in calls)


@contextmanager
def _watched(inside: Calls, writing: Calls) -> Iterator[None]:
    """Records the calls of segment programs, and those that write."""
    compiled = programs.GroupProgram.compiled

    def watched(self: Any, *arguments: Any) -> Any:
        return _Watched(compiled(self, *arguments), inside)

    with (
        mock.patch.object(programs.GroupProgram, "compiled", watched),
        mock.patch.object(checkpoint, "save", _Watched(checkpoint.save, writing)),
        mock.patch.object(
            workdirs, "write_results", _Watched(workdirs.write_results, writing)
        ),
    ):
        yield


class _Watched:
    """A callable that records its calls."""

    def __init__(self, call: Any, calls: Calls):
        self._call, self._calls = call, calls

    def __call__(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        results = jax.block_until_ready(self._call(*arguments))
        self._calls.append((started, time.perf_counter()))
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def compile_time(
    setup: Setup, settings_of: Mapping[str, Settings], *, many: int = 64
) -> Iterator[Row]:
    """Seconds to compile the segment program, which should not depend on the number of
    runs: for one (on a single device), for one on each device, and for many."""
    each, mode = len(setup.devices), setup.modes[0]
    for name, settings in settings_of.items():

        def compiling(runs: int, settings: Settings = settings) -> float:
            program = timing.group_program(settings, runs, setup.devices)
            return timing.seconds_of(lambda: timing.compile_segment(program, mode))

        counts = dict.fromkeys((1, each, many))
        calls = {str(runs): partial(compiling, runs) for runs in counts}
        found = timing.in_turns(calls, setup.repeats)
        for runs, seconds in found.items():
            yield Row(f"compile/{name}/{runs}", seconds, "s", None, f"{mode} mode")
        words = f"{many} runs against {each}, one on each device"
        ratio = found[str(many)] / found[str(each)]
        yield Row(f"compile/{name}/ratio", ratio, "x", 1.1, words)


def checkpoints(setup: Setup, settings: Settings, *, runs: int = 64) -> Iterator[Row]:
    """Seconds to save and to restore the state of a sweep, next to a plain write and
    read of as many bytes."""
    program = timing.group_program(settings, runs, setup.devices)
    state = timing.states(timing.timed_sweep(program, setup.modes[0]))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    saved, plain = {"state": state}, np.random.default_rng(0).bytes(size)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "checkpoints", Path(name) / "plain"
        calls: dict[str, Callable[[], Any]] = {
            "save": lambda: checkpoint.save(folder, next(numbers), saved, {}),
            "restore": lambda: checkpoint.restore_newest(folder)[1],
            "write": lambda: _write(file, plain),
            "read": file.read_bytes,
        }
        timed = {n: partial(timing.seconds_of, call) for n, call in calls.items()}
        times = timing.in_turns(timed, setup.repeats)
    for name, baseline in (("save", "write"), ("restore", "read")):
        compared = f"plain {baseline}: {as_text(times[baseline])}"
        note = f"{runs} runs, {size / 2**20:.1f} MiB; {compared}"
        yield Row(f"checkpoint/{name}", times[name], "s", None, note)


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def launch(
    _: Setup, pages: Sequence[str] = ("k3_laziness", "k12_transformer")
) -> Iterator[Row]:
    """Seconds from the launch of a page (`smoke`, `lazy_to_rich`) to its first
    progress, with an empty persistent cache and with a full one, and the memory of its
    process; and the part of that time that Python, imports and devices take.

    Each launch is a separate process. This runs before the benchmark itself has taken
    the devices, because some devices admit only one process.
    """
    _k3()
    found = min(_first_sign(), _first_sign())
    yield Row("launch/python", found, "s", None, "Python, imports, devices")
    for page in pages:
        config = f"{K3.with_name(page)}.py:smoke"
        with tempfile.TemporaryDirectory() as folder:
            cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache", **_CACHE_ALL}
            environment = {**os.environ, **cache}
            for kind in ("cold", "warm"):
                line = [f"--config={config}", f"--workdir={folder}/{kind}"]
                spent, memory = _first_progress(line, environment)
                note = f"until the first progress, persistent cache {kind}"
                yield Row(f"launch/{page}/{kind}", spent, "s", None, note)
            if memory:
                mib = memory / 2**20
                yield Row(f"launch/{page}/memory", mib, "MiB", None, "peak resident")


_CACHE_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def _first_sign() -> float:
    """Seconds until a process that imports the launcher has its devices."""
    line = "import jax; from grok_jax import launch; jax.devices()"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], check=True, capture_output=True)
    return time.perf_counter() - started


def _first_progress(
    line: Sequence[str], environment: Mapping[str, str]
) -> tuple[float, int]:
    """(seconds, peak bytes of resident memory, 0 if the system does not report it) of a
    launch until its first progress, after which it is terminated.

    Raises:
      RuntimeError: the launch failed, with its error output.
    """
    (folder,) = [w.split("=", 1)[1] for w in line if w.startswith("--workdir=")]
    progress, memory = Path(folder) / "progress.json", 0
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "grok_jax.launch", *line],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=dict(environment),
        )
        while not progress.exists() and process.poll() is None:
            time.sleep(0.02)
        spent = time.perf_counter() - started
        status = Path(f"/proc/{process.pid}/status")
        if process.poll() is None and status.exists():
            found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
            memory = int(found[1]) * 1024 if found else 0
        process.terminate()
        process.wait()
        if not progress.exists():
            said.seek(0)
            raise RuntimeError(said.read().decode())
    return spent, memory
