"""Times a run-step in a sweep, for each workload and number of runs, next to its matrix
products at the best rate of this machine and next to the same products in their own
shapes.

The time of a step is the slope over step counts in one compiled segment; the overhead
of a segment before its first step is a separate number. A run-step is a step over the
runs that take it. Calls that are compared are timed in turn in one process.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import rates, timing
from benchmarks.timing import Contender, Row, Setup, TimedSweep, as_text
from grok_jax.engine import products, registry

WORKERS = 12
"""Programs that are compiled in parallel for an accelerator."""
STACK_BYTES = 2**30
"""At most for the operands of separate products; larger ones are stacked less."""


class Goals(NamedTuple):
    """The goals of each workload."""

    share: Mapping[str, float] = {}  # of the GEMM bound, on CPUs
    among_many: Mapping[str, float] = {}  # cost among many runs over alone, in `map`
    seconds: Mapping[str, Mapping[str, float]] = {}
    """part of a device's name -> seconds of a run-step among the most runs"""


NO_GOALS = Goals()


def peak(setup: Setup, sizes: Sequence[int] = ()) -> Iterator[Row]:
    """Gflop/s of square products of float32 in each precision that differs on this
    platform, and of bfloat16 on accelerators."""
    precisions = ("highest",) if setup.platform == "cpu" else rates.PRECISIONS
    for precision in precisions:
        best, rate = _best(setup, precision, sizes)
        note = f"{best}, the best of several sizes"
        yield Row(f"peak/{precision}", rate / 1e9, "Gflop/s", None, note)


def _best(setup: Setup, precision: str, sizes: Sequence[int] = ()) -> tuple[str, float]:
    """(name of the fastest square product, flop/s); stores the rate in `setup`."""
    calls = rates.gemm_calls(setup.devices, sizes, precision)
    times = timing.in_turns(
        {n: partial(timing.seconds_of, call) for n, (call, _) in calls.items()},
        setup.repeats,
    )
    found = {name: work / times[name] for name, (_, work) in calls.items()}
    best = max(found, key=lambda name: found[name])
    setup.rates[precision] = found[best]
    return best, found[best]


def steps(setup: Setup, goals: Goals = NO_GOALS) -> Iterator[Row]:
    """A row for each workload, mode and number of runs; see `_measure`."""
    names, modes = list(setup.workloads), setup.modes
    if setup.platform != "cpu":
        each = [*dict.fromkeys([len(setup.devices), *setup.runs])]
        keys = [(n, runs, mode) for runs in each for n in names for mode in modes]
        setup.compile_side_by_side(keys, WORKERS)
    best, _ = _best(setup, "highest")
    size = (int(best.split()[1]),)
    gemm = rates.gemm_calls(setup.devices, size)[best]
    for name in names:
        for mode in modes:
            yield from _of_workload(setup, goals, name, mode, gemm)


def _of_workload(
    setup: Setup, goals: Goals, name: str, mode: str, gemm: tuple[Callable, int]
) -> Iterator[Row]:
    base, few, alone = len(setup.devices), None, 0.0
    last: dict[str, Any] = {}
    for runs in dict.fromkeys([base, *sorted(setup.runs)]):
        place = f"steps/{name}/{mode}/{runs}"
        try:
            compiled, seconds = setup.compiled(name, runs, mode)
            expected = alone * max(1, runs / base)
            if why := setup.too_much(compiled, expected):
                yield Row(place, None, "s", None, f"left out: {why}")
                continue
            sweep = timing.timed_sweep(setup.program(name, runs), mode)
            found = _measure(setup, sweep, few, gemm, expected)
        except jax.errors.JaxRuntimeError as error:
            yield Row(place, None, "s", None, timing.failure(error))
            continue
        few = few or sweep
        alone = alone or found["step_s"]
        last = dict(mode=mode, runs=runs, compile_s=seconds, **found)
        last |= timing.planned_bytes(compiled)
        last |= dict(device_peak_bytes_so_far=timing.peak_bytes(setup.devices))
        yield _row(place, last)
        if runs == base:
            yield _share(setup, goals, name, last)
    if few is not None and last["runs"] > base:
        yield from _among_many(setup, goals, name, last)


