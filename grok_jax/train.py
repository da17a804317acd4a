"""ONE run as pure functions: init, advance by n steps, measure.

    anchor = model.init(key)            what the network was at step 0
    net    = network(anchor)            the wrapped network: trained and measured alike
    state  -> advance(n) -> state       a loop whose length is an argument
    state  -> measure    -> state, record

A run ends by itself when it diverges or meets its stop rule: from the next record on
everything it records is NaN. That depends on the run alone, never on its neighbours.

Runs that are batched with `jax.vmap` share the step, the segment and the data, which
are arguments and no part of a run's state: they stay unbatched, and so do all loops and
conditionals (`batching.any_run`).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax.batching import any_run
from grok_jax.losses import Loss, weighted_mean
from grok_jax.settings import Bounds, SettingError, nearest
from grok_jax.types import (
    Apply,
    Dataset,
    Dynamics,
    Params,
    Scalar,
    Split,
    Stop,
    Velocity,
)

Record = dict[str, Array]

ALWAYS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
"""What every run records."""

TRAIN_STEPS = "train_steps"
"""The scope of the training loop, by which a compiled program's text names it."""


class Start(NamedTuple):
    """What a run begins with."""

    params: Params
    notes: Record  # numbers that preparing it has found; every record repeats them


class RunState(NamedTuple):
    """State of one run. The step is not part of it: all runs of a batch share it."""

    params: Params
    anchor: Params
    notes: Record
    opt_state: Any
    order: Any  # int32 [n]: this epoch's order of the examples; () without minibatches
    alive: Array  # bool []: neither diverged nor done
    diverged_at: Array  # int32 []: step of the first record that is not finite, or -1
    met_at: Array  # int32 []: step since which the stop rule has held, or -1


