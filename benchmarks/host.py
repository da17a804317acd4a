"""What a sweep costs beside its steps: the host's share, results and checkpoints,
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

from grok_jax.engine import checkpoint, machine, programs, runner, timing, workdirs
from grok_jax.engine import config as config_lib
from grok_jax.engine.override import apply_overrides
from grok_jax.engine.timing import Row, Settings, Setup, as_text
from grok_jax.settings import SettingError

K3 = Path(__file__).parents[1] / "experiments" / "lazy_to_rich" / "k3_laziness.py"

Calls = list[tuple[float, float]]
"""(start, end) of calls."""


def _k3() -> dict[str, Any]:
    if not K3.exists():
        raise SettingError(f"This measurement needs a checkout: there is no {K3}.")
    return runpy.run_path(str(K3))


def overhead(setup: Setup, config: Any = None, *, steps: int = 3000) -> Iterator[Row]:
    """Shares of a sweep's wall time, from its first segment until its results are
    written: what is not spent inside the compiled program, and what of that goes to
    checkpoints and results. K3 `cpu`, shortened, with progress."""
    config = config or _k3()["get_config"]("cpu")
    config = apply_overrides(config, [f"train.steps={steps}"])
    resolved = config_lib.resolve(config)
    assert setup.devices  # jax is set up as for all else
    own = machine.set_up_jax(resolved.engine)
    for _ in range(2):  # the first time warms up
        inside: Calls = []
        writing: Calls = []
        with tempfile.TemporaryDirectory() as name, _watched(inside, writing):
            folder = Path(name)
            results = runner.Sweeper(
                resolved.plan,
                own,
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
    """Notes the calls of segment programs, and those that write."""
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
    """A callable that notes its calls."""

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
    """Seconds to compile the segment program, which may not depend on the runs: of one
    (for which there is no second device), of one on each device, and of many."""
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
        words = f"{many} runs against {each}, on as many devices"
        ratio = found[str(many)] / found[str(each)]
        yield Row(f"compile/{name}/ratio", ratio, "x", 1.1, words)


def checkpoints(setup: Setup, settings: Settings, *, runs: int = 64) -> Iterator[Row]:
    """Seconds to save and to restore the state of a sweep, beside a plain write and
    read of as many bytes."""
    program = timing.group_program(settings, runs, setup.devices)
    state = timing.states(timing.timed_sweep(program, setup.modes[0]))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held, plain = {"state": state}, np.random.default_rng(0).bytes(size)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "checkpoints", Path(name) / "plain"
        calls: dict[str, Callable[[], Any]] = {
            "save": lambda: checkpoint.save(folder, next(numbers), held, {}),
            "restore": lambda: checkpoint.restore_newest(folder)[1],
            "write": lambda: _write(file, plain),
            "read": file.read_bytes,
        }
        timed = {n: partial(timing.seconds_of, call) for n, call in calls.items()}
        times = timing.in_turns(timed, setup.repeats)
    for name, beside in (("save", "write"), ("restore", "read")):
        plainly = f"plain {beside}: {as_text(times[beside])}"
        note = f"{runs} runs, {size / 2**20:.1f} MiB; {plainly}"
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
    progress, with no compiled program in the persistent cache and with all of them, and
    the memory of its process; and of these what Python, imports and devices take.

    Each is a process of its own. They come before this process has taken the devices,
    as some let no two processes in.
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
                yield Row(f"launch/{page}/memory", mib, "MiB", None, "resident at most")


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
    """(seconds, bytes of resident memory at most, 0 where the system does not tell) of
    a launch until its first progress, where it is ended.

    Raises:
      RuntimeError: it failed, with what it said.
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
