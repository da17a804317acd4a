"""python benchmarks/run.py [--only=NAME,...] [--models=NAME,...] [--runs=N,...]
                             [--mode=auto|map|vmap|both] [--quick] [--budget=SECONDS]
                             [--neural_tangents=PYTHON]
                             [--out=FILE.json] [--summary=FILE.md] [--figure=FILE.png]

Measures the design goals on the available devices, CPU, GPU or TPU. Calls that are
compared are timed in turn in this process, so that a ratio means the same on any
machine; on a busy one, repeat it. Nothing is asserted: goals are only reported.

  launch         process start; a page's first progress, persistent cache cold and warm
  peak           the rate of square matrix products, in each precision
  steps          time of a run-step as a slope over step counts, next to its products at
                 that rate and in their own shapes; segment overhead, compile time and
                 memory; each model in `--mode` (auto: map on a CPU, vmap elsewhere) for
                 each number of `--runs` (1, 16, 128, 1024 as time and memory allow)
  pytorch        the same steps in PyTorch on the same device: eager, compiled, stacked
                 (`pip install 'grok_jax[bench]'`; without it, left out by default)
  devices        a run-step on one, two, four ... and all devices
  compile        seconds to compile for 1 and for 64 runs
  ntk, ntk_inputs, ntk_networks
                 empirical kernels next to their products; those of a LeNet, an
                 all-convolutional net, a ResNet and a ViT next to neural-tangents in
                 the Python of `--neural_tangents` (without it: next to the product of
                 Jacobians)
  host_overhead, checkpoint
                 the costs of a sweep besides its steps
  census         counts of the compiled training loop: sorts, gathers, kernels, for 1
                 and 32 runs in both modes; nothing runs; only if asked for

`--quick` spends less time on each number, and `--budget` ends the benchmark after that
many seconds. `--out` writes the numbers as JSON after each measurement, so that a
killed benchmark keeps what it measured; `--summary` writes them as Markdown at the end.
The figure goes to figures/ next to the summary, or else next to the JSON, unless
`--figure` is given. Tasks that read files run on random data of the same shapes.

Programs are compiled anew unless JAX_COMPILATION_CACHE_DIR names a persistent cache.

Exit status: 0 measured, whether goals are met or not; 2 wrong usage.
"""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the checkout

import jax
from absl import flags
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import (
    census,
    host,
    kernels,
    picture,
    pytorch,
    steps,
    workloads,
)
from benchmarks.timing import Row, Setup, as_text
from grok_jax import plot, report
from grok_jax.engine import command_line, machine, workdirs
from grok_jax.settings import SettingError, lookup

DONE, WRONG_USAGE = 0, 2

Measure = Callable[[Setup], Iterator[Row]]


def compile_time(setup: Setup) -> Iterator[Row]:
    """Compile times of the fastest and the slowest model to compile, if selected."""
    two = {
        n: s for n, s in setup.workloads.items() if n in ("committee", "transformer")
    }
    return host.compile_time(setup, two or setup.workloads)


BENCHMARKS: dict[str, Measure] = {
    "launch": host.launch,
    "peak": steps.peak,
    "steps": partial(
        steps.steps,
        goals=steps.Goals(
            workloads.SHARE_OF_GEMM, workloads.AMONG_MANY, workloads.RUN_STEP
        ),
    ),
    "pytorch": partial(pytorch.compare, goals=workloads.FASTER_THAN_PYTORCH),
    "devices": steps.devices,
    "compile": compile_time,
    "ntk": kernels.kernels,
    "ntk_inputs": kernels.inputs,
    "ntk_networks": kernels.networks,
    "host_overhead": host.overhead,
    "checkpoint": partial(host.checkpoints, settings=workloads.COMMITTEE),
    "census": census.count,
}
"""The benchmarks, in the order in which they run."""
QUICK: Mapping[str, Any] = dict(seconds=0.1, repeats=2, most=10.0)
"""The `Setup` of `--quick`."""

