"""Batched means batched: what runs share stays one thing under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import findings, timing
from grok_jax import batching, sweep, train
from grok_jax.engine import census, planning, programs, runner
from grok_jax.engine.grid import Axis, Grid

DEVICE = tuple(jax.local_devices()[:1])
RUNS = 4
CLASSES = dict(loss=dict(name="classification"), optimizer=dict(name="adamw"))
PAGES = {
    "own data": dict(
        task=dict(name="teacher_student", train_size=20, test_size=10),
        model=dict(name="mlp", width=8, outputs=5, activation="tanh"),
        optimizer=dict(name="adamw"),
    ),
    "minibatches": dict(
        task=dict(name="mnist", train_size=60, test_size=20),
        model=dict(name="mlp", width=8, outputs=10),
        train=dict(batch_size=20),
        **CLASSES,
    ),
    "stop and observables": dict(
        task=dict(input_dim=6, train_size=14, test_size=9),
        model=dict(width=7),
        optimizer=dict(rule="lazy"),
        observe=dict(norms=dict(every=2), kernel_alignment=dict(every=3)),
        stop=dict(metric="train_loss", threshold=1e-3, patience=0.5),
    ),
    "tokens": dict(
        task=dict(name="modular_tokens", modulus=5, equals=False),
        model=dict(name="fnn", vocabulary=5, embedding=6, width=8, outputs=5),
        **CLASSES,
    ),
}


def any_of(values):
    return jax.vmap(batching.any_run, out_axes=None)(jnp.asarray(values))


@pytest.mark.parametrize("values", [[False, False], [True, False], [True, True]])
def test_any_run_is_one_answer_for_the_batch(values):
    assert bool(any_of(values)) == any(values)
    assert bool(batching.any_run(jnp.asarray(values[0]))) == values[0]


def test_any_run_goes_over_batches_of_batches():
    nested = jax.vmap(jax.vmap(batching.any_run, out_axes=None), out_axes=None)
    for place in np.ndindex(2, 3):
        values = np.zeros((2, 3), bool)
        values[place] = True
        assert bool(nested(values)) and not bool(nested(values & False))


def test_any_run_of_what_no_run_changes_is_itself():
    both = jax.vmap(lambda x, y: (batching.any_run(y > 0), x), in_axes=(0, None))
    assert both(jnp.ones(3), jnp.ones(()))[0].tolist() == [True] * 3


def segment_of(name):
    """(program, compiled segment of RUNS runs by vmap on one device)."""
    program = timing.group_program(PAGES[name], RUNS, DEVICE)
    compiled = program.compiled("vmap", sweep.layout(RUNS, DEVICE))
    return program, census.read(compiled.as_text())


@pytest.mark.parametrize("name", PAGES)
def test_no_conditional_of_a_segment_asks_a_run_of_its_own(name):
    program, _ = segment_of(name)
    assert findings.conditionals_on_runs(program) == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_training_loop_counts_turns_and_asks_nothing_else(name):
    _, text = segment_of(name)
    (loop,) = text.loops(train.TRAIN_STEPS)
    counts = text.census(loop)
    assert not findings.asks_of_runs(text, loop)
    assert counts["collective"] == counts["host"] == counts["double"] == 0
    if name == "minibatches":
        assert counts["conditional"] == counts["sort"] == 1
        assert text.census(loop, branches=False)["sort"] == 0
    else:
        assert counts["conditional"] == counts["sort"] == 0


def test_data_that_all_runs_share_is_not_copied_for_each():
    program, text = segment_of("minibatches")
    x = program.dataset(0).train.x
    assert len(program.owners) == 1
    assert not findings.copies_of(text, census.Shape("f32", x.shape), RUNS)


RATES = Axis("rate", ("optimizer.learning_rate",), ((0.01,), (0.02,), (0.03,)))
SEEDS = Axis("seed", ("seed",), ((0,), (1,)))
ODD = Axis("seed", ("seed",), ((0,), (1,), (0,)))


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        ((RATES, SEEDS), "in turns"),
        ((SEEDS, RATES), "in rows"),
        ((SEEDS,), "in turns"),
        ((RATES,), "in turns"),
        ((ODD, RATES), "any"),
    ],
)
def test_data_that_some_runs_share_is_copied_for_none_of_them(resolved, axes, order):
    layer = dict(PAGES["own data"], train=dict(steps=30, records=2))
    plan = resolved(layer).plan
    plan = programs.Plan(plan.experiment, Grid(axes))
    program = programs.GroupProgram(plan.groups()[0], DEVICE)
    runs = len(plan.grid)
    place = sweep.layout(runs, DEVICE)
    assert program.order("vmap", place) == order
    text = census.read(program.compiled("vmap", place).as_text())
    x = program.dataset(0).train.x
    copies = findings.copies_of(text, census.Shape("f32", x.shape), runs)
    assert bool(copies) == (order == "any")

    def sweep_by(mode):
        engine = planning.Engine(mode=mode, devices=DEVICE)
        return runner.Sweeper(plan, engine, say=lambda _: None).run()

    by_map, by_vmap = sweep_by("map"), sweep_by("vmap")
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(by_vmap[name], by_map[name], rtol=1e-4)
    start = by_vmap.train_loss.isel(step=0).values
    assert len(np.unique(start)) == len(program.owners)


def test_the_order_is_sorted_when_an_epoch_begins():
    """Of runs that have 6 and 4 examples, in batches of 2, each has its own epochs."""
    batches = [train.Batches(2, key) for key in jax.random.split(jax.random.key(0))]
    weights = jnp.array([[1.0] * 6, [1.0] * 4 + [0.0] * 2])
    keys = jnp.stack([one.key for one in batches])

    def take(key, order, step, weight):
        return train.Batches(2, key).take(order, step, weight)

    both = jax.jit(jax.vmap(take, in_axes=(0, 0, None, 0)))
    together = jax.vmap(batches[0].first)(weights)
    alone = [one.first(weight) for one, weight in zip(batches, weights, strict=True)]
    for step in range(12):
        together, rows = both(keys, together, step, weights)
        for i, one in enumerate(batches):
            alone[i], own = one.take(alone[i], jnp.int32(step), weights[i])
            np.testing.assert_array_equal(rows[i], own)


def test_weak_networks_under_vmap_are_those_alone():
    layer = dict(
        PAGES["tokens"],
        transfer=dict(
            model=dict(embedding=4, width=4, layers=2),
            optimizer=dict(learning_rate=5e-3, weight_decay=0.1),
            steps=40,
            accuracy=0.3,
            every=7,
        ),
    )
    program = timing.group_program(layer, RUNS, DEVICE)
    members = np.arange(RUNS)
    by_map, by_vmap = (
        programs.Chunk(program, members, RUNS, mode).state for mode in ("map", "vmap")
    )
    taken = np.asarray(by_map.notes["weak_steps_taken"])
    np.testing.assert_array_equal(by_vmap.notes["weak_steps_taken"], taken)
    assert len(set(taken.tolist())) > 1 and taken.max() <= 40
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        by_map.params,
        by_vmap.params,
    )


# --- runs that have ended ------------------------------------------------------------

ENDS = dict(
    task=dict(input_dim=6, train_size=14, test_size=9),
    model=dict(width=7),
    optimizer=dict(rule="lazy", learning_rate=0.5),
    stop=dict(metric="train_loss", threshold=0.05),
    train=dict(steps=400, records=60, spacing="linear"),
    sweep=dict(epsilon=(0.01, 0.05, 0.1, 0.5, 1.0, 2.0), seed=(0, 1)),
)


def rooms(run_sweep, seen=None, **options):
    """(results, the room of each segment's batch); these also go into `seen`."""
    seen = [] if seen is None else seen
    whole = programs.GroupProgram.compiled

    def compiled(self, mode, place, *order):
        seen.append(place.slots)
        return whole(self, mode, place, *order)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs.GroupProgram, "compiled", compiled)
        results = run_sweep(ENDS, mode="vmap", devices=DEVICE, **options)
    return results, seen


