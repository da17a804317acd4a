"""Counts what the compiled step of each workload does, from its text. Nothing is run,
so this also works for machines that are not present (`devices`, `compiling`)."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from benchmarks import findings, timing
from benchmarks.timing import Row, Setup
from grok_jax import train
from grok_jax.engine import census
from grok_jax.engine.programs import GroupProgram
from grok_jax.types import Device

SHOWN = ("product", "fusion", "copy", "sort", "scatter", "gather")


def count(
    setup: Setup,
    runs: Sequence[int] = (1, 32),
    *,
    devices: Sequence[Device] = (),
    compiling: Callable[[GroupProgram, str], Any] = timing.compile_segment,
) -> Iterator[Row]:
    """Yields the number of kernels in an iteration of the training loop for each
    workload, number of runs and mode on one device; `numbers` are the counts of `of`.

    Args:
      devices: the first is compiled for; by default the available ones.
      compiling: (program, mode) -> the compiled segment of all runs of the program.
    """
    one = tuple(devices or setup.devices)[:1]
    for name, settings in setup.workloads.items():
        for mode in ("map", "vmap"):
            for number in runs:
                place = f"census/{name}/{mode}/{number}"
                program = timing.group_program(settings, number, one)
                try:
                    found = of(program, mode, compiling)
                except jax.errors.JaxRuntimeError as error:
                    yield Row(place, None, "kernels", None, timing.failure(error))
                    continue
                loop = found["training_loop"]
                note = ", ".join(f"{loop[kind]} {kind}" for kind in SHOWN)
                numbers = dict(mode=mode, runs=number, **found)
                kernels = float(loop["kernel"])
                yield Row(place, kernels, "kernels", None, note, numbers=numbers)


def of(
    program: GroupProgram,
    mode: str,
    compiling: Callable[[GroupProgram, str], Any] = timing.compile_segment,
) -> dict[str, Any]:
    """Counts what the segment of a group's runs does.

    Returns:
      training_loop: instructions in an iteration of the training loop, by kind.
      unconditional: those of them outside conditionals.
      segment: instructions in the whole program.
      loop_asks_runs: whether the loop goes on while any of the runs does.
      loop_in_branch: whether the loop is in a branch of a conditional.
      data_per_run: instructions that copy the data that all runs share for each run.
      planned_bytes, temporary_bytes: on the device, as the compiler plans them.
      compile_s: seconds that compiling took.
    """
    started = time.perf_counter()
    compiled = compiling(program, mode)
    spent = time.perf_counter() - started
    found = census.read(compiled.as_text())
    loop = found.loops(train.TRAIN_STEPS)[-1]
    copies, count = 0, len(program.group.members)
    if mode == "vmap" and len(program.owners) == 1 and count > 1:
        for leaf in jax.tree.leaves(program.dataset(0)):
            shape = census.Shape(findings.hlo_type(leaf.dtype), leaf.shape)
            copies += len(findings.copies_of(found, shape, count))
    return dict(
        training_loop=found.census(loop),
        unconditional=found.census(loop, branches=False),
        segment=found.census(),
        loop_asks_runs=findings.asks_of_runs(found, loop),
        loop_in_branch=loop.in_branch,
        data_per_run=copies,
        compile_s=spent,
        **timing.planned_bytes(compiled),
    )