HEAD = ("name", "measured", "goal", "met", "note")
STEPS_HEAD = (
    *("workload", "mode", "runs", "run-step", "products at the peak"),
    *("products in their own shapes", "PyTorch eager", "PyTorch compiled"),
    *("PyTorch stacked", "segment overhead", "compilation", "MiB planned"),
)


def _cells(row: Row) -> tuple[str, ...]:
    sign = ">=" if row.at_least else "<="
    goal = "-" if row.goal is None else f"{sign} {row.goal:g} {row.unit}"
    measured = "-" if row.measured is None else f"{row.measured:.3g} {row.unit}"
    return row.name, measured, goal, row.met, row.note


def as_markdown(rows: Sequence[Row], about: Mapping[str, Any], figure: str) -> str:
    """The measurements as Markdown: a table of the steps, the measurements with a goal,
    and the others. `about` describes the benchmark; `figure` is the path of its figure
    ("" for none)."""
    with_goal = [row for row in rows if row.goal is not None]
    met = sum(row.met == "yes" for row in with_goal)
    lines = [f"# Benchmark: {met} of {len(with_goal)} goals met", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", *([f"![the measurements]({figure})", ""] if figure else [])]
    table = _steps_table(rows)
    if table:
        lines += [
            "## Time of a run-step",
            "",
            *report.markdown_table(STEPS_HEAD, table),
        ]
        lines += [""]
    shown = "steps/", "pytorch/"
    rest = [
        row
        for row in rows
        if row.goal is None and not (row.numbers and row.name.startswith(shown))
    ]
    for title, group in {"Goals": with_goal, "Other measurements": rest}.items():
        cells = [[*map(report.as_markdown, _cells(row))] for row in group]
        lines += [f"## {title}", "", *report.markdown_table(HEAD, cells), ""]
    return "\n".join(lines).rstrip() + "\n"


def _steps_table(rows: Sequence[Row]) -> list[list[str]]:
    """The table cells of each workload, mode and number of runs that was timed."""
    theirs = {}
    for row in rows:
        if row.name.startswith("pytorch/") and row.numbers:
            found = row.numbers
            form = {"captured": "stacked"}.get(found["form"], found["form"])
            words = " (not compiled)" if form != found["form"] else ""
            key = row.name.split("/")[1], found["mode"], found["runs"], form
            theirs[key] = as_text(found["theirs_s"]) + words
    cells = []
    for row in rows:
        if not (row.name.startswith("steps/") and row.numbers):
            continue
        found, name = row.numbers, row.name.split("/")[1]
        place = name, found["mode"], found["runs"]
        times = [found[key] for key in ("run_step_s", "bound_s", "products_s")]
        forms = [theirs.get((*place, f), "-") for f in ("eager", "compiled", "stacked")]
        ends = [as_text(found[key]) for key in ("segment_s", "compile_s")]
        planned = found["planned_bytes"]
        memory = "-" if planned is None else f"{planned / 2**20:.0f}"
        row_cells = [*map(str, place), *map(as_text, times), *forms, *ends, memory]
        cells.append([*map(report.as_markdown, row_cells)])
    return cells


def _about(argv: Sequence[str]) -> dict[str, str]:
    """The command, the version, the commit, the time and the load."""
    line = shlex.join(["python", "benchmarks/run.py", *argv[1:]])
    return {
        "command": line,
        "version": f"jax {jax.__version__}",
        "git commit": workdirs.git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        argv = list(sys.argv if argv is None else argv)
        options = _flags(argv)
        chosen, setup = _chosen(options.only), _setup(options)
        if "ntk_networks" in chosen:
            python = options.neural_tangents
            chosen["ntk_networks"] = partial(kernels.networks, python=python)
        out, summary, figure = _paths(options)
        about, rows = _about(argv), []
        with _compiling_anew():
            for row in _measured(chosen, setup, options.budget, about):
                print("  ".join(_cells(row)), flush=True)
                rows.append(row)
                _store(out, about, rows)
        _store(out, about, rows)  # also what was left out
        link = ""
        if figure and (drawing := picture.draw(rows)):
            figure.parent.mkdir(exist_ok=True)
            plot.save(drawing, figure)
            link = os.path.relpath(figure, summary.parent) if summary else ""
        if summary:
            workdirs.write_bytes(summary, as_markdown(rows, about, link).encode())
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    return DONE


def _store(out: Path | None, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Writes the JSON of the measurements so far."""
    if out:
        stored = [{**row._asdict(), "met": row.met} for row in rows]
        workdirs.write_json(out, {**about, "rows": stored})


def _measured(
    chosen: Mapping[str, Measure], setup: Setup, budget: float, about: dict[str, str]
) -> Iterator[Row]:
    """Yields the rows until `budget` seconds have passed. Adds the device to `about`
    once it is in use, and finally what was left out because of the budget."""
    started = time.monotonic()
    for place, (name, measure) in enumerate(chosen.items()):
        if name != "launch":  # it runs before the devices are taken
            about["device"] = machine.device_text(setup.devices)
        for row in measure(setup):
            yield row
            if time.monotonic() - started > budget:
                left = ", ".join([f"some of {name}", *[*chosen][place + 1 :]])
                about["left out"] = f"{left}, because {budget:g} s had passed"
                print(f"Left out: {about['left out']}", flush=True)
                return


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Disables the persistent cache unless the environment names one."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        yield
        return
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _chosen(only: Sequence[str] | None) -> dict[str, Measure]:
    """The benchmarks to run: those asked for, else all that can run here. Checks their
    requirements before anything is measured."""
    names = {*(only or BENCHMARKS)} - (set() if only else {"census"})
    for name in names:
        lookup(BENCHMARKS, name, "benchmark")
    if "pytorch" in names:
        if only:
            pytorch.need()
        if pytorch.available():  # leave it some GPU memory
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".6")
        else:
            names.remove("pytorch")
    return {name: measure for name, measure in BENCHMARKS.items() if name in names}


def _setup(options: Any) -> Setup:
    changed: dict[str, Any] = dict(QUICK) if options.quick else {}
    known = dict(workloads.STEPS)
    for name in options.models or ():
        lookup(known, name, "model")
    if options.runs:
        changed["runs"] = tuple(map(_positive, options.runs))
    if options.budget <= 0:
        raise SettingError(f"--budget must be above 0, not {options.budget:g}.")
    return Setup(
        {name: known[name] for name in options.models or known},
        mode=options.mode,
        **changed,
    )


def _positive(word: str) -> int:
    if not (word.isdecimal() and int(word)):
        raise SettingError(f"--runs takes whole numbers of 1 or more, not {word!r}.")
    return int(word)


def _paths(options: Any) -> tuple[Path | None, ...]:
    """The paths of the JSON, the Markdown and the figure."""
    given = (options.out, options.summary, options.figure)
    out, summary, figure = (Path(path) if path else None for path in given)
    for path in (out, summary, figure):
        if path and not path.absolute().parent.is_dir():
            raise SettingError(f"There is no folder {path.absolute().parent}.")
    if summary and not figure:
        figure = summary.parent / "figures" / "benchmark.png"
    if out and not figure:
        figure = out.with_suffix(".png")
    return out, summary, figure


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    common: dict[str, Any] = dict(flag_values=values)
    flags.DEFINE_list("only", None, "Names of measurements.", **common)
    flags.DEFINE_list("models", None, "Names of workloads.", **common)
    flags.DEFINE_list("runs", None, "Numbers of runs.", **common)
    modes = ["auto", "map", "vmap", "both"]
    flags.DEFINE_enum("mode", "auto", modes, "How runs are batched.", **common)
    flags.DEFINE_bool("quick", False, "Fewer repeats.", **common)
    flags.DEFINE_float("budget", float("inf"), "Seconds.", **common)
    flags.DEFINE_string("neural_tangents", "", "A Python that has it.", **common)
    flags.DEFINE_string("out", None, "Path of the JSON.", **common)
    flags.DEFINE_string("summary", None, "Path of the Markdown.", **common)
    flags.DEFINE_string("figure", None, "Path of the PNG.", **common)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
