"""Time of a run-step in a sweep, for each workload and number of runs: beside its
matrix products at the best rate of this machine, and beside the same products in their
own shapes.

The time of a step is the slope over step counts in one compiled segment; what a segment
costs before its first step is a number of its own. A run-step is a step over the runs
that take it. What is compared is timed in turns in one process.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from grok_jax.engine import products, registry, timing
from grok_jax.engine.timing import Contender, Row, Setup, TimedSweep, as_text

WORKERS = 12
"""Programs that are compiled side by side for an accelerator."""
STACK_BYTES = 2**30
"""Of the operands of products by themselves; of more runs fewer are stacked."""


class Goals(NamedTuple):
    """What is to be reached, by workload."""

    share: Mapping[str, float] = {}  # of the GEMM bound, on CPUs
    among_many: Mapping[str, float] = {}  # cost among many runs over alone, in `map`
    seconds: Mapping[str, Mapping[str, float]] = {}
    """part of a device's name -> seconds of a run-step among the most runs"""


NO_GOALS = Goals()


def peak(setup: Setup, sizes: Sequence[int] = ()) -> Iterator[Row]:
    """Gflop/s of square float32 products in each precision that matters here, and of
    bfloat16 ones."""
    own = ("highest",) if setup.platform == "cpu" else products.PRECISIONS
    for precision in own:
        best, rate = _best(setup, precision, sizes)
        note = f"{best}, the best of several sizes"
        yield Row(f"peak/{precision}", rate / 1e9, "Gflop/s", None, note)


def _best(setup: Setup, precision: str, sizes: Sequence[int] = ()) -> tuple[str, float]:
    """(which square product, flop/s), which `setup` remembers."""
    calls = products.gemm_calls(setup.devices, sizes, precision)
    times = timing.in_turns(
        {n: partial(timing.seconds_of, call) for n, (call, _) in calls.items()},
        setup.repeats,
    )
    rates = {name: work / times[name] for name, (_, work) in calls.items()}
    best = max(rates, key=lambda name: rates[name])
    setup.rates[precision] = rates[best]
    return best, rates[best]


def steps(setup: Setup, goals: Goals = NO_GOALS) -> Iterator[Row]:
    """A row for each workload, mode and number of runs; see `_measure`."""
    names, modes = list(setup.workloads), setup.modes
    if setup.platform != "cpu":
        each = [*dict.fromkeys([len(setup.devices), *setup.runs])]
        keys = [(n, runs, mode) for runs in each for n in names for mode in modes]
        setup.compile_side_by_side(keys, WORKERS)
    best, _ = _best(setup, "highest")
    size = (int(best.split()[1]),)
    gemm = products.gemm_calls(setup.devices, size)[best]
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
    """What is timed of a sweep in turns, in seconds of a run-step unless said."""
    runs = len(sweep.program.group.members)
    active = setup.devices[: min(runs, len(setup.devices))]
    slots = -(-runs // len(active))
    own = products.products_of(*timing.one_step(sweep.program))
    stacked = min(slots, max(1, STACK_BYTES // _bytes(own)))
    shapes = own
    if sweep.mode == "vmap":
        shapes = products.products_of(*timing.one_step(sweep.program, stacked))
    else:
        stacked = 1

    def start(call: Callable[[int], float], expected: float = 0.0) -> Contender:
        return timing.contender(call, setup.seconds, expected)

    def timed(call: Callable[[int], Any]) -> Contender:
        return start(lambda n: timing.seconds_of(lambda: call(n)))

    contenders = {"step": start(partial(timing.advance, sweep), expected)}
    contenders["products"] = timed(products.by_themselves(shapes, active))
    if few is None:
        if update := update_alone(sweep, active):
            contenders["update"] = timed(update)
    else:
        contenders["few"] = start(partial(timing.advance, few))
    call, work = gemm
    contenders["gemm"] = Contender(lambda _: timing.seconds_of(call))
    found = timing.lines(contenders, setup.repeats)
    run_step, rate = found["step"].slope / runs, work / found["gemm"].slope
    flops = products.flops(own)
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
        bounds_s={key: flops / own for key, own in setup.rates.items()},
    )


def _bytes(own: Sequence[products.Product]) -> int:
    """Of the operands of these float32 products."""
    return 4 * sum(math.prod(each.left) + math.prod(each.right) for each in own) or 1


def _row(place: str, own: Mapping[str, Any]) -> Row:
    spent = own["run_step_s"]
    memory = own["planned_bytes"] or 0
    note = (
        f"{as_text(spent)} a run-step; products {as_text(own['bound_s'])} at "
        f"{own['gemm_flops_per_s'] / 1e9:.4g} Gflop/s, {as_text(own['products_s'])} in "
        f"their own shapes; {as_text(own['segment_s'])} a segment beside its steps; "
        f"compiled in {as_text(own['compile_s'])}; {memory / 2**20:.0f} MiB planned"
    )
    return Row(place, spent, "s", None, note, numbers=own)


def _share(setup: Setup, goals: Goals, name: str, own: Mapping[str, Any]) -> Row:
    """Of the GEMM bound, by one run on each device."""
    goal = None
    if setup.platform == "cpu" and own["mode"] == "map":
        goal = goals.share.get(name)
    most = own["bound_s"] / own["products_s"]
    note = (
        f"{as_text(own['run_step_s'])} a run-step; {own['flops'] / 1e6:.4g} Mflop of "
        f"products: {as_text(own['bound_s'])}; were it nothing but its products in "
        f"their own shapes, it would reach {most:.3g}"
    )
    if own["update_s"]:
        share = own["update_s"] / own["run_step_s"]
        note += f"; the optimiser's update by itself is {share:.2g} of it"
    key = f"gemm/{name}" + ("" if own["mode"] == setup.modes[0] else f"/{own['mode']}")
    reached = own["bound_s"] / own["run_step_s"]
    return Row(key, reached, "of the bound", goal, note, at_least=True)


def _among_many(
    setup: Setup, goals: Goals, name: str, own: Mapping[str, Any]
) -> Iterator[Row]:
    """What a run-step costs among the most runs that were measured."""
    many, mode = own["runs"], own["mode"]
    goal = goals.among_many.get(name) if (mode == "map") else None
    words = f"{many} runs against {len(setup.devices)}, on as many devices"
    yield Row(f"many_runs/{name}/{mode}", own["cost_among_many"], "x", goal, words)
    for part, seconds in goals.seconds.items():
        if part in setup.devices[0].device_kind and mode == "vmap":
            words = f"{many} runs on {setup.devices[0].device_kind}"
            yield Row(f"card/{name}", own["run_step_s"], "s", seconds.get(name), words)


def update_alone(
    sweep: TimedSweep, devices: Sequence[Any]
) -> Callable[[int], Any] | None:
    """n -> n updates by the sweep's optimiser of its parameters, the gradient given, on
    each device at once; None for exact dynamics, which have none."""
    settings, params, _ = timing.first_run(sweep)
    if settings["model.name"] == "committee_dynamics":
        return None
    tx = registry.OPTIMIZERS[settings["optimizer.name"]](
        learning_rate=settings["optimizer.learning_rate"],
        weight_decay=settings["optimizer.weight_decay"],
    )
    start = params, jax.tree.map(np.asarray, tx.init(params)), params

    def body(carry: Any) -> Any:
        params, opt_state, grads = carry
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, grads

    return products.on_every_device(body, start, devices)


def devices(setup: Setup, *, runs: int = 8) -> Iterator[Row]:
    """Seconds of a run-step of `runs` runs on one, two, four ... and all devices, in
    turns; nothing where there is one device."""
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
