"""Time of a run-step in a sweep that fills all devices: against the step's matrix
products at the best rate of this machine, and against the same step in PyTorch.

A run-step is the wall time of a segment over (its steps x its runs). Segments take a
second, as a sweep's do and longer: in short ones the memory that each begins with, tens
of milliseconds for the transformer, would count for much. What a step is compared with
is timed in turns with it in the same process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from grok_jax import build, products, timing
from grok_jax.timing import Lot, Row, Settings, as_text


def gemm_bound(
    workloads: Mapping[str, Settings],
    goals: Mapping[str, float],
    *,
    repeats: int = 5,
    seconds: float = 1.0,
    sizes: Sequence[int] = products.GEMM_SIZES,
) -> list[Row]:
    """Rows for each workload: the time of a run-step, the share of it that its products
    would take at the GEMM peak, that they do take by themselves in their own shapes,
    and that the optimiser's update takes by itself."""
    return [
        row
        for name, settings in workloads.items()
        for row in _against_products(
            name, settings, goals.get(name), repeats, seconds, sizes
        )
    ]


def _against_products(
    name: str,
    settings: Settings,
    goal: float | None,
    repeats: int,
    seconds: float,
    sizes: Sequence[int],
) -> list[Row]:
    devices = tuple(jax.local_devices())
    lot = timing.lot(settings, len(devices), devices)
    found = step_products(lot)
    gemm = products.gemm_calls(devices, sizes)
    steps = timing.steps_in(seconds, lot)
    parts = {"products": products.by_themselves(found, devices)}
    if update := update_alone(lot, devices):
        parts["update"] = update
    times = timing.in_turns(
        {
            "step": lambda: timing.advance(lot, steps),
            **{
                part: partial(timing.seconds_of, lambda call=call: call(steps))
                for part, call in parts.items()
            },
            **{
                kind: partial(timing.seconds_of, call)
                for kind, (call, _) in gemm.items()
            },
        },
        repeats,
    )
    rates = {kind: work / times[kind] for kind, (_, work) in gemm.items()}
    best = max(rates, key=lambda kind: rates[kind])
    run_step = times["step"] / steps / len(devices)
    work = products.flops(found)
    bound = work / rates[best]
    most = bound / (times["products"] / steps / len(devices))
    peak = f"{rates[best] / 1e9:.0f} Gflop/s ({best})"
    rows = [
        Row(
            f"gemm/{name}",
            bound / run_step,
            "of the bound",
            goal,
            f"{as_text(run_step)} a run-step; {work / 1e6:.4g} Mflop of products at "
            f"{peak}: {as_text(bound)}; if it were nothing but its products in their "
            f"own shapes, it would reach {most:.3g}",
            at_least=True,
        )
    ]
    words = {
        "products": "of a run-step are its products by themselves, in their own shapes",
        "update": "of a run-step is the optimiser's update by itself",
    }
    for part in parts:
        share = times[part] / times["step"]
        alone = as_text(times[part] / steps / len(devices))
        rows.append(
            Row(f"gemm/{name}/{part}", share, "", None, f"{words[part]}: {alone}")
        )
    return rows


def step_products(lot: Lot) -> list[products.Product]:
    """The products of one step of a lot's run, forwards and backwards."""
    program = lot.program
    run = build.make(program.settings_of(0))
    data = program.dataset(0)
    state = jax.eval_shape(run.init, data)
    return products.products_of(run.advance, state, data, jnp.int32(1))


def update_alone(lot: Lot, devices: Sequence[Any]) -> Callable[[int], Any] | None:
    """n -> n updates by the lot's optimiser of its parameters, the gradient given, on
    each device at once; None for exact dynamics, which have none."""
    settings = lot.program.settings_of(0)
    if build.MODELS[settings["model.name"]] is build.exact_dynamics:
        return None
    tx = build.OPTIMIZERS[settings["optimizer.name"]](
        learning_rate=settings["optimizer.learning_rate"],
        weight_decay=settings["optimizer.weight_decay"],
    )
    _, params, _ = first_run(lot)
    start = params, jax.tree.map(np.asarray, tx.init(params)), params

    def body(carry: Any) -> Any:
        params, opt_state, grads = carry
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, grads

    return products.on_every_device(body, start, devices)


def pytorch(
    workloads: Mapping[str, Settings],
    goals: Mapping[str, float],
    make_step: Callable[..., Callable[[], Any]],
    *,
    repeats: int = 5,
    seconds: float = 1.0,
) -> list[Row]:
    """How many times as long as ours a step takes in PyTorch (eager, float32, all
    cores), begun at the same parameters and data; `make_step` is theirs."""
    return [
        _against_pytorch(name, settings, goals.get(name), make_step, repeats, seconds)
        for name, settings in workloads.items()
    ]


def _against_pytorch(
    name: str,
    settings: Settings,
    goal: float | None,
    make_step: Callable[..., Callable[[], Any]],
    repeats: int,
    seconds: float,
) -> Row:
    devices = tuple(jax.local_devices())
    lot = timing.lot(settings, len(devices), devices)
    step, steps = make_step(*first_run(lot)), timing.steps_in(seconds, lot)
    step()
    count = max(1, round(seconds / _spent(step, 3)))
    times = timing.in_turns(
        {
            "ours": lambda: timing.advance(lot, steps) / steps / len(devices),
            "theirs": lambda: _spent(step, count),
        },
        repeats,
    )
    ours, theirs = times["ours"], times["theirs"]
    note = f"{as_text(ours)} against {as_text(theirs)}"
    return Row(f"pytorch/{name}", theirs / ours, "times", goal, note, at_least=True)


def first_run(lot: Lot) -> tuple[dict[str, Any], Any, Any]:
    """(settings, parameters, train examples) of the first run of a lot, on the host."""
    state = lot.chunk.place.collect(lot.chunk.state)
    params = jax.tree.map(lambda leaf: leaf[0], state.params)
    return lot.program.settings_of(0), params, lot.program.dataset(0).train


def _spent(step: Callable[[], Any], count: int) -> float:
    """Seconds for one of `count` calls."""
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count
