"""What --dry_run prints: memory and time of a plan, here or on another machine."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from grok_jax import planning, programs
from grok_jax.config import device_text
from grok_jax.settings import SettingError
from grok_jax.watch import clock

EFFICIENCY = 0.3
"""Share of the peak that is reckoned with where none is given."""


def machine_of(options: Any) -> planning.Machine | None:
    """The machine that --machine_... describe; None where there are none.

    Raises:
      SettingError: one is missing or out of range, or there is no --dry_run.
    """
    devices, tflops = options.machine_devices, options.machine_tflops
    memory_gb, efficiency = options.machine_memory_gb, options.machine_efficiency
    if all(value is None for value in (devices, tflops, memory_gb, efficiency)):
        return None
    efficiency = EFFICIENCY if efficiency is None else efficiency
    memory_gb = memory_gb or 0.0
    if not options.dry_run:
        raise SettingError("--machine_devices and its like go with --dry_run.")
    if devices is None or tflops is None:
        raise SettingError(
            "A machine needs --machine_devices=N and --machine_tflops=PEAK of one."
        )
    if not (
        devices >= 1
        and 0 < tflops < math.inf
        and 0 < efficiency <= 1
        and 0 <= memory_gb < math.inf
    ):
        raise SettingError(
            "--machine_devices must be 1 or more, --machine_tflops above 0, "
            "--machine_efficiency in (0, 1] and --machine_memory_gb 0 or more."
        )
    return planning.Machine(devices, tflops, efficiency, memory_gb)


def show(
    console: Console,
    plan: programs.Plan,
    engine: planning.Engine,
    machine: planning.Machine | None,
) -> None:
    """Prints what each compile group takes here, or on another `machine`."""
    if machine is None:
        _here(console, plan, engine)
    else:
        _there(console, plan, machine)


def _here(console: Console, plan: programs.Plan, engine: planning.Engine) -> None:
    table = Table("group", "runs", "mode", "chunk", "memory", "step", "time at most")
    total = 0.0
    for number, group in enumerate(plan.groups()):
        estimate = planning.estimate(plan, group, engine)
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
        f"At most {clock(total)} in all on {device_text(engine.devices)} (from a short "
        "timed probe; runs that end early take less). Memory is that of a device."
    )


def _there(console: Console, plan: programs.Plan, machine: planning.Machine) -> None:
    columns = ("group", "runs", "a step of a run", "reads and writes", "memory of")
    table = Table(*columns, "at once on a device", "time at most")
    total = 0.0
    for number, group in enumerate(plan.groups()):
        far = planning.far_estimate(plan, group, machine)
        total += far.seconds
        table.add_row(
            str(number + 1),
            str(len(group.members)),
            f"{far.flops_per_step / 1e9:,.3g} Gflop",
            _bytes(far.bytes_per_step),
            f"a run {_bytes(far.run_bytes)}, all {_bytes(far.fixed_bytes)}",
            str(far.slots),
            clock(far.seconds),
        )
    console.print(table)
    console.print(
        f"At most {clock(total)} in all on {machine.devices} devices of "
        f"{machine.tflops:g} TFLOP/s at {machine.efficiency:.0%} of their peak. "
        "Operations, bytes and memory are the compiler's of this machine; nothing ran."
    )


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
