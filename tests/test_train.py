"""One run: what it computes, where it may be cut, when it ends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grok_jax import losses, train, types
from grok_jax.types import Dataset, Dynamics, Split

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((8, 3)), jnp.float32)
W = jnp.asarray(RNG.standard_normal(3), jnp.float32)
DATA = Dataset(
    Split(X, jnp.matmul(X, W), jnp.ones(8)),
    Split(X[:5], jnp.matmul(X[:5], W) + 1, jnp.ones(5)),
    {},
)


def linear(params, x):
    return jnp.matmul(x, params)


def make(rate=0.1, momentum=None, **options):
    """Linear regression by gradient descent."""
    return train.make_run(
        init=lambda data: train.Start(jnp.zeros(data.train.x.shape[-1]), {}),
        network=lambda anchor: linear,
        loss=losses.regression(tolerance=0.01),
        tx=optax.sgd(rate, momentum),
        **options,
    )


def pieces(steps, cuts=()):
    """All records of `steps` with the way between them cut at `cuts` too."""
    ends = sorted({*steps, *cuts})
    index = [list(steps).index(end) if end in steps else -1 for end in ends]
    return train.Pieces(0, np.diff(ends, prepend=0), np.array(index))


def moving(step):
    """Dynamics whose every step is `step`."""

    def advance(params, carried, start, count):
        moved = jax.lax.fori_loop(start, start + count, lambda _, p: step(p), params)
        return moved, carried

    return lambda velocity: Dynamics(lambda params: (), advance)


def go(run, steps, data=DATA):
    start = jax.jit(run.init)(data)
    return jax.jit(lambda s: train.segment(run, s, data, pieces(steps)))(start)


# --- when it is measured -------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["log", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100, 12_345])
@pytest.mark.parametrize("records", [1, 2, 5, 60])
def test_records_are_distinct_steps_from_zero_to_the_end(spacing, steps, records):
    at = train.record_steps(steps, records, spacing)
    assert at[0] == 0 and at[-1] == steps
    assert (np.diff(at) > 0).all()
    assert 2 <= len(at) <= records + 1


def test_no_steps_is_one_record_at_zero():
    assert train.record_steps(0, 10, "log").tolist() == [0]


def test_log_spacing_has_equal_ratios_and_linear_spacing_equal_gaps():
    log = train.record_steps(10**6, 13, "log")[1:]
    np.testing.assert_allclose(np.diff(np.log10(log[4:])), 0.5, atol=0.01)
    assert set(np.diff(train.record_steps(1000, 10, "linear"))) == {100}


# --- what it computes ----------------------------------------------------------------


def closed_form(rate, steps):
    """Train and test loss of gradient descent from zero, in float64."""
    x, y = np.asarray(X, float), np.asarray(DATA.train.y, float)
    w, out = np.zeros(3), {}
    for step in range(max(steps) + 1):
        if step in steps:
            test = np.asarray(DATA.test.x, float) @ w - np.asarray(DATA.test.y, float)
            out[step] = (np.mean((x @ w - y) ** 2), np.mean(test**2))
        w = w - rate * 2 / len(y) * x.T @ (x @ w - y)
    return np.array([out[step] for step in steps]).T


def test_the_recorded_losses_are_those_of_gradient_descent():
    steps = [0, 1, 5, 20]
    state, record = go(make(), steps)
    expected = closed_form(0.1, steps)
    np.testing.assert_allclose(record["train_loss"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(record["test_loss"], expected[1], rtol=1e-4)
    assert bool(state.alive)


def test_an_example_of_weight_zero_changes_nothing():
    def padded(split):
        return Split(
            jnp.concatenate([split.x, 100 * jnp.ones((2, 3))]),
            jnp.concatenate([split.y, jnp.zeros(2)]),
            jnp.concatenate([split.weight, jnp.zeros(2)]),
        )

    data = Dataset(padded(DATA.train), padded(DATA.test), {})
    (_, expected), (_, record) = go(make(), [0, 3, 9]), go(make(), [0, 3, 9], data)
    for name in expected:
        np.testing.assert_allclose(record[name], expected[name], rtol=1e-5)


def test_a_descent_of_its_own_stands_in_for_the_optimiser():
    target = jnp.array([5.0, 5.0, 5.0])
    run = make(rate=1e9, dynamics=moving(lambda p: p + 0.5 * (target - p)))
    state, _ = go(run, [0, 3])
    np.testing.assert_allclose(state.params, target * (1 - 0.5**3), rtol=1e-6)


def test_the_network_sees_the_parameters_of_step_zero_as_its_anchor():
    run = train.make_run(
        init=lambda data: train.Start(W, {}),
        network=lambda anchor: lambda p, x: linear(p, x) - linear(anchor, x),
        loss=losses.regression(),
        tx=optax.sgd(0.05),
    )
    state, record = go(run, [0, 10])
    np.testing.assert_allclose(
        record["train_loss"][0], jnp.mean(DATA.train.y**2), rtol=1e-6
    )
    np.testing.assert_array_equal(state.anchor, W)
    assert record["train_loss"][1] < record["train_loss"][0]


# --- where it is cut -----------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(1,), (2, 3, 4), (5, 11, 12), tuple(range(1, 20))])
def test_a_cut_anywhere_changes_no_bit(cuts):
    steps = [0, 3, 11, 20]
    run = make(momentum=0.9)
    segment = jax.jit(lambda s, p: train.segment(run, s, DATA, p))
    start = jax.jit(run.init)(DATA)
    whole, record = segment(start, pieces(steps))
    one = pieces(steps, cuts)
    state, parts = start, []
    at = np.cumsum(one.steps) - one.steps
    for k in range(len(one.steps)):  # each piece a segment of its own
        piece = train.Pieces(at[k], one.steps[k : k + 1], one.index[k : k + 1])
        state, part = segment(state, piece)
        parts += [part] if one.index[k] >= 0 else []
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in record:
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(record[name], joined)


def test_a_piece_without_a_record_is_nan():
    run = make()
    _, record = train.segment(run, run.init(DATA), DATA, pieces([0, 4], cuts=[2]))
    assert np.isnan(record["train_loss"]).tolist() == [False, True, False]


def test_a_piece_that_neither_moves_nor_measures_is_left_out():
    """Most pieces of a short segment do not, and a copy of the state is not free."""
    run, calls = make(), []

    def advance(state, *rest):
        jax.debug.callback(lambda step, count: calls.append((step, count)), *rest[1:])
        return run.advance(state, *rest)

    watched, own = run._replace(advance=advance), train.Pieces
    some = own(3, np.array([2, 0, 0, 4]), np.array([-1, 1, -1, -1]))
    state, record = train.segment(watched, run.init(DATA), DATA, some)
    jax.effects_barrier()
    assert calls == [(3, 2), (5, 0), (5, 4)]
    assert np.isnan(record["train_loss"]).tolist() == [True, False, True, True]
    whole = own(3, np.array([6]), np.array([-1]))
    expected, _ = train.segment(run, run.init(DATA), DATA, whole)
    assert (state.params == expected.params).all()


# --- how it ends ---------------------------------------------------------------------


def test_a_run_that_diverges_is_flagged_and_nan_from_then_on():
    state, record = go(make(rate=1e15), [0, 1, 2, 10, 30, 40])
    loss = np.asarray(record["train_loss"])
    ended = int(state.diverged_at)
    assert not bool(state.alive) and ended in (2, 10)
    finite = np.array([0, 1, 2, 10, 30, 40]) < ended
    for name, values in record.items():
        assert np.isfinite(values[finite]).all(), name
        assert np.isnan(values[~finite]).all(), name
    assert loss[1] > loss[0]


def Stop(metric, threshold, above=False, patience=0.0):
    rule = partial(train.threshold, metric=metric, threshold=threshold, above=above)
    return types.Stop(rule, patience)


def stopped(stop, steps=(0, 5, 10, 20, 40, 80), rate=0.1, **options):
    state, record = go(make(rate, stop=stop, **options), list(steps))
    return state, np.asarray(record["train_loss"]), np.array(steps)


def test_a_run_ends_at_the_first_record_that_meets_its_stop_rule():
    _, loss, steps = stopped(None)
    threshold = float(loss[2] + loss[3]) / 2
    state, ended, _ = stopped(Stop("train_loss", threshold))
    assert int(state.met_at) == steps[3]
    np.testing.assert_array_equal(ended[:4], loss[:4])
    assert np.isnan(ended[4:]).all()
    assert int(state.diverged_at) == -1 and not bool(state.alive)


def test_a_stop_rule_may_wait_for_a_value_above():
    state, record, _ = stopped(Stop("train_accuracy", 1.0, above=True), rate=0.3)
    assert int(state.met_at) > 0 and not bool(state.alive)
    assert np.isnan(record[-1])


@pytest.mark.parametrize(("patience", "last"), [(0.0, 10), (1.0, 20), (2.5, 40)])
def test_patience_is_so_many_times_as_many_steps_again(patience, last):
    _, loss, _ = stopped(None)
    threshold = float(loss[1] + loss[2]) / 2
    state, record, steps = stopped(Stop("train_loss", threshold, patience=patience))
    assert int(state.met_at) == 10
    assert steps[np.isfinite(record)][-1] == last


def wave(values):
    """An observable that takes these values at the records, in turn."""

    def measure(params, anchor, data):
        del anchor, data
        return {"wave": jnp.asarray(values)[params[0].astype(int)]}

    return measure


def counting(stop, values, every=1):
    """A run whose parameters count its steps, measured at each."""
    run = train.make_run(
        init=lambda data: train.Start(jnp.zeros(3), {}),
        network=lambda anchor: linear,
        loss=losses.regression(),
        tx=optax.sgd(0.0),
        dynamics=moving(lambda params: params + 1),
        observables=[train.Observable(wave(values), every)],
        stop=stop,
    )
    state, record = go(run, list(range(len(values))))
    return state, int(state.params[0]), record


def test_a_rule_that_fails_in_between_starts_again():
    values = [9.0, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    state, ended, _ = counting(Stop("wave", 1.0, patience=0.5), values)
    assert (int(state.met_at), ended) == (4, 6)


def test_an_observable_is_taken_at_every_nth_record():
    *_, record = counting(None, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], every=3)
    np.testing.assert_array_equal(
        record["wave"], [0, np.nan, np.nan, 3, np.nan, np.nan, 6]
    )


def test_patience_counts_over_records_at_which_the_metric_is_not_taken():
    values = [9.0, 9.0, 0.0] + [0.0] * 8
    state, ended, _ = counting(Stop("wave", 1.0, patience=1.0), values, every=2)
    assert (int(state.met_at), ended) == (2, 4)


def test_an_ended_run_moves_no_further():
    run = make(stop=Stop("train_loss", 1e9))
    state, _ = go(run, [0, 5, 10])
    np.testing.assert_array_equal(state.params, jnp.zeros(3))


# --- minibatches ---------------------------------------------------------------------


def epochs(size, weight, steps):
    """The rows of every batch [steps, size]."""
    batches = train.Batches(size, jax.random.key(3))
    weight = jnp.asarray(weight, jnp.float32)
    order, taken, take = batches.first(weight), [], jax.jit(batches.take)
    for step in range(steps):
        order, rows = take(order, jnp.int32(step), weight)
        taken.append(np.asarray(rows))
    return np.stack(taken)


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own():
    rows = epochs(2, np.ones(6), 9).reshape(3, 6)
    assert [sorted(epoch) for epoch in rows] == [list(range(6))] * 3
    assert len({tuple(epoch) for epoch in rows}) == 3


def test_what_does_not_fill_a_batch_sits_the_epoch_out():
    rows = epochs(4, np.ones(7), 40)
    assert all(len(set(batch)) == 4 for batch in rows)
    assert set(rows.ravel()) == set(range(7))


def test_examples_of_weight_zero_are_drawn_only_when_the_others_do_not_fill_a_batch():
    weight = np.array([0, 1, 0, 1, 1, 1, 0, 0])
    full = epochs(2, weight, 20)
    assert set(full.ravel()) == {1, 3, 4, 5}
    short = epochs(6, weight, 5)
    assert all({1, 3, 4, 5} <= set(batch) for batch in short)


def test_a_batch_of_all_examples_is_full_batch_descent():
    steps = [0, 1, 5, 20]
    _, expected = go(make(), steps)
    for size in (8, 100):
        _, record = go(make(batches=train.Batches(size, jax.random.key(0))), steps)
        for name in expected:
            np.testing.assert_allclose(record[name], expected[name], rtol=1e-5)


def test_minibatch_descent_is_the_recursion_over_the_rows_it_names():
    run = make(batches=train.Batches(3, jax.random.key(3)))
    state, _ = go(run, [0, 11])
    w, x, y = np.zeros(3), np.asarray(X, float), np.asarray(DATA.train.y, float)
    for rows in epochs(3, np.ones(8), 11):
        w = w - 0.1 * 2 / 3 * x[rows].T @ (x[rows] @ w - y[rows])
    np.testing.assert_allclose(state.params, w, rtol=1e-5)


def test_a_cut_in_the_middle_of_an_epoch_changes_no_bit():
    run = make(batches=train.Batches(3, jax.random.key(0)))
    start = jax.jit(run.init)(DATA)
    uncut, _ = jax.jit(lambda s: train.segment(run, s, DATA, pieces([0, 20])))(start)
    cut = start
    at = 0
    for steps in (0, 1, 4, 2, 13):
        piece = train.Pieces(np.int32(at), np.array([steps]), np.array([-1]))
        cut, _ = jax.jit(lambda s, p: train.segment(run, s, DATA, p))(cut, piece)
        at += steps
    np.testing.assert_array_equal(cut.params, uncut.params)
    np.testing.assert_array_equal(cut.order, uncut.order)


def test_integers_and_booleans_are_nan_where_they_were_not_measured():
    def count(params, anchor, data):
        positive = params > 0
        return {"count": positive.sum(), "any": positive.any(), "each": positive}

    run = make(observables=[train.Observable(count, every=2)])
    _, record = go(run, (0, 1, 2))
    assert record["count"].dtype == record["any"].dtype == jnp.float32
    assert record["each"].shape == (3, 3) and np.isnan(record["each"][1]).all()
    for name in ("count", "any"):
        assert np.isnan(record[name]).tolist() == [False, True, False], name
