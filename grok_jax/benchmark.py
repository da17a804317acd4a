"""python -m grok_jax.benchmark [--only=NAME,...] [--quick] [--out=FILE.json]
                             [--summary=FILE.md] [--figure=FILE.png]

Measures what the design promises, in a quarter of an hour on two quiet cores; `--quick`
takes less time for each number, and `--only` some of the benchmarks. What is compared
is timed in turns in this process, so that a ratio means the same on any machine; on a
busy one, repeat it. Nothing here is asserted: goals are for reading.

`--out` writes the numbers as JSON and `--summary` as Markdown; the figure goes beside
that, to figures/, or else beside the JSON, unless `--figure` says where. The GEMM peak
is the larger of two rates: one product on each device at once, as a sweep works, and
one product with all threads. The steps of tasks that read files run on drawn stand-ins
of the same shapes. `pytorch` needs `pip install 'grok_jax[bench]'`, and
is left out without it unless it is asked for.

Exit status: 0 measured, whether goals are met or not; 2 wrong usage.
"""

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import flags
from rich.console import Console
from rich.table import Column, Table

from grok_jax import command_line, plot, record, report
from grok_jax import config as config_lib
from grok_jax.benchmarks import (
    alone,
    host,
    kernels,
    picture,
    pytorch,
    scaling,
    steps,
    workloads,
)
from grok_jax.settings import SettingError, lookup
from grok_jax.timing import Row

DONE, WRONG_USAGE = 0, 2

_FEW = {
    name: workloads.STEPS[name]
    for name in ("committee_dynamics", "committee", "teacher_student")
}
_RANGES = {
    "teacher_student": scaling.Range(
        workloads.TEACHER_STUDENT, tuple(2**i for i in range(9)), ("map", "vmap")
    ),
    "mnist": scaling.Range(workloads.DIGITS, (1, 4, 16, 64)),
    "transformer": scaling.Range(workloads.TRANSFORMER, (1, 2, 4, 8)),
}
_ON_DEVICES = {name: workloads.STEPS[name] for name in ("teacher_student", "mnist")}


def compare_with_pytorch(**how: Any) -> list[Row]:
    """The steps against PyTorch; see `steps.pytorch`.

    Raises:
      SettingError: PyTorch is not installed.
    """
    pytorch.need()
    goals = workloads.FASTER_THAN_PYTORCH
    return steps.pytorch(workloads.STEPS, goals, pytorch.make_step, **how)


BENCHMARKS: dict[str, Callable[..., list[Row]]] = {
    "gemm": partial(steps.gemm_bound, workloads.STEPS, workloads.SHARE_OF_GEMM),
    "pytorch": compare_with_pytorch,
    "many_runs": partial(scaling.many_runs, _FEW),
    "runs": partial(scaling.runs, _RANGES),
    "devices": partial(alone.devices, _ON_DEVICES),
    "memory": partial(alone.memory, workloads.STEPS),
    "compile": partial(host.compile_time, workloads.COMMITTEE),
    "ntk": kernels.ntk,
    "ntk_inputs": kernels.inputs,
    "host_overhead": host.overhead,
    "checkpoint": partial(host.checkpoints, workloads.COMMITTEE),
    "start_up": host.start_up,
}
"""What can be measured."""
QUICK: Mapping[str, Mapping[str, Any]] = {
    "gemm": dict(repeats=2, seconds=0.1),
    "pytorch": dict(repeats=2, seconds=0.2),
    "many_runs": dict(repeats=2, seconds=0.02),
    "runs": dict(repeats=1, seconds=0.05),
    "devices": dict(counts=(1, 2), seconds=0.05),
    "compile": dict(repeats=1),
    "ntk": dict(repeats=2),
    "ntk_inputs": dict(repeats=1),
    "host_overhead": dict(steps=500),
    "checkpoint": dict(repeats=1),
    "start_up": dict(repeats=1),
}
"""And how with `--quick`."""


HEAD = ("name", "measured", "goal", "met", "note")


def _cells(row: Row) -> tuple[str, ...]:
    sign = ">=" if row.at_least else "<="
    goal = "-" if row.goal is None else f"{sign} {row.goal:g} {row.unit}"
    return row.name, f"{row.measured:.3g} {row.unit}", goal, row.met, row.note


def as_table(rows: Sequence[Row]) -> Table:
    """The measurements for the terminal."""
    table = Table(*(Column(name, overflow="fold") for name in HEAD))
    for row in rows:
        table.add_row(*_cells(row))
    return table


def as_markdown(rows: Sequence[Row], about: Mapping[str, Any], figure: str) -> str:
    """The measurements as a page, those with a goal first; `about` says what and where
    it was, `figure` where its figure is ("" for none)."""
    with_goal = [row for row in rows if row.goal is not None]
    met = sum(row.met == "yes" for row in with_goal)
    lines = [f"# Benchmark: {met} of {len(with_goal)} goals met", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", *([f"![the measurements]({figure})", ""] if figure else [])]
    for title, own in {
        "Goals": with_goal,
        "The other measurements": [row for row in rows if row.goal is None],
    }.items():
        cells = [[*map(report.as_markdown, _cells(row))] for row in own]
        lines += [f"## {title}", "", *report.markdown_table(HEAD, cells)]
    return "\n".join(lines)


def _about(argv: Sequence[str]) -> dict[str, str]:
    """What is run, on which machine, and when."""
    line = shlex.join(["python", "-m", "grok_jax.benchmark", *argv[1:]])
    return {
        "command": line,
        "device": config_lib.device_text(jax.local_devices()),
        "version": f"jax {jax.__version__}",
        "git commit": record.git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        argv = list(sys.argv if argv is None else argv)
        options = _flags(argv)
        chosen = _chosen(options.only)
        out, summary, figure = _paths(options)
        config_lib.set_up_jax(config_lib.resolve(config_lib.make_config()).engine)
        about = _about(argv)
        console, rows = Console(soft_wrap=True), []
        for name, measure in chosen.items():
            new = measure(**(QUICK.get(name, {}) if options.quick else {}))
            console.print(as_table(new))  # a sign of life after each
            rows += new
        if out:
            held = [{**row._asdict(), "met": row.met} for row in rows]
            record.write_json(out, {**about, "rows": held})
        there = ""
        if figure and (drawing := picture.draw(rows)):
            figure.parent.mkdir(exist_ok=True)
            plot.save(drawing, figure)
            there = os.path.relpath(figure, summary.parent) if summary else ""
        if summary:
            record.write_bytes(summary, as_markdown(rows, about, there).encode())
    except (SettingError, record.RecordError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    return DONE


def _chosen(only: Sequence[str] | None) -> dict[str, Callable[..., list[Row]]]:
    """The benchmarks to run: those asked for, else all that can run here."""
    names = only or [n for n in BENCHMARKS if n != "pytorch" or pytorch.available()]
    return {name: lookup(BENCHMARKS, name, "benchmark") for name in names}


def _paths(options: Any) -> tuple[Path | None, ...]:
    """Where the JSON, the Markdown and the figure go."""
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
    flags.DEFINE_list("only", None, "Names of measurements.", flag_values=values)
    flags.DEFINE_bool("quick", False, "Fewer repeats.", flag_values=values)
    flags.DEFINE_string("out", None, "Path of the JSON.", flag_values=values)
    flags.DEFINE_string("summary", None, "Path of the Markdown.", flag_values=values)
    flags.DEFINE_string("figure", None, "Path of the PNG.", flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
