"""Prints memory and time of a plan for --dry_run, here or for another machine."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from grok_jax.engine import planning, programs, stand_ins, targets
from grok_jax.engine.machine import device_text
from grok_jax.engine.watch import clock
from grok_jax.settings import SettingError, first_line


def target_of(options: Any) -> targets.Target | None:
    """The machine that --target names; None without it. With a target, this process no
    longer uses its own accelerators.

    Raises:
      SettingError: there is no such target, or --dry_run is missing.
    """
    if options.target is None:
        return None
    if not options.dry_run:
        raise SettingError("--target goes with --dry_run: nothing is run there.")
    jax.config.update("jax_platforms", "cpu")
    # Programs compiled for absent devices cannot be read back from the cache.
    jax.config.update("jax_enable_compilation_cache", False)
    return targets.parse(options.target)


def show(
    console: Console,
    plan: programs.Plan,
    engine: planning.Engine,
    target: targets.Target | None,
) -> None:
    """Prints what each compile group needs here, or on `target`."""
    if target is None:
        _here(console, plan, engine)
    else:
        _there(console, plan, engine, target)


def _here(console: Console, plan: programs.Plan, engine: planning.Engine) -> None:
    table = Table("group", "runs", "mode", "chunk", "memory", "step", "time at most")
    total = 0.0
    for number, group in enumerate(plan.groups()):
        estimate = planning.estimate(group, engine)
        total += estimate.seconds
        table.add_row(
            str(number + 1),
            str(len(group.members)),
            estimate.mode,
            str(estimate.chunk),
            _bytes(estimate.bytes),
            f"{estimate.seconds_per_run_step * 1e6:,.0f} us a run",
            clock(estimate.seconds),
        )
    console.print(table)
    console.print(
        f"At most {clock(total)} in total on {device_text(engine.devices)} (from a "
        "short timed probe; runs that end early take less). Memory is per device."
    )


def _there(
    console: Console,
    plan: programs.Plan,
    engine: planning.Engine,
    target: targets.Target,
) -> None:
    columns = ("group", "runs", "compiles in", "on each device", "at once")
    table = Table(*columns, "kernels a step", "a step of a run", "steps alone")
    totals: list[float | None] = []
    doubles = 0
    refused: list[str] = []
    budget = int(engine.memory_gb * planning.GIB) or None
    for number, group in enumerate(plan.groups(), 1):
        program = stand_ins.program_of(group, target.devices)
        name, count = str(number), str(len(group.members))
        try:
            report = targets.of_group(program, target, memory_budget=budget)
        except jax.errors.JaxRuntimeError as error:
            refused.append(f"Group {name} does not compile: {first_line(error)}")
            table.add_row(name, count, "no", *5 * ["-"])
            continue
        doubles += report.segment.doubles
        totals.append(report.steps_alone(len(group.members), program.steps[-1]))
        table.add_row(
            name,
            count,
            f"{report.seconds:.0f} s",
            _bytes(report.bytes),
            str(report.segment.at_once),
            str(report.segment.kernels),
            _or_dash(as_text, report.run_step),
            _or_dash(clock, totals[-1]),
        )
    console.print(table)
    for line in refused:
        console.print(line)
    if doubles and target.devices[0].platform == "tpu":
        console.print(
            "It uses float64, for which a TPU has no unit: its compiler splits each "
            "number into two float32, with their range, and takes many times as long."
        )
    console.print(f"Compiled for {target.name}, not run. {_about_time(totals)}")


def _or_dash(say: Callable[[float], str], value: float | None) -> str:
    return "-" if value is None else say(value)


def _about_time(totals: Sequence[float | None]) -> str:
    known = [total for total in totals if total is not None]
    if not known:
        return "Its compiler gives no time estimate for all of it."
    return (
        f"At least {clock(sum(known))} in total if no run ends early: the compiler's "
        "own estimate, every operation at its best rate; starting, measuring and "
        "saving come on top."
    )


def as_text(seconds: float) -> str:
    """Seconds as text in a suitable unit.

    >>> as_text(0.0123), as_text(4.5e-5), as_text(2)
    ('12.3 ms', '45 us', '2 s')
    """
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
