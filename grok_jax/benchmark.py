"""python -m grok_jax.benchmark [--only=NAME,...] [--quick] [--out=FILE.json]
                             [--figure=FILE.png]

Measures what the design promises, in about ten minutes on two quiet cores; `--quick`
takes less time for each number, and `--only` some of the benchmarks. What is compared
is timed in turns in this process, so that a ratio means the same on any machine; on a
busy one, repeat it. Nothing here is asserted: goals are for reading.

`--out` writes the numbers as JSON and, unless `--figure` says where, the figure beside
it. The GEMM peak is the larger of two rates: one product on each device at once, as a
sweep works, and one product with all threads. The steps of tasks that read files run on
drawn stand-ins of the same shapes. `pytorch` needs `pip install 'grok_jax[bench]'`, and
is left out without it unless it is asked for.

Exit status: 0 measured, whether goals are met or not; 2 wrong usage.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import flags
from rich.console import Console
from rich.table import Column, Table

from grok_jax import command_line, plot, record
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


def as_table(rows: Sequence[Row]) -> Table:
    """The measurements for the terminal."""
    names = ("name", "measured", "goal", "met", "note")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        sign = ">=" if row.at_least else "<="
        goal = "-" if row.goal is None else f"{sign} {row.goal:g} {row.unit}"
        measured = f"{row.measured:.3g} {row.unit}"
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
        chosen = _chosen(options.only)
        out, figure = _paths(options)
        config_lib.set_up_jax(config_lib.resolve(config_lib.make_config()).engine)
        console, rows = Console(soft_wrap=True), []
        for name, measure in chosen.items():
            new = measure(**(QUICK.get(name, {}) if options.quick else {}))
            console.print(as_table(new))  # a sign of life after each
            rows += new
        if out:
            record.write_json(out, as_json(rows))
        if figure and (drawing := picture.draw(rows)):
            plot.save(drawing, figure)
    except (SettingError, record.RecordError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    return DONE


def _chosen(only: Sequence[str] | None) -> dict[str, Callable[..., list[Row]]]:
    """The benchmarks to run: those asked for, else all that can run here."""
    names = only or [n for n in BENCHMARKS if n != "pytorch" or pytorch.available()]
    return {name: lookup(BENCHMARKS, name, "benchmark") for name in names}


def _paths(options: Any) -> tuple[Path | None, Path | None]:
    """Where the JSON and the figure go."""
    out = Path(options.out) if options.out else None
    figure = Path(options.figure) if options.figure else None
    for path in (out, figure):
        if path and not path.absolute().parent.is_dir():
            raise SettingError(f"There is no folder {path.absolute().parent}.")
    if out and not figure:
        figure = out.with_suffix(".png")
    return out, figure


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    flags.DEFINE_list("only", None, "Names of measurements.", flag_values=values)
    flags.DEFINE_bool("quick", False, "Fewer repeats.", flag_values=values)
    flags.DEFINE_string("out", None, "Path of the JSON.", flag_values=values)
    flags.DEFINE_string("figure", None, "Path of the PNG.", flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