def _measure(
    setup: Setup,
    sweep: TimedSweep,
    few: TimedSweep | None,
    gemm: tuple[Callable, int],
    expected: float,
) -> dict[str, Any]:
    """The timings of a sweep, taken in turn; seconds of a run-step unless stated."""
    runs = len(sweep.program.group.members)
    active = setup.devices[: min(runs, len(setup.devices))]
    slots = -(-runs // len(active))
    one = products.products_of(*timing.one_step(sweep.program))
    stacked = min(slots, max(1, STACK_BYTES // _bytes(one)))
    shapes = one
    if sweep.mode == "vmap":
        shapes = products.products_of(*timing.one_step(sweep.program, stacked))
    else:
        stacked = 1

    def start(call: Callable[[int], float], expected: float = 0.0) -> Contender:
        return timing.contender(call, setup.seconds, expected)

    def timed(call: Callable[[int], Any]) -> Contender:
        return start(lambda n: timing.seconds_of(lambda: call(n)))

    contenders = {"step": start(partial(timing.advance, sweep), expected)}
    contenders["products"] = timed(rates.by_themselves(shapes, active))
    if few is None:
        contenders["update"] = timed(update_alone(sweep, active))
    else:
        contenders["few"] = start(partial(timing.advance, few))
    call, work = gemm
    contenders["gemm"] = Contender(lambda _: timing.seconds_of(call))
    found = timing.lines(contenders, setup.repeats)
    run_step, rate = found["step"].slope / runs, work / found["gemm"].slope
    flops = products.flops(one)
    return dict(
        run_step_s=run_step,
        step_s=found["step"].slope,
        segment_s=found["step"].start,
        flops=flops,
        gemm_flops_per_s=rate,
        bound_s=flops / rate,
        products_s=found["products"].slope / stacked / len(active),
        products_stacked=stacked,
        update_s=found["update"].slope / len(active) if "update" in found else None,
        cost_among_many=(
            run_step / (found["few"].slope / len(few.program.group.members))
            if few is not None
            else None
        ),
        bounds_s={key: flops / each for key, each in setup.rates.items()},
    )


def _bytes(these: Sequence[products.Product]) -> int:
    """Bytes of the operands of float32 products."""
    return 4 * sum(math.prod(each.left) + math.prod(each.right) for each in these) or 1


def _row(place: str, found: Mapping[str, Any]) -> Row:
    spent = found["run_step_s"]
    memory = found["planned_bytes"] or 0
    note = (
        f"{as_text(spent)} a run-step; products {as_text(found['bound_s'])} at "
        f"{found['gemm_flops_per_s'] / 1e9:.4g} Gflop/s, in their own shapes "
        f"{as_text(found['products_s'])}; segment start {as_text(found['segment_s'])}; "
        f"compiled in {as_text(found['compile_s'])}; {memory / 2**20:.0f} MiB planned"
    )
    return Row(place, spent, "s", None, note, numbers=found)


def _share(setup: Setup, goals: Goals, name: str, found: Mapping[str, Any]) -> Row:
    """The fraction of the GEMM bound that one run on each device reaches."""
    goal, mode = None, found["mode"]
    if setup.platform == "cpu" and mode == "map":
        goal = goals.share.get(name)
    most = found["bound_s"] / found["products_s"]
    note = (
        f"{as_text(found['run_step_s'])} a run-step; {found['flops'] / 1e6:.4g} Mflop "
        f"of products: {as_text(found['bound_s'])}; with nothing but its products in "
        f"their own shapes it would reach {most:.3g}"
    )
    if found["update_s"]:
        share = found["update_s"] / found["run_step_s"]
        note += f"; the optimiser's update alone is {share:.2g} of it"
    key = f"gemm/{name}" + ("" if mode == setup.modes[0] else f"/{mode}")
    reached = found["bound_s"] / found["run_step_s"]
    return Row(key, reached, "of the bound", goal, note, at_least=True)


def _among_many(
    setup: Setup, goals: Goals, name: str, found: Mapping[str, Any]
) -> Iterator[Row]:
    """The cost of a run-step among the largest number of runs that was measured."""
    many, mode = found["runs"], found["mode"]
    goal = goals.among_many.get(name) if (mode == "map") else None
    note = f"{many} runs against {len(setup.devices)}, one on each device"
    yield Row(f"many_runs/{name}/{mode}", found["cost_among_many"], "x", goal, note)
    for part, seconds in goals.seconds.items():
        if part in setup.devices[0].device_kind and mode == "vmap":
            note = f"{many} runs on {setup.devices[0].device_kind}"
            yield Row(f"card/{name}", found["run_step_s"], "s", seconds.get(name), note)


def update_alone(sweep: TimedSweep, devices: Sequence[Any]) -> Callable[[int], Any]:
    """Returns n -> n updates of the sweep's parameters by its optimiser with a given
    gradient, on each device at once."""
    settings, params, _ = timing.first_run(sweep)
    tx = registry.OPTIMIZERS[settings["optimizer.name"]](
        learning_rate=settings["optimizer.learning_rate"],
        weight_decay=settings["optimizer.weight_decay"],
    )
    start = params, jax.tree.map(np.asarray, tx.init(params)), params

    def body(carry: Any) -> Any:
        params, opt_state, grads = carry
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, grads

    return rates.on_every_device(body, start, devices)


def devices(setup: Setup, *, runs: int = 8) -> Iterator[Row]:
    """Seconds of a run-step of `runs` runs on one, two, four ... and all devices, timed
    in turn; nothing if there is only one device."""
    count = len(setup.devices)
    sizes = sorted({*(2**i for i in range(count.bit_length())), count})
    for name, settings in setup.workloads.items() if count > 1 else ():
        contenders = {}
        for size in sizes:
            program = timing.group_program(settings, runs, setup.devices[:size])
            sweep = timing.timed_sweep(program, setup.modes[0])
            call = partial(timing.advance, sweep)
            contenders[size] = timing.contender(call, setup.seconds)
        found = timing.lines({str(n): c for n, c in contenders.items()}, setup.repeats)
        for size, line in found.items():
            spent = line.slope / runs
            note = f"{as_text(spent)}, {runs} runs"
            yield Row(f"devices/{name}/{size}", spent, "s", None, note)