class Batches(NamedTuple):
    """Minibatches of `size` examples by shuffled epochs, without replacement; what
    does not fill a batch sits the epoch out. Fewer examples than `size`: all of them.
    """

    size: int
    key: Array

    def first(self, weight: Array) -> Array:
        """The order [n] to begin with; step 0 shuffles it."""
        return jnp.arange(len(weight), dtype=jnp.int32)

    def take(self, order: Array, step: Array, weight: Array) -> tuple[Array, Array]:
        """The order [n] at this step, and the rows [size] of its batch.

        Under vmap the order is sorted only at steps at which an epoch of some run
        begins.
        """
        size = min(self.size, len(weight))
        count = jnp.sum(weight > 0, dtype=jnp.int32)
        per_epoch = jnp.maximum(count // size, 1)
        epoch, place = step // per_epoch, step % per_epoch
        begins = place == 0

        def shuffle() -> Array:
            key = jax.random.fold_in(self.key, epoch)
            draws = jax.random.uniform(key, weight.shape) + (weight <= 0)
            return jnp.where(begins, jnp.argsort(draws).astype(jnp.int32), order)

        order = jax.lax.cond(any_run(begins), shuffle, lambda: order)
        return order, jax.lax.dynamic_slice(order, (place * size,), (size,))


class Observable(NamedTuple):
    """`measure(params, anchor, data) -> record`, taken at every `every`-th record."""

    measure: Callable[[Params, Params, Dataset], Record]
    every: int = 1


class Run(NamedTuple):
    """The pure functions of one run."""

    init: Callable[[Dataset], RunState]
    advance: Callable[[RunState, Dataset, Scalar, Scalar], RunState]
    """(state, data, step, count) -> the state `count` steps after `step`"""
    measure: Callable[[RunState, Dataset, Scalar, Scalar], tuple[RunState, Record]]
    """(state, data, step, index) -> the state, and record number `index` of it"""


class Pieces(NamedTuple):
    """A segment from step `start`: advance `steps[k]`, then measure as record
    `index[k]` (-1: do not)."""

    start: Any  # int32 []
    steps: Any  # int32 [K]
    index: Any  # int32 [K]


def record_steps(steps: int, records: int, spacing: str) -> np.ndarray:
    """The steps at which a run is measured: 0, then at most `records` more, the last
    at `steps`; log- or linearly spaced.

    >>> record_steps(100, 4, "linear").tolist()
    [0, 25, 50, 75, 100]
    >>> record_steps(1000, 4, "log").tolist()
    [0, 1, 10, 100, 1000]
    """
    if steps == 0:
        return np.zeros(1, int)
    if spacing == "log":
        points = np.geomspace(1, steps, records) if records > 1 else np.array([steps])
    else:
        points = np.linspace(0, steps, records + 1)[1:]
    return np.unique(np.concatenate([[0], np.maximum(np.rint(points), 1)])).astype(int)


def make_run(
    *,
    init: Callable[[Dataset], Start],
    network: Callable[[Params], Apply],
    loss: Loss,
    tx: optax.GradientTransformation,
    dynamics: Callable[[Velocity], Dynamics] | None = None,
    batches: Batches | None = None,
    observables: Sequence[Observable] = (),
    stop: Stop | None = None,
) -> Run:
    """A run from its parts.

    Args:
      init: data -> the parameters at step 0 and what is to be noted of them.
      network: anchor -> the network that is trained and measured.
      dynamics: (params -> their change in a full-batch step) -> how the parameters
        move instead of by such steps. `tx` must have no state.
      batches: minibatches for the gradient; None is full batch. Losses are always
        recorded over all examples.
      observables: what is recorded beside losses and accuracies.
    """

    def velocity(anchor: Params, train: Split) -> Velocity:
        net = network(anchor)

        def change(params: Params) -> Params:
            grads = _gradient(net, loss, params, train)
            return tx.update(grads, tx.init(params), params)[0]

        return change

    def start(data: Dataset) -> RunState:
        params, notes = init(data)
        own = dynamics(velocity(params, data.train)) if dynamics else tx
        never = jnp.full((), -1, jnp.int32)
        return RunState(
            params=params,
            anchor=params,
            notes=notes,
            opt_state=own.init(params),
            order=batches.first(data.train.weight) if batches else (),
            alive=jnp.full((), True),
            diverged_at=never,
            met_at=never,
        )

    def advance(
        state: RunState, data: Dataset, step: Scalar, count: Scalar
    ) -> RunState:
        if dynamics is not None:
            own = dynamics(velocity(state.anchor, data.train))
            with jax.named_scope(TRAIN_STEPS):
                params, carried = own.advance(
                    state.params, state.opt_state, step, count
                )
            return state._replace(params=params, opt_state=carried)
        one_step = _descent_step(network(state.anchor), loss, tx, batches, data.train)
        carry = (state.params, state.opt_state, state.order)
        with jax.named_scope(TRAIN_STEPS):
            params, opt_state, order = jax.lax.fori_loop(
                0, count, lambda i, carry: one_step(carry, step + i), carry
            )
        return state._replace(params=params, opt_state=opt_state, order=order)

    def measure(
        state: RunState, data: Dataset, step: Scalar, index: Scalar
    ) -> tuple[RunState, Record]:
        net, record = network(state.anchor), _as_floats(state.notes)
        for name in ("train", "test"):
            x, y, weight = getattr(data, name)
            f = net(state.params, x)
            for kind, of in (("loss", loss.value), ("accuracy", loss.accuracy)):
                record[f"{name}_{kind}"] = weighted_mean(of(f, y), weight)
        for observable in observables:
            record |= _every(observable, index, state, data)
        return _judge(state, record, step, stop)

    return Run(start, advance, measure)


def _gradient(net: Apply, loss: Loss, params: Params, batch: Split) -> Params:
    """The gradient of the mean loss of weighted examples."""

    def mean_loss(params: Params) -> Array:
        return weighted_mean(loss.value(net(params, batch.x), batch.y), batch.weight)

    return jax.grad(mean_loss)(params)


def _descent_step(
    net: Apply,
    loss: Loss,
    tx: optax.GradientTransformation,
    batches: Batches | None,
    train: Split,
) -> Callable[[tuple[Params, Any, Any], Scalar], tuple[Params, Any, Any]]:
    """((params, optimiser state, order of the examples), step) -> those after it."""

    def one_step(carry: tuple[Params, Any, Any], step: Scalar):
        params, opt_state, order = carry
        batch = train
        if batches is not None:
            order, rows = batches.take(order, jnp.asarray(step), batch.weight)
            batch = jax.tree.map(lambda leaf: leaf[rows], batch)
        grads = _gradient(net, loss, params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, order

    return one_step


def _every(
    observable: Observable, index: Scalar, state: RunState, data: Dataset
) -> Record:
    def take() -> Record:
        return _as_floats(observable.measure(state.params, state.anchor, data))

    if observable.every == 1:
        return take()
    blank = _blank(jax.eval_shape(take))
    return jax.lax.cond(index % observable.every == 0, take, lambda: blank)


def _as_floats(record: Record) -> Record:
    """A record with integers and booleans as floats, so that NaN can stand in it."""

    def one(value: Any) -> Array:
        value = jnp.asarray(value)
        inexact = jnp.issubdtype(value.dtype, jnp.inexact)
        return value if inexact else value.astype(float)

    return {name: one(value) for name, value in record.items()}


def _blank(record: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), record)


def _judge(
    state: RunState, record: Record, step: Scalar, stop: Stop | None
) -> tuple[RunState, Record]:
    """Ends a run that has diverged or met its stop rule; blanks a diverged record."""
    finite = jnp.isfinite(record["train_loss"])
    record = optax.tree.where(finite, record, _blank(record))
    state = state._replace(
        alive=state.alive & finite,
        diverged_at=jnp.where(finite, state.diverged_at, step),
    )
    if stop is None:
        return state, record
    value = stop.rule(record)
    holds = value >= 0
    since = jnp.where(state.met_at >= 0, state.met_at, step)
    unmeasured = finite & jnp.isnan(value)  # at this record: what held still holds
    met_at = jnp.where(holds, since, jnp.where(unmeasured, state.met_at, -1))
    done = holds & (step >= met_at * (1 + stop.patience))
    return state._replace(alive=state.alive & ~done, met_at=met_at), record


def threshold(
    record: Record,
    *,
    metric: str = "",
    threshold: Annotated[float, Bounds()] = 0.0,
    above: bool = False,
) -> Array:
    """A stop rule: the number `metric` of a record is at or below `threshold`, or
    `above`; "" for no rule at all.

    Raises: SettingError where a run records no such number.
    """
    numbers = [name for name, value in record.items() if jnp.ndim(value) == 0]
    if metric not in numbers:
        raise SettingError(
            f"stop.metric is {metric!r}, which is no number that this run records; "
            f"{nearest(metric, numbers)}."
        )
    value = record[metric]
    holds = value >= threshold if above else value <= threshold
    return jnp.where(jnp.isnan(value), jnp.nan, jnp.where(holds, 0.0, -1.0))


def segment(
    run: Run, state: RunState, data: Dataset, pieces: Pieces
) -> tuple[RunState, Record]:
    """Advances and measures piece by piece; records [K, ...], NaN where not measured.

    Cutting a run into other pieces changes no bit of its records. Under vmap over
    `state` a piece is left out when every run has ended; a run that has ended beside
    others is computed and its result thrown away.
    """
    start, steps, index = (jnp.asarray(v, jnp.int32) for v in pieces)
    measure = jax.jit(run.measure, inline=True)  # traced once, for shapes and for use
    blank = _blank(jax.eval_shape(measure, state, data, start, start)[1])

    def piece(carry: tuple[Array, RunState], steps_and_index):
        step, state = carry
        steps, index = steps_and_index
        reached = step + steps

        def live() -> tuple[RunState, Record]:
            moved = run.advance(state, data, step, steps)
            new = jax.lax.cond(
                index >= 0,
                lambda: measure(moved, data, reached, index),
                lambda: (moved, blank),
            )
            return optax.tree.where(state.alive, new, (state, blank))

        wanted = any_run(state.alive) & ((steps > 0) | (index >= 0))
        state, record = jax.lax.cond(wanted, live, lambda: (state, blank))
        return (reached, state), record

    (_, state), records = jax.lax.scan(piece, (start, state), (steps, index))
    return state, records


def run(one: Run, data: Dataset, steps: Sequence[int]) -> tuple[RunState, Record]:
    """The whole of a run from its own step 0, measured at these steps (rising, such as
    `record_steps` gives): its state at the last, and records [len(steps), ...]."""
    pieces = Pieces(0, np.diff(steps, prepend=0), np.arange(len(steps)))
    return segment(one, one.init(data), data, pieces)


class Trained(NamedTuple):
    """A network that has been trained to a point."""

    params: Params
    steps: Array  # int32 [], how many it took
    record: Record  # losses and accuracies there


def train_until(
    run: Run, data: Dataset, *, steps: Scalar, accuracy: Scalar, every: int
) -> Trained:
    """Trains until the test accuracy is `accuracy` (looked at every `every` steps), and
    at most `steps` steps.

    An `accuracy` above 1 disables early stopping. Divergence is not an error: check
    `record`. Under vmap all runs go on until the last has stopped.
    """

    def measure(state: RunState, step: Scalar) -> tuple[RunState, Record]:
        return run.measure(state, data, step, 0)

    def wanted(step: Array, state: RunState, record: Record) -> Array:
        return state.alive & (step < steps) & (record["test_accuracy"] < accuracy)

    def more(carry: tuple[Array, RunState, Record, Array]) -> Array:
        step, state, record, _ = carry
        return any_run(wanted(step, state, record))

    def further(carry: tuple[Array, RunState, Record, Array]):
        step, state, record, taken = carry
        count = jnp.minimum(every, jnp.asarray(steps, jnp.int32) - step)
        new = measure(run.advance(state, data, step, count), step + count)
        old = (state, record, taken)
        go_on = wanted(step, state, record)
        return step + every, *optax.tree.where(go_on, (*new, step + count), old)

    zero = jnp.zeros((), jnp.int32)
    start = (zero, *measure(run.init(data), zero), zero)
    _, state, record, taken = jax.lax.while_loop(more, further, start)
    return Trained(state.params, taken, record)
