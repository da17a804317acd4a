"""`grok-jax watch`: what it shows of a running and a finished workdir, and what it
refuses."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

import grok_jax
from grok_jax import watch
from grok_jax.engine import charts, config, live, remote, workdirs
from grok_jax.engine.measured import Records
from grok_jax.engine.runner import Progress

SETTINGS = dict(
    name="tiny",
    task=dict(name="polynomial", input_dim=6, train_size=14, test_size=9),
    model=dict(name="committee", width=7),
    optimizer=dict(name="gradient_descent", rule="lazy"),
    train=dict(steps=8, records=4),
    sweep=dict(epsilon=(0.25, 1.0), seed=(0, 1)),
)
PLAN = config.resolve(config.make_config(SETTINGS)).plan


@pytest.fixture
def place(tmp_path):
    """A workdir in which a run has begun."""
    workdir = workdirs.Workdir(tmp_path / "run")
    workdir.create()
    workdirs.write_json(workdir.config, {"name": "tiny", "description": "so small"})
    return workdir


def progress(place, done, at=None):
    now = Progress(5.0, done, 32, 10.0, 10.0, 4, 2, 1, 0)
    at = 1e12 if at is None else at
    workdirs.write_json(place.progress, {**now.__dict__, "eta": now.eta, "at": at})


def records(steps, *losses):
    """Records of the first runs: a train loss for each, at every step."""
    loss = np.repeat(np.array(losses, float)[:, None], len(steps), 1)
    curves = {"train_loss": loss, "test_loss": 2 * loss, "weight_norm": loss}
    return Records(np.arange(len(losses)), np.array(steps), curves)


def shown(look, width=80, plain=False):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(watch.view(look, width, plain))
    return console.export_text()


# --- curves.json ----------------------------------------------------------------------


def test_curves_of_a_running_sweep_are_those_that_were_recorded(place):
    curves = live.Curves(place, PLAN, print)
    curves.add(records([0, 2], 4.0, 1.0))
    curves.add(records([4], np.nan, 0.5))
    curves.write()
    count, runs = live.read(place)
    assert count == 4 and [run.place for run in runs] == [
        {"epsilon": 0.25, "seed": 0},
        {"epsilon": 0.25, "seed": 1},
    ]
    assert set(runs[0].curves) == {"train_loss", "test_loss"}
    np.testing.assert_array_equal(runs[0].curves["train_loss"], [[0, 2], [4, 4]])
    np.testing.assert_array_equal(runs[1].curves["test_loss"], [[0, 2, 4], [2, 2, 1]])
    steps, values = live.median(runs, "train_loss")
    assert steps.tolist() == [0, 2, 4] and values.tolist() == [2.5, 2.5, 0.5]


def test_a_large_grid_is_shown_by_runs_spread_over_it(place):
    many = {**SETTINGS, "sweep": dict(epsilon=(0.25, 1.0), seed=tuple(range(500)))}
    curves = live.Curves(place, config.resolve(config.make_config(many)).plan, print)
    curves.add(records([0], *np.ones(1000)))
    curves.write()
    count, runs = live.read(place)
    assert count == 1000 and len(runs) == live.MOST
    assert {run.place["epsilon"] for run in runs} == {0.25, 1.0}


def test_a_full_disk_leaves_the_sweep_alone(place, monkeypatch):
    def full(path, content):
        raise workdirs.WorkdirError(f"{path.name} could not be written: full.")

    monkeypatch.setattr(workdirs, "write_bytes", full)
    said = []
    curves = live.Curves(place, PLAN, said.append)
    for step in range(3):
        curves.add(records([step], 1.0))
        curves.write()
    assert said == [
        "curves.json could not be written: full. It is left out; the sweep goes on."
    ]


def test_a_sweep_writes_its_curves_as_it_goes_and_removes_them(tmp_path, monkeypatch):
    write, seen = workdirs.write_bytes, []

    def noting(path, content):
        if path.name == "curves.json":
            seen.append(json.loads(content))
        write(path, content)

    monkeypatch.setattr(workdirs, "write_bytes", noting)
    results = grok_jax.run(SETTINGS, tmp_path / "run", say=lambda _: None)
    assert not (tmp_path / "run" / "curves.json").exists()
    (run, *_), last = seen[-1]["shown"], results.train_loss[0, 0]
    steps, values = run["curves"]["train_loss"]
    np.testing.assert_allclose(values, last.sel(step=steps), rtol=1e-4)
    assert steps == results.step.values.tolist()


# --- what is shown --------------------------------------------------------------------


def test_a_running_sweep_is_its_progress_and_its_curves(place):
    live.Curves(place, PLAN, print).add(records([0, 2, 4], 4.0, 1.0))
    progress(place, 16)
    seen = watch.look(place, {})
    assert not seen.finished
    text = shown(seen)
    for words in ("tiny: so small", " 50%", "2 memorised", "median of 2 of 4 runs"):
        assert words in text, words
    assert "train 2.5 " in text and "test 5 " in text and "step 0" in text
    assert re.search("[\u2801-\u28ff]", text)
    chosen = watch.look(place, {"seed": "1", "epsilon": "0.25"})
    assert "train 1 " in shown(chosen) and "at seed 1, epsilon 0.25" in shown(chosen)


def test_before_the_first_step_it_says_so(place):
    seen = watch.look(place, {})
    assert "No step yet" in shown(seen) and "No curves are on the disk yet" in shown(
        seen
    )


def test_a_run_without_news_may_have_been_stopped(place):
    progress(place, 16, at=0.0)
    said = " ".join(watch.look(place, {}).lines)
    assert "or it was stopped; the line that started it goes on" in said


def test_a_complete_run_is_shown_with_all_its_runs(tmp_path, capsys):
    results = grok_jax.run(SETTINGS, tmp_path / "run", say=lambda _: None)
    assert watch.main(["watch", str(tmp_path / "run")]) == watch.DONE
    said = capsys.readouterr().out
    assert "100%" in said and "claims are not tested" in said
    last = results.train_loss.isel(step=-1).median().item()
    assert "median of 4 runs" in said and f"train {last:.3g} " in said
    claims = [dict(holds=True), dict(holds=False)]
    workdirs.write_json(workdirs.Workdir(tmp_path / "run").claims, claims)
    assert "1 of 2 claims hold" in shown(
        watch.look(workdirs.Workdir(tmp_path / "run"), {"epsilon": "1"})
    )


def test_it_follows_a_run_to_its_end(tmp_path, monkeypatch, capsys):
    """Each wait of the watcher lets the run go on by one stage."""
    folder = tmp_path / "run"
    place = workdirs.Workdir(folder)
    place.create()
    workdirs.write_json(place.config, {"name": "tiny"})
    stages = iter((lambda: progress(place, 8), lambda: finish(place)))
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(stages)())
    assert watch.main(["watch", str(folder)]) == watch.DONE
    said = capsys.readouterr().out
    assert "No step yet" in said and " 25%" in said and "Complete; " in said


def finish(place):
    progress(place, 32)
    results = grok_jax.run(SETTINGS, say=lambda _: None)
    workdirs.write_results(place.results, results)


def test_in_a_terminal_the_picture_is_drawn_in_place(place, monkeypatch):
    stages = iter((lambda: progress(place, 8), lambda: finish(place)))
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(stages)())
    screen = io.StringIO()
    console = Console(force_terminal=True, width=100, file=screen)
    first = watch.look(place, {})
    assert watch._live(console, watch._looks(place, {}, first, 0.0)) == watch.DONE
    assert "Complete; " in screen.getvalue()


def test_ctrl_c_ends_the_watching_alone(place, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupted)
    assert watch.main(["watch", str(place.path)]) == watch.DONE


def test_a_bucket_is_watched_too(monkeypatch, capsys):
    pytest.importorskip("upath")
    folder = remote.path("memory://watched/run")
    place = workdirs.Workdir(folder)
    workdirs.write_json(place.config, {"name": "far"})
    progress(place, 16)
    live.Curves(place, PLAN, print).add(records([0, 2], 4.0))
    assert watch.main(["watch", str(folder), "--once"]) == watch.DONE
    said = capsys.readouterr().out
    assert "far" in said and " 50%" in said and "train 4 " in said


@pytest.mark.parametrize("terminal", [False, True])
def test_a_store_that_does_not_answer_for_a_while_does_not_end_it(
    terminal, monkeypatch
):
    pytest.importorskip("upath")
    place = workdirs.Workdir(remote.path(f"memory://away/{terminal}"))
    workdirs.write_json(place.config, {"name": "far"})
    progress(place, 8)
    read = live.read

    def gone(_):
        raise ConnectionError("reset by peer")

    def back():
        monkeypatch.setattr(live, "read", read)
        finish(place)

    stages = iter((lambda: monkeypatch.setattr(live, "read", gone), back))
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(stages)())
    screen = io.StringIO()
    console = Console(force_terminal=terminal, width=200, file=screen)
    follow = watch._live if terminal else watch._lines
    first = watch.look(place, {})
    assert follow(console, watch._looks(place, {}, first, 0.0)) == watch.DONE
    said = screen.getvalue()
    assert "cannot be read: reset by peer." in said and "Complete; " in said


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_picture_has_its_curves_where_they_are(log_y, plain):
    falling = (np.arange(5), np.array([16.0, 8, 4, 2, 1]))
    constant = (np.arange(5), np.full(5, 16.0))
    canvas = charts.draw(
        [constant, falling], width=20, height=6, log_y=log_y, plain=plain
    )
    assert (canvas.top, canvas.bottom, canvas.left, canvas.right) == (
        "16",
        "1",
        "0",
        "4",
    )
    assert [len(row) for row in canvas.rows] == [20] * 6
    assert canvas.curve[0, 0] == 1 and canvas.curve[0, -1] == 0  # the later one on top
    assert canvas.curve[-1, -1] == 1 and canvas.curve[-1, 0] == -1
    signs = {sign for row in canvas.rows for sign in row}
    assert (
        signs <= set(" ox") if plain else all(s == " " or s > "\u2800" for s in signs)
    )


@pytest.mark.parametrize("values", [[], [np.nan], [-1.0], [0.0]])
def test_nothing_to_draw_is_no_picture(values):
    curve = (np.arange(len(values)), np.array(values))
    assert charts.draw([curve], width=9, height=3, log_y=True) is None


def test_one_point_is_a_picture():
    canvas = charts.draw([(np.array([3]), np.array([2.0]))], width=9, height=3)
    assert canvas.top == canvas.bottom == "2" and canvas.left == canvas.right == "3"


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name one run folder: grok-jax watch DIR."),
        (["a", "b"], "Name one run folder"),
        (["nowhere"], "There is no folder"),
        (["empty"], "holds no config.json; no run has begun in it."),
        (["run", "--seconds=0"], "seconds"),
        (["run", "--second=1"], "There is no flag --second; nearest: --seconds"),
        (["run", "--select=epsilon"], "--select takes AXIS=VALUE,...; 'epsilon' is"),
        (["run", "--select=epsilom=1"], "no axis 'epsilom'; nearest: epsilon."),
        (["run", "--select=epsilon=7"], "no run with curves is there; known: epsilon"),
        (["other://bucket/run"], "No file system is known for other://"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_a_sentence(words, said, place, tmp_path, monkeypatch, capsys):
    live.Curves(place, PLAN, print).add(records([0], 1.0))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert watch.main(["watch", *words]) == watch.WRONG_USAGE
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("progress.json", "{", "missing or not readable"),
        ("progress.json", "{}", "was not written by this version of grok_jax."),
        ("curves.json", "{", "missing or not readable"),
    ],
)
def test_a_damaged_file_is_a_sentence(name, content, said, place, capsys):
    (place.path / name).write_text(content)
    assert watch.main(["watch", str(place.path), "--once"]) == watch.WRONG_USAGE
    assert said in capsys.readouterr().err
