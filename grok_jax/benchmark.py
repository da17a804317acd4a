"""python -m grok_jax.benchmark [--only=NAME,...] [--out=FILE.json]

Measures what the design promises. Each number is a ratio (or seconds) of things timed
one after the other in this process, so that it means the same on any machine; on a
busy one, repeat it. Nothing here is asserted: goals are for reading.

Exit status: 0 measured, whether goals are met or not; 2 wrong usage.
"""

import itertools
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
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Column, Table

from grok_jax import benchmark_torch, checkpoint, programs, record, runner, sweep
from grok_jax import config as config_lib
from grok_jax.models.committee import committee
from grok_jax.settings import SettingError, lookup, nearest
from grok_jax.types import Device

DONE, WRONG_USAGE = 0, 2

Settings = Mapping[str, Any]

DYNAMICS: Settings = dict(
    task=dict(name="polynomial", input_dim=100, train_size=550),
    model=dict(name="committee_dynamics", width=0),
    optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
    observe=dict(population_risk={}),
)
COMMITTEE: Settings = {**DYNAMICS, "model": dict(name="committee", width=500)}
TEACHER_STUDENT: Settings = dict(
    task=dict(name="teacher_student"),
    model=dict(name="mlp", width=100, outputs=5, activation="tanh"),
    loss=dict(name="squared_error", outputs="mean"),
    optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
)
DIGITS: Settings = dict(
    task=dict(name="mnist", train_size=1000, test_size=100),
    model=dict(name="mlp", width=200, outputs=10),
    loss=dict(name="classification", error="squared_error"),
    optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.01),
    train=dict(batch_size=200),
)
TRANSFORMER: Settings = dict(
    task=dict(name="modular_tokens", modulus=113, train_fraction=0.3),
    model=dict(name="transformer", vocabulary=114),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0, b2=0.98),
)
PYTORCH: Mapping[str, tuple[Settings, Callable, float]] = {
    "teacher_student": (TEACHER_STUDENT, benchmark_torch.teacher_student, 12.0),
    "mnist": (DIGITS, benchmark_torch.mnist, 2.0),
    "transformer": (TRANSFORMER, benchmark_torch.transformer, 5.0),
}
"""Our settings, their step, and how many times as fast we are to be."""
K3 = Path(__file__).parents[1] / "experiments" / "lazy_to_rich" / "k3_laziness.py"


class Row(NamedTuple):
    """One measured number and what it should be at most."""

    name: str
    measured: float
    unit: str
    goal: float | None = None
    note: str = ""

    @property
    def met(self) -> str:
        if self.goal is None:
            return "-"
        return "yes" if self.measured <= self.goal else "NO"


def many_runs(
    workloads: Mapping[str, Settings] | None = None,
    *,
    runs: int = 64,
    repeats: int = 5,
    seconds: float = 0.05,
) -> list[Row]:
    """Cost of a run among `runs` (`map` mode) over its cost alone: on one device, and
    on all devices against one run on each."""
    workloads = workloads or dict(committee_dynamics=DYNAMICS, committee=COMMITTEE)
    sets = {1: jax.local_devices()[:1], jax.local_device_count(): jax.local_devices()}
    return [
        Row(
            f"many_runs/{name}/{count}",
            _cost_ratio(settings, runs, tuple(devices), repeats, seconds),
            "x",
            1.05,
            f"{runs} runs against {count} on as many devices",
        )
        for name, settings in workloads.items()
        for count, devices in sets.items()
    ]