def test_ended_runs_leave_the_batch_and_change_nothing_early_on(run_sweep):
    results, seen = rooms(run_sweep)
    by_map = run_sweep(ENDS, devices=DEVICE)
    assert max(seen) == 12 and min(seen) <= 3
    for name in ("t_train", "stop_met_at"):
        np.testing.assert_allclose(results[name], by_map[name], rtol=0.1)
    np.testing.assert_allclose(
        results.train_loss.isel(step=slice(5)),
        by_map.train_loss.isel(step=slice(5)),
        rtol=1e-4,
    )


@pytest.mark.parametrize("seconds", [1e-9, 1e9])
def test_when_they_leave_does_not_depend_on_where_segments_are_cut(
    run_sweep, assert_identical, seconds
):
    expected, _ = rooms(run_sweep)
    results, _ = rooms(run_sweep, segment_seconds=seconds)
    assert_identical(results.data_vars, expected.data_vars)


def test_a_sweep_that_is_stopped_after_some_have_left_resumes_to_the_same_bits(
    run_sweep, assert_identical, tmp_path
):
    expected, _ = rooms(run_sweep, segment_seconds=1e-9)
    before = []
    with pytest.raises(runner.Interrupted):
        rooms(
            run_sweep,
            before,
            segment_seconds=1e-9,
            folder=tmp_path,
            stop=lambda: before[-1] < 12,
        )
    results, seen = rooms(run_sweep, segment_seconds=1e-9, folder=tmp_path)
    assert max(before) == 12 and max(seen) < 12
    assert_identical(results.data_vars, expected.data_vars)


