"""ONE run as pure functions: init, advance by n steps, measure.

    anchor = model.init(key)            what the network was at step 0
    net    = network(anchor)            the wrapped network: trained and measured alike
    state  -> advance(n) -> state       a loop whose length is an argument
    state  -> measure    -> state, record

A run ends by itself when it diverges or meets its stop rule: from the next record on
everything it records is NaN. That depends on the run alone, never on its neighbours.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import tree
from grok_jax.losses import Loss, weighted_mean
from grok_jax.types import Apply, Dataset, Params, Scalar, Split, Stop

Record = dict[str, Array]

TRAIN_STEPS = "train_steps"
"""The scope of the training loop, by which a compiled program's text names it."""


class Start(NamedTuple):
    """What a run begins with."""

    params: Params
    notes: Record  # numbers that preparing it has found; every record repeats them


class RunState(NamedTuple):
    """All that one run carries from step to step."""

    step: Array  # int32 []
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
        """The order [n] at this step, and the rows [size] of its batch."""
        size = min(self.size, len(weight))
        count = jnp.sum(weight > 0, dtype=jnp.int32)
        per_epoch = jnp.maximum(count // size, 1)
        epoch, place = step // per_epoch, step % per_epoch

        def shuffle() -> Array:
            key = jax.random.fold_in(self.key, epoch)
            lot = jax.random.uniform(key, weight.shape) + (weight <= 0)
            return jnp.argsort(lot).astype(jnp.int32)

        order = jax.lax.cond(place == 0, shuffle, lambda: order)
        return order, jax.lax.dynamic_slice(order, (place * size,), (size,))


class Observable(NamedTuple):
    """`measure(params, anchor, data) -> record`, taken at every `every`-th record."""

    measure: Callable[[Params, Params, Dataset], Record]
    every: int = 1


class Run(NamedTuple):
    """The pure functions of one run: its first state, some steps more, and a
    record of what it is now."""

    init: Callable[[Dataset], RunState]
    advance: Callable[[RunState, Dataset, Array], RunState]
    measure: Callable[[RunState, Dataset, Array], tuple[RunState, Record]]


class Pieces(NamedTuple):
    """A segment: advance `steps[k]`, then measure as record `index[k]` (-1: do not)."""

    steps: np.ndarray
    index: np.ndarray


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
    descend: Callable[[Params, Array, Array], Params] | None = None,
    batches: Batches | None = None,
    observables: Sequence[Observable] = (),
    stop: Stop | None = None,
) -> Run:
    """A run from its parts.

    Args:
      init: data -> the parameters at step 0 and what is to be noted of them.
      network: anchor -> the network that is trained and measured.
      descend: (params, x, y) -> params after one step, in the place of the gradient
        and `tx`, for a model with exact dynamics of its own.
      batches: minibatches for the gradient; None is full batch. Losses are always
        recorded over all examples.
      observables: what is recorded beside losses and accuracies.
    """

    def start(data: Dataset) -> RunState:
        params, notes = init(data)
        never = jnp.full((), -1, jnp.int32)
        return RunState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            anchor=params,
            notes=notes,
            opt_state=tx.init(params),
            order=batches.first(data.train.weight) if batches else (),
            alive=jnp.full((), True),
            diverged_at=never,
            met_at=never,
        )

    def advance(state: RunState, data: Dataset, steps: Array) -> RunState:
        net = network(state.anchor)

        def train_loss(params: Params, batch: Split) -> Array:
            return weighted_mean(
                loss.value(net(params, batch.x), batch.y), batch.weight
            )

        def step(i, carry):
            params, opt_state, order = carry
            batch = data.train
            if batches is not None:
                order, rows = batches.take(order, state.step + i, batch.weight)
                batch = jax.tree.map(lambda leaf: leaf[rows], batch)
            if descend is not None:
                return descend(params, batch.x, batch.y), opt_state, order
            grads = jax.grad(train_loss)(params, batch)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, order

        carry = (state.params, state.opt_state, state.order)
        with jax.named_scope(TRAIN_STEPS):
            params, opt_state, order = jax.lax.fori_loop(0, steps, step, carry)
        return state._replace(
            step=state.step + steps, params=params, opt_state=opt_state, order=order
        )

    def measure(
        state: RunState, data: Dataset, index: Array
    ) -> tuple[RunState, Record]:
        net, record = network(state.anchor), dict(state.notes)
        for name in ("train", "test"):
            x, y, weight = getattr(data, name)
            f = net(state.params, x)
            for kind, of in (("loss", loss.value), ("accuracy", loss.accuracy)):
                record[f"{name}_{kind}"] = weighted_mean(of(f, y), weight)
        for observable in observables:
            record |= _every(observable, index, state, data)
        return _judge(state, record, stop)

    return Run(start, advance, measure)


