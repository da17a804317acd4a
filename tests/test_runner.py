"""Sweeps: only the settings decide the numbers. How a sweep is chunked, cut and spread
over devices leaves no trace in them."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from sweeps import GRID, STOPS, same_runs

from grok_jax import experiment, sweep, train
from grok_jax.engine import planning, programs, runner
from grok_jax.engine.grid import Axis, Grid

DEVICES = jax.local_devices()
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "collective-broadcast",
)


@pytest.fixture(scope="module")
def reference(run_sweep):
    """The grid at once, on both devices."""
    return run_sweep(GRID)


def alone(run_sweep, scale, seed, **engine):
    """One run as a sweep of its own, without an axis."""
    layer = dict(observe=GRID["observe"], seed=seed, model=dict(output_scale=scale))
    return run_sweep(layer, **engine)


# --- map: the bits of the stand-alone run --------------------------------------------


@pytest.mark.optimised(always=False)
@pytest.mark.parametrize(("scale", "seed"), [(0.5, 3), (2.0, 0)])
def test_a_run_of_the_grid_has_the_bits_of_the_run_alone(
    run_sweep, reference, assert_identical, scale, seed
):
    same_runs(
        alone(run_sweep, scale, seed),
        reference.sel(output_scale=scale, seed=seed),
        assert_identical,
    )


@pytest.mark.optimised(always=False)
def test_a_sweep_agrees_with_the_plain_jitted_run(run_alone, reference):
    layer = dict(observe=GRID["observe"], seed=3)
    _, records, _, settings = run_alone(layer)
    run = reference.sel(output_scale=1.0, seed=3)
    np.testing.assert_array_equal(run.step, settings["steps"])
    for name, values in records.items():
        np.testing.assert_allclose(run[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.optimised(always=False)
@pytest.mark.parametrize(
    "engine",
    [
        {"runs_per_chunk": 1},
        {"runs_per_chunk": 4},
        {"runs_per_chunk": 100},
        {"devices": (DEVICES[0],)},
        {"devices": (DEVICES[1],), "runs_per_chunk": 2},
        {"segment_seconds": 1e-9},
        {"segment_seconds": 1e-9, "runs_per_chunk": 3},
        {"segment_seconds": 1e9},
    ],
    ids=str,
)
def test_chunks_devices_and_segment_cuts_change_no_bit(
    run_sweep, reference, assert_identical, engine
):
    same_runs(run_sweep(GRID, **engine), reference, assert_identical)


@pytest.mark.optimised(always=False)
def test_the_place_in_the_grid_changes_no_bit(run_sweep, reference, assert_identical):
    other = run_sweep(
        GRID, dict(sweep=dict(output_scale=(2.0, 8.0, 0.5), seed=(0, 5, 3)))
    )
    for scale in (0.5, 2.0):
        for seed in (0, 3):
            place = dict(output_scale=scale, seed=seed)
            same_runs(other.sel(place), reference.sel(place), assert_identical)


@pytest.mark.optimised(always=False)
def test_a_static_axis_beside_them_changes_no_bit(
    run_sweep, reference, assert_identical
):
    grown = run_sweep(GRID, dict(sweep=dict(width=(3, 7))))
    assert grown.attrs["groups"] == 2
    same_runs(grown.sel(width=7), reference, assert_identical)


# --- neighbours ----------------------------------------------------------------------

RATES = dict(
    optimizer=dict(rule="plain", learning_rate=0.5),
    sweep=dict(learning_rate=(0.5, 1e30, 1.0), seed=(0, 1)),
    train=dict(steps=40, records=20),
)


@pytest.mark.optimised(always=False)
def test_a_run_that_diverges_is_flagged_nan_from_then_on_and_spoils_no_other(
    run_sweep, assert_identical
):
    spoilt = run_sweep(RATES, segment_seconds=1e-9)
    calm = run_sweep(RATES, dict(sweep=dict(learning_rate=(0.5, 1.0))))
    bad, good = dict(learning_rate=1e30), dict(learning_rate=[0.5, 1.0])
    same_runs(spoilt.sel(good), calm, assert_identical)
    assert spoilt.diverged.sel(bad).all() and not spoilt.diverged.sel(good).any()
    for seed in (0, 1):
        run = spoilt.sel(**bad, seed=seed)
        after = run.step >= run.diverged_at.item()
        assert 0 < run.diverged_at.item() <= 40
        for name in ("train_loss", "test_loss", "train_accuracy"):
            assert run[name][after].isnull().all(), name
            assert run[name][~after].notnull().all(), name


@pytest.mark.optimised(always=False)
def test_runs_that_end_early_at_different_steps_spoil_no_other(
    run_sweep, assert_identical
):
    """With tiny segments the living runs are dealt again over the devices."""
    early = run_sweep(STOPS, segment_seconds=1e-9)
    never = run_sweep(STOPS, dict(sweep=dict(threshold=(0.0,))))
    same_runs(early.sel(threshold=[0.0]), never, assert_identical)
    met = early.stop_met_at
    assert np.isnan(met.sel(threshold=0.0)).all()
    assert len(np.unique(met.values[np.isfinite(met.values)])) >= 4
    whole = never.sel(threshold=0.0)
    for threshold, seed in itertools.product(early.threshold.values, (0, 1)):
        run = early.sel(threshold=threshold, seed=seed)
        ended = run.stop_met_at.fillna(np.inf)
        loss = whole.train_loss.sel(seed=seed)
        np.testing.assert_array_equal(run.train_loss, loss.where(run.step <= ended))
        first = loss <= threshold
        if first.any():
            assert ended == run.step[first.argmax("step")]
    assert not early.diverged.any()


# --- vmap ----------------------------------------------------------------------------


@pytest.mark.optimised(always=False)
def test_vmap_agrees_with_map_to_rounding_early_on(run_sweep, reference):
    batched = run_sweep(GRID, mode="vmap", runs_per_chunk=4)
    assert batched.attrs["modes"] == "vmap"
    for name in ("train_loss", "test_loss", "weight_norm", "population_risk"):
        np.testing.assert_allclose(
            batched[name], reference[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


# --- compilations --------------------------------------------------------------------


def programs_compiled(compilations, run_sweep, *layers, **engine):
    """How often init and segment were compiled (they bear the engine's name)."""
    with compilations() as names:
        run_sweep(*layers, **engine)
    return sum("on_device" in name for name in names), len(names)


def seeds(count):
    return dict(sweep=dict(seed=tuple(range(count)), output_scale=(1.0,)))


def test_sixty_four_runs_compile_as_often_as_two(compilations, run_sweep):
    scales = tuple(np.linspace(0.5, 2, 8).tolist())
    many = dict(sweep=dict(output_scale=scales, seed=tuple(range(8))))
    two = dict(sweep=dict(output_scale=(1.0,), seed=(0, 1)))
    few = programs_compiled(compilations, run_sweep, two)
    assert few[0] == 2  # init and segment
    assert programs_compiled(compilations, run_sweep, many) == few
    chunked = programs_compiled(compilations, run_sweep, many, runs_per_chunk=10)
    assert chunked[0] == 2


def test_a_static_axis_of_k_values_compiles_k_groups(compilations, run_sweep):
    three = dict(sweep=dict(width=(3, 5, 7), seed=(0, 1)))
    assert programs_compiled(compilations, run_sweep, three)[0] == 2 * 3


def test_every_traced_setting_may_be_swept_without_another_group(resolved):
    plan = resolved(GRID).plan
    leaves = experiment.leaves_of(plan.experiment)
    traced = [path for path, leaf in leaves.items() if not leaf.static]
    assert {"model.epsilon", "optimizer.learning_rate", "seed"} <= set(traced)
    for path in traced:
        values = tuple((leaves[path].kind(v),) for v in (1, 2, 3))
        swept = programs.Plan(plan.experiment, Grid((Axis("a", (path,), values),)))
        assert len(swept.groups()) == 1, path


# --- what is compiled, and what is held ----------------------------------------------


@pytest.mark.optimised
@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_no_collective_is_in_the_training_program(resolved, mode):
    plan = resolved(GRID).plan
    program = programs.GroupProgram(plan.groups()[0], tuple(DEVICES))
    text = program.compiled(mode, sweep.layout(6, DEVICES)).as_text()
    assert "num_partitions=2" in text
    assert not [name for name in COLLECTIVES if name in text]


@pytest.mark.parametrize(
    ("sweep_of", "sets"),
    [
        (dict(output_scale=(0.5, 1.0, 2.0), epsilon=(0.1, 0.2)), 1),
        (dict(output_scale=(0.5, 1.0, 2.0), seed=(0, 1)), 2),
        (dict(init=(4, 5, 6)), 1),
        (dict(data=(4, 5, 6), init=(4, 5)), 3),
    ],
)
def test_runs_on_the_same_data_hold_it_once(resolved, sweep_of, sets):
    plan = resolved(dict(sweep=sweep_of)).plan
    (group,) = plan.groups()
    program = programs.GroupProgram(group, tuple(DEVICES))
    assert len(program.owners) == sets
    assert sorted(set(program.data_of)) == list(range(sets))
    members = np.arange(len(group.members))
    chunk = programs.Chunk(program, members, len(members), "map")
    (data, _), *_ = chunk.arguments(programs.make_pieces(program.steps, 0, 0, 1))
    room = min(len(members) // len(DEVICES), sets)
    for leaf in jax.tree.leaves(data):
        assert {len(part.data) for part in leaf.addressable_shards} == {room}
    for member in range(len(group.members)):
        own = experiment.make_dataset(group.runs[member])
        for a, b in zip(
            jax.tree.leaves(program.dataset(member)), jax.tree.leaves(own), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 3, 8, 10**6])
def test_segments_visit_every_record_once_within_their_budget(budget):
    steps = train.record_steps(500, 40, "log")
    at = index = 0
    seen = []
    while index < len(steps):
        pieces = programs.make_pieces(steps, at, index, budget)
        assert len(pieces.steps) == len(pieces.index) == programs.PIECES
        assert pieces.start == at and pieces.steps.sum() <= budget
        for length, number in zip(pieces.steps, pieces.index, strict=True):
            at += int(length)
            if number >= 0:
                seen.append((int(number), at))
        index += int((pieces.index >= 0).sum())
    assert seen == list(enumerate(steps))


@pytest.mark.parametrize("until", [0, 3, 39])
def test_a_segment_stops_at_the_record_it_is_told(until):
    steps = train.record_steps(500, 40, "log")
    pieces = programs.make_pieces(steps, 0, 0, 10**6, until)
    assert pieces.index.max() == min(until, programs.PIECES - 1)
    assert pieces.steps.sum() == steps[pieces.index.max()]


# --- the lazy reference --------------------------------------------------------------

TWIN = dict(
    task=dict(input_dim=8, train_size=24, test_size=12),
    model=dict(width=16, epsilon=0.5, linearized=True),
    optimizer=dict(learning_rate=0.5),
    reference=dict(lazy=True),
    train=dict(steps=400, records=30),
)


def gap(a, b):
    """The largest relative gap of two curves."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.max(abs(a - b) / b))


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (dict(), "lazy"),
        (dict(centered=True, output_scale=4.0), "lazy"),
        (dict(output_scale=2.0, init_scale=0.5), "plain"),
    ],
)
def test_the_linearised_twin_trained_by_the_engine_is_its_closed_form(
    run_sweep, model, rule
):
    run = run_sweep(TWIN, dict(model=model, optimizer=dict(rule=rule)))
    gaps = [gap(run[f"{n}_loss"], run[f"lazy_{n}_loss"]) for n in ("train", "test")]
    print("largest relative gap of the train and test loss:", gaps)
    assert max(gaps) < 1e-5
    assert run.train_loss[-1] < 0.8 * run.train_loss[0]


def test_the_exact_dynamics_have_the_reference_of_the_network(run_sweep):
    network, statistics = (
        run_sweep(TWIN, dict(model=dict(name=name, linearized=False)))
        for name in ("committee", "committee_dynamics")
    )
    for name in ("lazy_train_loss", "lazy_test_loss", "kernel_regression_loss"):
        np.testing.assert_allclose(statistics[name], network[name], rtol=1e-3)


def test_the_reference_ends_at_kernel_regression(run_sweep):
    run = run_sweep(TWIN, dict(task=dict(train_size=6), train=dict(steps=20_000)))
    np.testing.assert_allclose(
        run.lazy_test_loss[-1], run.kernel_regression_loss, rtol=1e-3
    )
    assert run.lazy_train_loss[-1] < 1e-4 * run.lazy_train_loss[0]


def test_the_centred_predictor_is_zero_at_step_zero_at_any_output_scale(run_sweep):
    """Up to the rounding of f - f, which the output scale multiplies."""
    layer = dict(model=dict(centered=True), sweep=dict(output_scale=(0.1, 1.0, 1000.0)))
    run = run_sweep(layer)
    first = run.train_loss.isel(step=0)
    np.testing.assert_allclose(first, first[0], rtol=1e-4)
    plain = run_sweep(dict(sweep=dict(output_scale=(0.1, 1000.0)))).train_loss[:, 0]
    assert plain[1] > 1e4 * first[1]


def test_the_recorded_population_risk_is_the_test_loss_of_any_wrapped_network(
    run_sweep,
):
    """20,000 test points give the risk to a few per cent."""
    run = run_sweep(
        dict(
            task=dict(test_size=20_000),
            observe=dict(population_risk={}),
            sweep=dict(
                linearized=(False, True),
                centered=(False, True),
                output_scale=(0.5, 3.0),
            ),
            zip=("linearized+centered",),
        )
    )
    np.testing.assert_allclose(run.test_loss, run.population_risk, rtol=0.1)
    terms = run.variance_error + run.misalignment_error + run.linear_power
    np.testing.assert_allclose(terms, run.population_risk, rtol=1e-5)


# --- no dead setting -----------------------------------------------------------------

LIVELY = dict(
    observe=dict(norms={}, kernel_alignment=dict(points=5), population_risk={}),
    optimizer=dict(learning_rate=0.7, momentum=0.1),
    loss=dict(tolerance=0.01),
    stop=dict(metric="train_loss", threshold=0.03, patience=1.0),
    train=dict(steps=60, records=60, spacing="linear"),
)
IDLE = ("seeds.split", "seeds.batches", "optimizer.rate_factor")
"""What plain full-batch descent of one network on two separate sets has no use for;
tests/test_transfer.py and tests/test_optim.py have theirs."""


def change_of(path, leaf, value):
    """Another good value."""
    if leaf.choices:
        return next(choice for choice in leaf.choices if choice != value)
    if leaf.kind is bool:
        return not value
    if leaf.kind is str:
        return {"stop.metric": "test_loss"}[path]
    if leaf.kind is int:
        return 2 * value + 1 if value > 0 else value + 2
    return 1.5 * value if value else 0.3


def differs(one, other):
    a, b = (np.asarray(v) for v in (one, other))
    return a.shape != b.shape or not np.array_equal(a, b, equal_nan=True)


def dead_settings(resolved, wanted):
    """Settings of a committee run that change nothing in the results."""
    plan = resolved(LIVELY).plan
    leaves = experiment.leaves_of(plan.experiment)
    paths = [p for p, leaf in leaves.items() if wanted(leaf)]
    paths = [path for path in paths if not path.startswith(IDLE)]
    values = experiment.settings_of(plan.experiment)
    base = tuple(values[path] for path in paths)
    rows = [base]
    for i, path in enumerate(paths):
        new = leaves[path].check(path, change_of(path, leaves[path], base[i]))
        assert new != base[i]
        rows.append((*base[:i], new, *base[i + 1 :]))
    axis = Axis("change", tuple(paths), tuple(rows))
    swept = programs.Plan(plan.experiment, Grid((axis,)))
    engine = planning.Engine(mode="map")
    results = runner.Sweeper(swept, engine, say=lambda _: None).run()
    first, changed = results.isel(change=0), results.isel(change=slice(1, None))
    assert paths and first.stop_met_at.notnull()
    return [
        path
        for i, path in enumerate(paths)
        if not any(
            differs(changed[name].isel(change=i), first[name])
            for name in results.data_vars
        )
    ]


def test_every_float_setting_changes_the_result(resolved):
    assert dead_settings(resolved, lambda leaf: not leaf.static) == []


@pytest.mark.slow
def test_every_setting_changes_the_result(resolved):
    assert dead_settings(resolved, lambda leaf: leaf.static) == []


# --- progress ------------------------------------------------------------------------


def test_progress_counts_every_run_to_its_end_and_names_what_was_reached(resolved):
    seen = []
    plan = resolved(RATES).plan
    sweeper = runner.Sweeper(
        plan,
        planning.Engine(mode="map", segment_seconds=1e-9, runs_per_chunk=4),
        say=lambda _: None,
        progress=seen.append,
    )
    results = sweeper.run()
    steps = [progress.run_steps for progress in seen]
    assert steps == sorted(steps)
    assert steps[-1] == seen[-1].run_steps_total == 6 * 40
    assert seen[-1].diverged == int(results.diverged.sum()) == 2
    assert seen[-1].memorised == int(results.t_train.notnull().sum())
    assert seen[-1].eta == 0 and seen[0].eta > 0
    _, _, seconds, trained = sweeper.position.spent["0"]
    assert seen[-1].pace == trained / seconds and trained <= steps[-1]
    assert all(now.eta == (240 - now.run_steps) / now.pace for now in seen)
    assert np.isnan(dataclasses.replace(seen[0], run_steps=1).eta)  # too early to say


def test_the_estimate_of_a_group_names_what_it_would_take(resolved):
    plan = resolved(GRID).plan
    (group,) = plan.groups()
    estimate = planning.estimate(group, planning.Engine(mode="map"))
    assert (estimate.mode, estimate.chunk) == ("map", 6)
    assert estimate.bytes > 0 and estimate.seconds > 0


@pytest.mark.parametrize("records, seeds", [(20, 1), (100, 1), (20, 21)])
def test_the_estimate_of_a_flow_goes_by_its_records(
    resolved, monkeypatch, records, seeds
):
    """Every call takes one second here, however many steps of however many runs it
    makes; of many runs a few are timed."""
    layer = dict(model=dict(name="committee_flow"), train=dict(steps=10**5))
    more = dict(train=dict(records=records), sweep=dict(seed=tuple(range(seeds))))
    plan = resolved(layer, more).plan
    (group,) = plan.groups()
    clock = itertools.count()
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(clock))
    devices = tuple(DEVICES[:2])
    estimate = planning.estimate(group, planning.Engine(mode="map", devices=devices))
    steps = train.record_steps(10**5, records, "log")
    timed = min(programs.PIECES, len(steps) - 1)
    runs = min(seeds, 2 * planning.PROBED)
    times = -(-seeds // 2) / -(-runs // 2)
    assert estimate.seconds == pytest.approx(times * (1 + len(steps) / timed))
    a_step = len(steps) / timed / 10**5
    assert estimate.seconds_per_run_step == pytest.approx(a_step / runs)