# --- memory that runs out all the same -----------------------------------------------


class Device:
    """Stands in for a device with room for `most` runs: a larger batch fails when it
    is to run, as XLA fails."""

    def __init__(self, most):
        self.most, self.failures = most, 0

    def check(self, slots):
        if slots > self.most:
            self.failures += 1
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def patch(self, patch):
        whole = programs.Chunk.arguments

        def arguments(chunk, pieces):
            self.check(chunk.place.slots)
            return whole(chunk, pieces)

        patch.setattr(programs.Chunk, "arguments", arguments)


@pytest.mark.optimised
@pytest.mark.parametrize("most", [pytest.param(1, marks=pytest.mark.slow), 2, 5])
def test_where_memory_runs_out_the_chunk_is_halved_and_the_log_says_so(
    run_sweep, assert_identical, most, monkeypatch
):
    layer = dict(ENDS, train=dict(steps=20, records=4))
    expected = run_sweep(layer, devices=DEVICE)
    device, said = Device(most), []
    device.patch(monkeypatch)
    results = run_sweep(layer, devices=DEVICE, say=said.append)
    assert device.failures > 0
    assert "ran out of memory with 12 runs at once; going on with 6" in said[0]
    assert_identical(results.data_vars, expected.data_vars)


@pytest.mark.optimised
def test_memory_that_runs_out_later_costs_what_came_after_the_last_host_copy(
    run_sweep, assert_identical, monkeypatch
):
    """On an accelerator, where states are kept on the host when they are saved."""
    layer = dict(ENDS, train=dict(steps=20, records=8))
    expected = run_sweep(layer, devices=DEVICE)
    device, said, calls = Device(99), [], []
    device.patch(monkeypatch)
    monkeypatch.setattr(runner, "keeps_host_copies", lambda devices: True)

    def progress(_):
        calls.append(1)
        device.most = 3 if len(calls) > 3 else 99

    results = run_sweep(
        layer,
        devices=DEVICE,
        segment_seconds=1e-9,
        checkpoint_seconds=1e-9,
        say=said.append,
        progress=progress,
    )
    assert device.failures > 0 and "from step 0." not in said[0]
    assert_identical(results.data_vars, expected.data_vars)


def test_memory_too_small_for_one_run_is_a_sentence(run_sweep, monkeypatch):
    Device(0).patch(monkeypatch)
    with pytest.raises(runner.SettingError, match="ran out of memory with one run"):
        run_sweep(ENDS, devices=DEVICE)


def test_another_failure_of_a_device_is_not_taken_for_it(run_sweep, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(programs.Chunk, "arguments", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run_sweep(ENDS, devices=DEVICE)


def test_run_batched_takes_fewer_runs_where_memory_runs_out(monkeypatch):
    device, whole = Device(2), sweep._program

    def program(fn, mode, devices):
        def run(shared, runs, carries, counts):
            device.check(len(runs) // len(devices))
            return whole(fn, mode, devices)(shared, runs, carries, counts)

        return run

    monkeypatch.setattr(sweep, "_program", program)
    out = sweep.run_batched(
        lambda x: x + 1, np.arange(7.0), devices=DEVICE, runs_per_chunk=7
    )
    assert device.failures > 0
    np.testing.assert_array_equal(out, np.arange(7.0) + 1)