def _every(
    observable: Observable, index: Array, state: RunState, data: Dataset
) -> Record:
    def take() -> Record:
        return observable.measure(state.params, state.anchor, data)

    if observable.every == 1:
        return take()
    blank = _blank(jax.eval_shape(take))
    return jax.lax.cond(index % observable.every == 0, take, lambda: blank)


def _blank(record: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), record)


def _judge(
    state: RunState, record: Record, stop: Stop | None
) -> tuple[RunState, Record]:
    """Ends a run that has diverged or met its stop rule; blanks a diverged record."""
    finite = jnp.isfinite(record["train_loss"])
    record = tree.select(finite, record, _blank(record))
    state = state._replace(
        alive=state.alive & finite,
        diverged_at=jnp.where(finite, state.diverged_at, state.step),
    )
    if stop is None:
        return state, record
    value = record[stop.metric]
    holds = value >= stop.threshold if stop.above else value <= stop.threshold
    since = jnp.where(state.met_at >= 0, state.met_at, state.step)
    unmeasured = finite & jnp.isnan(value)  # at this record: what held still holds
    met_at = jnp.where(holds, since, jnp.where(unmeasured, state.met_at, -1))
    done = holds & (state.step >= met_at * (1 + stop.patience))
    return state._replace(alive=state.alive & ~done, met_at=met_at), record


def segment(
    run: Run, state: RunState, data: Dataset, pieces: Pieces
) -> tuple[RunState, Record]:
    """Advances and measures piece by piece; records [K, ...], NaN where not measured.

    Cutting a run into other pieces changes no bit of its records.
    """
    blank = _blank(jax.eval_shape(run.measure, state, data, jnp.int32(0))[1])

    def piece(state: RunState, steps_and_index):
        steps, index = steps_and_index

        def live(state: RunState):
            state = run.advance(state, data, steps)
            return jax.lax.cond(
                index >= 0,
                lambda: run.measure(state, data, index),
                lambda: (state, blank),
            )

        return jax.lax.cond(state.alive, live, lambda state: (state, blank), state)

    steps, index = (jnp.asarray(v, jnp.int32) for v in pieces)
    return jax.lax.scan(piece, state, (steps, index))


class Trained(NamedTuple):
    """A network that has been trained to a point."""

    params: Params
    steps: Array  # int32 [], how many it took
    record: Record  # losses and accuracies there


def train_until(
    run: Run, data: Dataset, *, steps: Scalar, accuracy: Scalar, every: int
) -> Trained:
    """Trains until the test accuracy is `accuracy` (looked at every `every` steps), and
    at most `steps` steps; an `accuracy` above 1 is never reached.

    Raises nothing: a network that diverged or never got there is what it is, and its
    record says so.
    """

    def measure(state: RunState) -> tuple[RunState, Record]:
        return run.measure(state, data, jnp.int32(0))

    def more(carry: tuple[RunState, Record]) -> Array:
        state, record = carry
        return state.alive & (state.step < steps) & (record["test_accuracy"] < accuracy)

    def further(carry: tuple[RunState, Record]) -> tuple[RunState, Record]:
        state, _ = carry
        count = jnp.minimum(every, jnp.asarray(steps, jnp.int32) - state.step)
        return measure(run.advance(state, data, count))

    state, record = jax.lax.while_loop(more, further, measure(run.init(data)))
    return Trained(state.params, state.step, record)
