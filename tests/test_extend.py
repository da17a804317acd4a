"""More of a finished sweep, and the weights of its runs."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import grok_jax
from grok_jax import experiment
from grok_jax.engine import config, extend, machine, session, states, workdirs
from grok_jax.engine.workdirs import WorkdirError
from grok_jax.settings import SettingError

# of all of them: `finished` is made once, and its bits are compared with later ones
pytestmark = pytest.mark.optimised(always=False)

LAYER = dict(
    task=dict(input_dim=6, train_size=14, test_size=9),
    model=dict(width=7),
    optimizer=dict(rule="lazy"),
    observe=dict(norms={}),
    train=dict(steps=24, records=6, spacing="linear"),
    sweep=dict(output_scale=(0.5, 2.0), width=(7, 8), seed=(0, 1)),
)
MORE_VALUES = dict(sweep=dict(output_scale=(0.25, 0.5, 2.0), seed=(2, 1, 0)))
MORE_STEPS = dict(train=dict(steps=48, records=12))


def run(workdir, *layers, say=lambda line: None):
    return grok_jax.run(config.make_config(LAYER, *layers), workdir, say=say)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def made(monkeypatch):
    """The members of every chunk that is started from here on."""
    started = []
    first = extend.Plan.groups

    def groups(plan):
        own = first(plan)
        started[:] = [number for group in own for number in group.members]
        return own

    monkeypatch.setattr(extend.Plan, "groups", groups)
    return started


@pytest.mark.parametrize("more", [MORE_VALUES, MORE_STEPS], ids=["values", "steps"])
def test_an_extended_sweep_is_the_one_made_at_once(
    folder, more, monkeypatch, assert_identical
):
    before = workdirs.read_results(folder / "results.nc")
    numbers = made(monkeypatch)
    extended = run(folder, more)
    assert len(numbers) == (18 - 8 if more is MORE_VALUES else 8)
    whole = run(None, more)
    assert_identical(extended.data_vars, whole.data_vars)
    same = {name: before[name].values for name in ("output_scale", "width", "seed")}
    own = extended.sel(step=before.step, **same)
    np.testing.assert_array_equal(own.train_loss, before.train_loss)
    held = workdirs.read_results(folder / "results.nc")
    assert_identical(held.data_vars, extended.data_vars)
    again = run(folder, more, say=pytest.fail)  # complete: only read
    assert_identical(again.data_vars, extended.data_vars)


def test_an_extension_goes_on_where_it_was_stopped(folder, assert_identical):
    resolved = config.resolve(config.make_config(LAYER, MORE_STEPS))
    place = workdirs.Workdir(folder)
    engine = dataclasses.replace(
        machine.set_up_jax(resolved.engine), segment_seconds=1e-9, runs_per_chunk=2
    )
    about = session.about_run(resolved, engine, "")
    calls = iter(range(100))

    def once():
        more = extend.find(place, resolved)
        watch = session.watch_lib.Watch(place, lambda line: None)
        return session.sweep(
            resolved, engine, place, about, watch, lambda: next(calls) == 5, more
        )

    with pytest.raises(session.runner.Interrupted):
        once()
    before = workdirs.read_results(place.results)
    assert before.step.values[-1] == 24  # the finished sweep stands
    assert_identical(once().data_vars, run(None, MORE_STEPS).data_vars)


def test_an_extension_killed_before_its_config_is_written_is_complete(
    folder, assert_identical
):
    old = (folder / "config.json").read_bytes()
    extended = run(folder, MORE_VALUES)
    (folder / "config.json").write_bytes(old)
    assert_identical(
        run(folder, MORE_VALUES, say=pytest.fail).data_vars, extended.data_vars
    )


def test_claims_figures_and_command_of_the_old_results_do_not_outlive_them(folder):
    place = workdirs.Workdir(folder)
    workdirs.write_json(place.claims, [])
    (place.figures / "figure.png").write_bytes(b"old")
    about = workdirs.read_json(place.config)
    workdirs.write_json(place.config, {**about, "command": "the first"})
    extended = run(folder, MORE_VALUES)
    assert not place.claims.exists() and not list(place.figures.iterdir())
    command = workdirs.read_json(place.config)["command"]
    assert command == extended.attrs["command"] == f"grok_jax.run(..., {str(folder)!r})"


@pytest.mark.parametrize("asked", [MORE_VALUES, MORE_STEPS], ids=["values", "steps"])
def test_an_extension_that_ended_meanwhile_is_not_overwritten(
    folder, asked, monkeypatch
):
    """Another call ends while this one reads its data, before it has the lock."""
    check = session.programs.check_data

    def meanwhile(plan):
        monkeypatch.setattr(session.programs, "check_data", check)
        run(folder, MORE_STEPS)

    monkeypatch.setattr(session.programs, "check_data", meanwhile)
    if asked is MORE_STEPS:
        assert run(folder, asked).step.values[-1] == 48
    else:
        with pytest.raises(WorkdirError, match="holds another config"):
            run(folder, asked)
    results = workdirs.read_results(folder / "results.nc")
    assert results.step.values[-1] == 48 and results.sizes["output_scale"] == 2


def test_the_progress_of_an_extension_counts_and_shows_what_it_runs(
    folder, monkeypatch
):
    monkeypatch.setattr(session.live, "MOST", 3)
    shown, show = [], session.watch_lib.Watch.show

    def noting(watch, progress):
        show(watch, progress)
        assert watch.curves is not None
        shown.append(
            (progress.runs, [run.place["seed"] for run in watch.curves.runs()])
        )

    monkeypatch.setattr(session.watch_lib.Watch, "show", noting)
    run(folder, dict(sweep=dict(seed=(2, 1, 0))))
    assert shown[-1] == (4, [2, 2, 2])


def test_an_extension_that_was_given_up_leaves_no_trace(folder, assert_identical):
    """Killed with its states written and no checkpoint, then a shorter one is made."""
    short = dict(train=dict(steps=36, records=9))
    weights = grok_jax.params(folder, output_scale=2.0, width=8, seed=1)
    held = [folder / "results.nc", folder / "config.json"]
    held = {path: path.read_bytes() for path in held}
    run(folder, MORE_STEPS)
    shutil.rmtree(folder / "checkpoints")
    for path, content in held.items():
        path.write_bytes(content)
    again = grok_jax.params(folder, output_scale=2.0, width=8, seed=1)
    np.testing.assert_array_equal(again["w"], weights["w"])
    extended = run(folder, short)
    assert_identical(extended.data_vars, run(None, short).data_vars)
    assert_identical(run(folder, MORE_STEPS).data_vars, run(None, MORE_STEPS).data_vars)


@pytest.mark.parametrize(
    "own",
    [
        dict(sweep=dict(steps=(4, 8))),
        dict(arms=dict(a=dict(train=dict(steps=4)), b=dict(train=dict(steps=8)))),
    ],
    ids=["swept", "of arms"],
)
def test_steps_that_runs_have_of_their_own_are_not_extended(tmp_path, own):
    few = dict(sweep=dict(output_scale=(2.0,), width=(7,), seed=(0,)))
    run(tmp_path / "run", few, own)
    with pytest.raises(WorkdirError, match="holds another config"):
        run(tmp_path / "run", few, own, dict(train=dict(steps=30)), changed(own))


def changed(own):
    """The same with longer steps of an arm; nothing to change where they are swept."""
    return dict(arms=dict(b=dict(train=dict(steps=16)))) if "arms" in own else {}


def test_runs_that_had_ended_stay_so(tmp_path, assert_identical):
    stops = dict(stop=dict(metric="train_loss", threshold=0.05))
    run(tmp_path / "run", stops)
    extended = run(tmp_path / "run", stops, MORE_STEPS)
    assert 0 < extended.stop_met_at.notnull().sum() < extended.stop_met_at.size
    ended = extended.where(extended.stop_met_at <= 24, drop=True)
    assert ended.train_loss.sel(step=slice(25, None)).isnull().all()
    whole = run(None, stops, MORE_STEPS)
    assert_identical(extended.data_vars, whole.data_vars)


@pytest.mark.parametrize(
    ("layer", "error", "said"),
    [
        (dict(sweep=dict(seed=(0, 5))), WorkdirError, "holds another config"),
        (dict(train=dict(steps=12)), WorkdirError, "holds another config"),
        (dict(model=dict(epsilon=0.5)), WorkdirError, "holds another config"),
        ({**MORE_VALUES, **MORE_STEPS}, SettingError, "fewer steps and fewer runs"),
    ],
)
def test_what_is_no_extension_is_refused(folder, layer, error, said):
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=said):
        run(folder, layer)
    assert sorted(folder.rglob("*")) == before


def test_steps_need_the_states(folder):
    shutil.rmtree(folder / "states")
    with pytest.raises(SettingError, match="final state of 4 of 4 runs is not kept"):
        run(folder, MORE_STEPS)


# --- weights -------------------------------------------------------------------------


def test_the_weights_of_a_run_are_those_it_ends_with(finished):
    plan = config.resolve(config.make_config(LAYER)).plan
    point = {"model.output_scale": 2.0, "model.width": 8, "seed": 1}
    own = experiment.with_settings(plan.experiment, point)
    one, data = experiment.make(own), experiment.make_dataset(own)
    end = jax.jit(lambda: one.advance(one.init(data), data, 0, 24))()
    weights = grok_jax.params(finished, output_scale=2.0, width=8, seed=1)
    np.testing.assert_allclose(weights["w"], end.params["w"], rtol=1e-5, atol=1e-6)


def test_the_weights_are_those_of_the_last_step(folder):
    short = grok_jax.params(folder, output_scale=2.0, width=8, seed=1)
    run(folder, MORE_STEPS)
    long = grok_jax.params(folder, output_scale=2.0, width=8, seed=1)
    assert not np.array_equal(short["w"], long["w"])


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (dict(seed=1), r"4 runs are there; choose among output_scale 0.5, 2.0; width"),
        (dict(seed=7), r"There is no run with seed 7; there are output_scale 0.5, 2.0"),
        (dict(sed=1), r"no setting that tells these runs apart, 'sed'; nearest: seed"),
    ],
)
def test_a_choice_of_no_run_or_of_several_is_a_sentence(finished, where, said):
    with pytest.raises(SettingError, match=said):
        grok_jax.params(finished, **where)


def test_states_that_take_too_much_are_not_kept(tmp_path):
    said = []
    run(tmp_path / "run", dict(engine=dict(keep_gb=1e-6)), say=said.append)
    assert any("are not kept: the total would exceed engine.keep_gb" in s for s in said)
    with pytest.raises(SettingError, match="No states of ended runs"):
        grok_jax.params(tmp_path / "run", seed=0)
    with pytest.raises(SettingError, match=r"There is no folder .*rum"):
        grok_jax.params(tmp_path / "rum", seed=0)


def test_a_damaged_file_of_states_is_a_sentence(folder):
    path = next((folder / "states").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkdirError, match=f"{path.name} is damaged"):
        grok_jax.params(folder, seed=0)


def test_files_name_the_runs_and_the_step(finished):
    places = states.States(finished / "states").places()
    assert len(places) == 8 and {own.step for own in places} == {24}
    points = {json.dumps(own.point, sort_keys=True) for own in places}
    assert len(points) == 8
