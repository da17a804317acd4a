"""What --dry_run prints: memory and time of a plan, here or on another machine."""

from rich.console import Console
from rich.table import Table

from grok_jax import planning, programs
from grok_jax.config import device_text
from grok_jax.watch import clock


def show(console: Console, plan: programs.Plan, engine: planning.Engine) -> None:
    """Prints what each compile group takes here."""
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


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
