"""What a sweep costs beside its steps: the host's share, results and checkpoints,
compiling, starting."""

import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from grok_jax import checkpoint, programs, record, runner, sweep, timing
from grok_jax import config as config_lib
from grok_jax.settings import SettingError
from grok_jax.timing import Row, Settings, as_text

K3 = Path(__file__).parents[2] / "experiments" / "lazy_to_rich" / "k3_laziness.py"

Calls = list[tuple[float, float]]
"""(start, end) of calls."""


def _k3() -> dict[str, Any]:
    if not K3.exists():
        raise SettingError(f"This measurement needs a checkout: there is no {K3}.")
    return runpy.run_path(str(K3))


def overhead(
    config: Any = None, *, steps: int = 3000, engine: Mapping[str, Any] | None = None
) -> list[Row]:
    """Shares of a sweep's wall time, from its first segment until its results are
    written: what is not spent inside the compiled program, and what of that goes to
    checkpoints and results. K3 `cpu`, shortened, with progress."""
    config = config or _k3()["get_config"]("cpu")
    config = config_lib.apply_overrides(config, [f"train.steps={steps}"])
    resolved = config_lib.resolve(config)
    own = config_lib.set_up_jax({**resolved.engine, **(engine or {})})
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
                progress=lambda progress, folder=folder: record.write_json(
                    folder / "progress.json", progress.__dict__
                ),
            ).run()
            record.write_results(folder / "results.nc", results)
    whole = writing[-1][1] - inside[0][0]
    note = f"{len(inside)} segments, {as_text(whole)}"
    words = f"{len(writing) - 1} checkpoints and the results, {as_text(_sum(writing))}"
    return [
        Row("host_overhead/k3", 1 - _sum(inside) / whole, "", 0.02, note),
        Row("host_overhead/writing", _sum(writing) / whole, "", 0.03, words),
    ]


def _sum(calls: Calls) -> float:
    return sum(end - start for start, end in calls)


@contextmanager
def _watched(inside: Calls, writing: Calls) -> Iterator[None]:
    """Notes the calls of segment programs, and those that write."""
    compiled = programs.GroupProgram.compiled

    def watched(self: Any, mode: str, place: sweep.Layout) -> Any:
        return _Watched(compiled(self, mode, place), inside)

    with (
        mock.patch.object(programs.GroupProgram, "compiled", watched),
        mock.patch.object(checkpoint, "save", _Watched(checkpoint.save, writing)),
        mock.patch.object(
            record, "write_results", _Watched(record.write_results, writing)
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


def compile_time(settings: Settings, *, runs: int = 64, repeats: int = 5) -> list[Row]:
    """Seconds to compile the segment program, which may not depend on the runs: one
    (for which there is no second device), one on each device (no loop over runs), two
    on each, many, and four times as many."""
    devices = tuple(jax.local_devices())
    each = len(devices)
    counts = dict.fromkeys((1, each, 2 * each, runs, 4 * runs))
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(repeats):
        for count, own in times.items():
            program = timing.group_program(settings, count, devices)
            started = time.perf_counter()
            program.compiled("map", sweep.layout(count, devices))
            own.append(time.perf_counter() - started)
    found = {count: statistics.median(own) for count, own in times.items()}
    words = f"{runs} runs against {each}, on as many devices"
    return [
        *(Row(f"compile/runs/{n}", seconds, "s") for n, seconds in found.items()),
        Row("compile/ratio", found[runs] / found[each], "x", 1.1, words),
    ]


def checkpoints(settings: Settings, *, runs: int = 64, repeats: int = 3) -> list[Row]:
    """Seconds to save and to restore the state of a sweep, beside a plain write and
    read of as many bytes."""
    _, chunk = timing.lot(settings, runs, tuple(jax.local_devices()))
    state = chunk.place.collect(chunk.state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held, plain = {"state": state}, np.random.default_rng(0).bytes(size)
    numbers = iter(range(repeats + 1))
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "checkpoints", Path(name) / "plain"
        calls: dict[str, Callable[[], Any]] = {
            "save": lambda: checkpoint.save(folder, next(numbers), held, {}),
            "restore": lambda: checkpoint.restore_newest(folder)[1],
            "write": lambda: _write(file, plain),
            "read": file.read_bytes,
        }
        timed = {n: _timer(call) for n, call in calls.items()}
        times = timing.in_turns(timed, repeats)
    note = f"{runs} runs, {size / 2**20:.1f} MiB; plain "
    return [
        Row(
            f"checkpoint/{name}",
            times[name],
            "s",
            None,
            f"{note}{beside}: {as_text(times[beside])}",
        )
        for name, beside in (("save", "write"), ("restore", "read"))
    ]


def _timer(call: Callable[[], Any]) -> Callable[[], float]:
    return lambda: timing.seconds_of(call)


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def start_up(*, repeats: int = 2, overrides: Sequence[str] = ()) -> list[Row]:
    """Seconds from the start of the process to the first progress: K3 `smoke`."""
    times = []
    _k3()
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            line = [f"--config={K3}:smoke", f"--workdir={folder}/run", *overrides]
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "grok_jax.launch", *line],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            progress = Path(folder) / "run" / "progress.json"
            while not progress.exists() and process.poll() is None:
                time.sleep(0.02)
            times.append(time.perf_counter() - started)
            process.terminate()
            _, error = process.communicate()
            if not progress.exists():
                raise RuntimeError(error.decode())
    return [Row("start_up/k3 smoke", statistics.median(times), "s")]