def _cost_ratio(
    settings: Settings,
    runs: int,
    devices: tuple[Device, ...],
    repeats: int,
    seconds: float,
) -> float:
    few, many = (_chunk(settings, count, devices) for count in (len(devices), runs))
    _advance(few, 1)
    steps = max(1, round(10 * seconds / _advance(few, 10)))
    share = runs // len(devices)  # as many calls of the few as make the same work
    ratios = []
    for number in range(repeats + 1):
        alone = sum(_advance(few, steps) for _ in range(share // 2))
        among = _advance(many, steps)
        alone += sum(_advance(few, steps) for _ in range(share - share // 2))
        if number:  # the first time warms up
            ratios.append(among * share * len(devices) / runs / alone)
    return statistics.median(ratios)


def _advance(chunk: Any, steps: int) -> float:
    """Seconds in which all runs of a chunk take so many steps in `map` mode."""
    program, lot = chunk
    compiled = program.compiled("map", lot.place)
    pieces = programs.make_pieces(np.asarray([steps]), 0, 0, steps)
    arguments = lot.arguments(pieces)
    started = time.perf_counter()
    lot.state, new = compiled(*arguments)
    jax.block_until_ready((lot.state, new))
    return time.perf_counter() - started


def _plan(settings: Settings, runs: int) -> programs.Plan:
    sweeping = dict(train=dict(steps=10**6), sweep=dict(seed=tuple(range(runs))))
    return config_lib.resolve(config_lib.make_config(settings, sweeping)).plan


def _chunk(settings: Settings, runs: int, devices: tuple[Device, ...]) -> Any:
    """(program, chunk) of `runs` seeds at step 0."""
    plan = _plan(settings, runs)
    program = programs.GroupProgram(plan, plan.groups()[0], devices)
    return program, programs.Chunk(program, np.arange(runs), runs)


def pytorch(
    workloads: Mapping[str, tuple[Settings, Callable, float]] | None = None,
    *,
    repeats: int = 5,
    seconds: float = 1.0,
) -> list[Row]:
    """Time of a run-step in a sweep that fills all devices, over that of the same step
    in PyTorch (eager, float32, all cores), in turns."""
    benchmark_torch.need()
    devices = tuple(jax.local_devices())
    rows = []
    for name, (settings, theirs, goal) in (workloads or PYTORCH).items():
        chunk, step = _chunk(settings, len(devices), devices), theirs()
        _advance(chunk, 1)
        step()
        steps = max(1, round(3 * seconds / _advance(chunk, 3)))
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        count = max(1, steps // 4)  # theirs are slower
        for _ in range(repeats):
            times["ours"].append(_advance(chunk, steps) / steps / len(devices))
            started = time.perf_counter()
            for _ in range(count):
                step()
            times["theirs"].append((time.perf_counter() - started) / count)
        ours, other = (statistics.median(own) for own in times.values())
        note = (
            f"{1e3 * ours:.3g} ms against {1e3 * other:.3g}: {other / ours:.1f} times"
        )
        rows.append(Row(f"pytorch/{name}", ours / other, "x", 1 / goal, note))
    return rows


def compile_time(
    settings: Settings = COMMITTEE, *, runs: int = 64, repeats: int = 3
) -> list[Row]:
    """Seconds to compile the segment program, which may not depend on the runs."""
    devices = tuple(jax.local_devices())
    times: dict[int, list[float]] = {1: [], runs: []}
    for _ in range(repeats):
        for count, own in times.items():
            plan = _plan(settings, count)
            program = programs.GroupProgram(plan, plan.groups()[0], devices)
            started = time.perf_counter()
            program.compiled("map", sweep.layout(count, devices))
            own.append(time.perf_counter() - started)
    one, many = (statistics.median(own) for own in times.values())
    return [
        Row("compile/1 run", one, "s"),
        Row(f"compile/{runs} runs", many, "s"),
        Row("compile/ratio", many / one, "x", 1.1, f"{runs} runs against 1"),
    ]


def host_overhead(
    config: Any = None, *, steps: int = 3000, engine: Mapping[str, Any] | None = None
) -> list[Row]:
    """Share of a sweep's wall time, from its first segment to its last, that is not
    spent inside the compiled program: K3 `cpu`, shortened, with progress and
    checkpoints."""
    config = config or _k3()["get_config"]("cpu")
    config = config_lib.apply_overrides(config, [f"train.steps={steps}"])
    resolved = config_lib.resolve(config)
    own = config_lib.set_up_jax({**resolved.engine, **(engine or {})})
    calls: list[tuple[float, float]] = []
    for _ in range(2):  # the first time warms up
        calls.clear()
        with tempfile.TemporaryDirectory() as folder, _watched(calls):
            path = Path(folder)
            runner.Sweeper(
                resolved.plan,
                own,
                folder=path / "checkpoints",
                grok=resolved.grok,
                say=lambda _: None,
                progress=lambda progress, path=path: record.write_json(
                    path / "progress.json", progress.__dict__
                ),
            ).run()
    whole = calls[-1][1] - calls[0][0]
    inside = sum(end - start for start, end in calls)
    note = f"{len(calls)} segments, {whole:.1f} s"
    return [Row("host_overhead/k3", 1 - inside / whole, "", 0.02, note)]


@contextmanager
def _watched(calls: list[tuple[float, float]]) -> Iterator[None]:
    """Notes (start, end) of each call of a segment program."""
    compiled = programs.GroupProgram.compiled

    def watched(self: Any, mode: str, place: sweep.Layout) -> Any:
        return _Watched(compiled(self, mode, place), calls)

    with mock.patch.object(programs.GroupProgram, "compiled", watched):
        yield


class _Watched:
    """A compiled program that notes its calls."""

    def __init__(self, program: Any, calls: list[tuple[float, float]]):
        self._program, self._calls = program, calls

    def __call__(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        results = jax.block_until_ready(self._program(*arguments))
        self._calls.append((started, time.perf_counter()))
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def _k3() -> dict[str, Any]:
    if not K3.exists():
        raise SettingError(f"This measurement needs a checkout: there is no {K3}.")
    return runpy.run_path(str(K3))


def checkpoints(
    settings: Settings = COMMITTEE, *, runs: int = 64, repeats: int = 3
) -> list[Row]:
    """Seconds to save and to restore the state of a sweep, beside a plain write and
    read of as many bytes."""
    _, chunk = _chunk(settings, runs, tuple(jax.local_devices()))
    state = chunk.place.collect(chunk.state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held, plain = {"state": state}, np.random.default_rng(0).bytes(size)
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        call()
        times.setdefault(name, []).append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "checkpoints", Path(name) / "plain"
        for number in range(repeats):
            timed("save", lambda n=number: checkpoint.save(folder, n, held, {}))
            timed("restore", lambda: checkpoint.restore_newest(folder))
            timed("write", lambda: _write(file, plain))
            timed("read", file.read_bytes)
    middle = {name: statistics.median(own) for name, own in times.items()}
    note = f"{runs} runs, {size / 2**20:.1f} MiB; plain: "
    return [
        Row("checkpoint/save", middle["save"], "s", None, note + _s(middle["write"])),
        Row(
            "checkpoint/restore",
            middle["restore"],
            "s",
            None,
            note + _s(middle["read"]),
        ),
    ]


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _s(seconds: float) -> str:
    return f"{seconds:.3g} s"


def ntk(
    *,
    widths: Sequence[int] = (784, 200, 200, 10),
    points: int = 400,
    width: int = 500,
    inputs: int = 1000,
    repeats: int = 5,
    gemm: int = 2048,
) -> list[Row]:
    """Time of the trace NTK over that of its matrix products at the GEMM rate that the
    same process reaches (float32): 2 n^2 (inputs of a layer + C times its outputs),
    summed over layers, symmetry not counted."""
    from grok_jax.ntk import empirical_ntk  # loads scipy and more

    keys = iter(jax.random.split(jax.random.key(0), len(widths) + 3))
    layers = [
        jax.random.normal(next(keys), shape) * shape[0] ** -0.5
        for shape in itertools.pairwise(widths)
    ]

    def mlp(params: list[jax.Array], x: jax.Array) -> jax.Array:
        for weights in params[:-1]:
            x = jax.nn.relu(x @ weights)
        return x @ params[-1]

    x = jax.random.normal(next(keys), (points, widths[0]))
    z = jax.random.normal(next(keys), (inputs, 100))
    model = committee(width=width)
    params = model.init(next(keys), z)
    hidden = sum(widths[1:-1])
    products = {
        "mlp": 2 * points**2 * (sum(widths[:-1]) + widths[-1] * hidden),
        "committee": 2 * inputs**2 * (z.shape[1] + width),
    }
    calls = {
        "mlp": lambda: empirical_ntk(mlp, layers, x),
        "committee": lambda: empirical_ntk(model.apply, params, z),
    }
    square = jnp.ones((gemm, gemm))
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    times = _interleaved({"gemm": lambda: multiply(square), **calls}, repeats)
    rate = 2 * gemm**3 / times["gemm"]
    return [
        Row(
            f"ntk/{name}",
            times[name] * rate / products[name],
            "x",
            None,
            f"{_s(times[name])}; GEMM {rate / 1e9:.0f} Gflop/s",
        )
        for name in calls
    ]


def _interleaved(calls: Mapping[str, Callable], repeats: int) -> dict[str, float]:
    """The median seconds of each call, taken in turns, each warmed up first."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(own) for name, own in times.items()}


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


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "many_runs": many_runs,
    "host_overhead": host_overhead,
    "compile": compile_time,
    "checkpoint": checkpoints,
    "ntk": ntk,
    "start_up": start_up,
    "pytorch": pytorch,
}


def as_table(rows: Sequence[Row]) -> Table:
    """The measurements for the terminal."""
    names = ("name", "measured", "goal", "met", "note")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        measured = f"{row.measured:.3g} {row.unit}"
        goal = "-" if row.goal is None else f"<= {row.goal:g} {row.unit}"
        table.add_row(row.name, measured, goal, row.met, row.note)
    return table


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The measurements with the machine they were made on."""
    return {
        "device": config_lib.device_text(jax.local_devices()),
        "jax": jax.__version__,
        "load": os.getloadavg(),
        "rows": [{**row._asdict(), "met": row.met} for row in rows],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options = _flags(list(sys.argv if argv is None else argv))
        names = options.only or [
            name
            for name in BENCHMARKS
            if name != "pytorch" or benchmark_torch.available()
        ]
        chosen = [lookup(BENCHMARKS, name, "benchmark") for name in names]
        out = Path(options.out) if options.out else None
        if out and not out.absolute().parent.is_dir():
            raise SettingError(f"There is no folder {out.absolute().parent}.")
        config_lib.set_up_jax(config_lib.resolve(config_lib.make_config()).engine)
        rows = [row for measure in chosen for row in measure()]
        Console(soft_wrap=True).print(as_table(rows))
        if out:
            record.write_json(out, as_json(rows))
    except (SettingError, record.RecordError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    return DONE


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    flags.DEFINE_list("only", None, "Names of measurements.", flag_values=values)
    flags.DEFINE_string("out", None, "Path of the JSON.", flag_values=values)
    flags.DEFINE_bool("help", False, "This text.", flag_values=values)
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        close = nearest(error.flagname, ["only", "out"])
        raise SettingError(f"There is no flag --{error.flagname}; {close}.") from error
    except flags.Error as error:
        raise SettingError(f"{error}.") from error
    if values.help:
        print(__doc__)
        raise SystemExit(DONE)
    if len(rest) > 1:
        raise SettingError(f"{rest[1]!r} is not a flag; write --flag=value.")
    return values


if __name__ == "__main__":
    sys.exit(main())
