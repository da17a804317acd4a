"""Watching from outside: what a log is told of a run, once and in order, whatever
happens to the run or to the log."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from grok_jax import launch
from grok_jax.engine import (
    config,
    live,
    measured,
    planning,
    programs,
    remote,
    runner,
    watch,
    workdirs,
)
from grok_jax.engine.grid import Axis, Grid
from grok_jax.settings import SettingError

SWEEP = dict(sweep=dict(epsilon=(0.25, 0.5), seed=(0, 1)))
HERE = Path()
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm")


class Fake:
    """A sink that remembers."""

    most = 3
    broken = False

    def __init__(self, folder, told):
        self.folder, self.at_first, self.closed = folder, dict(told), False
        self.put_so_far, self.flushed = [], 0

    def put(self, run, step, values):
        if self.broken:
            raise OSError("the server is gone\nand a long trace")
        self.put_so_far.append((run.name, step, dict(values)))

    def flush(self):
        self.flushed = len(self.put_so_far)

    def close(self):
        self.closed = True


@pytest.fixture
def sinks(monkeypatch):
    """Every sink of the kind `fake` that was opened."""
    opened = []

    def sink(folder, told):
        opened.append(Fake(folder, told))
        return opened[-1]

    monkeypatch.setattr(watch, "KINDS", {"fake": watch.Kind("json", sink)})
    return opened


@pytest.fixture
def sweep(resolved, tmp_path):
    """sweep(kind, stop_after=None) -> (results or None, what was said): a watched
    sweep of four runs in tmp_path/run, stopped after so many segments."""
    plan = resolved(SWEEP, dict(observe=dict(norms={}))).plan
    workdir = workdirs.Workdir(tmp_path / "run")

    def run(*kinds, stop_after=None, **engine):
        workdir.create()
        if not workdir.config.exists():
            workdirs.write_json(workdir.config, {"started": "today"})
        said = []
        logs = [watch.Log(kind, workdir, plan, said.append) for kind in kinds]
        own = watch.Watch(workdir, said.append, logs=logs)
        segments = iter(range(10**6))
        sweeper = runner.Sweeper(
            plan,
            planning.Engine(**{"mode": "map", "segment_seconds": 0.0, **engine}),
            folder=workdir.checkpoints,
            say=said.append,
            progress=own.show,
            seen=own.records,
            stop_requested=lambda: next(segments) == stop_after,
        )
        try:
            return sweeper.run(), said
        except runner.Interrupted:
            return None, said
        finally:
            own.close()

    return run


PAGE = """
from matplotlib.figure import Figure
from grok_jax.engine.config import make_config

def get_config(preset=""):
    return make_config(
        dict(
            task=dict(input_dim=6, train_size=14, test_size=9),
            model=dict(width=7),
            optimizer=dict(rule="lazy"),
            train=dict(steps=24, records=6),
            sweep=dict(epsilon=(0.25, 0.5), seed=(0, 1)),
            engine=dict(mode="map"),
        )
    )

def claims(results):
    return []

def figure(results):
    return Figure()
"""


@pytest.fixture
def launched(tmp_path):
    """launched(flag, ...) -> exit status of a small page run in tmp_path/run."""
    page = tmp_path / "page.py"
    page.write_text(PAGE)

    def run(*more):
        line = ["launch", f"--config={page}", f"--workdir={tmp_path / 'run'}"]
        return launch.main([*line, "--config.engine.devices=2", *more])

    return run


def curves_of(put):
    """{run: {name: [(step, value), ...]}} of what a sink was told."""
    found = {}
    for run, step, values in put:
        for name, value in values.items():
            found.setdefault(run, {}).setdefault(name, []).append((step, value))
    return found


def expected(results, runs):
    """The same from the results, of the first `runs`."""
    found = {}
    for epsilon, seed in [(e, s) for e in (0.25, 0.5) for s in (0, 1)][:runs]:
        own = results.sel(epsilon=epsilon, seed=seed)
        names = [n for n in results if results[n].dims[2:] == ("step",)]
        found[f"epsilon={epsilon},seed={seed}"] = {
            name: list(zip(own.step.values.tolist(), own[name].values, strict=True))
            for name in names
        }
    return found


def test_a_log_is_told_every_curve_of_every_run_once(sweep, sinks):
    results, said = sweep("fake")
    told = curves_of(sinks[0].put_so_far)
    progress = told.pop("progress")
    assert told == expected(results, Fake.most)
    assert set(CURVES) <= set(told["epsilon=0.25,seed=0"])
    assert progress["memorised"][-1][0] == 4 * 24  # over the steps of all runs
    assert sinks[0].closed and sinks[0].flushed == len(sinks[0].put_so_far)
    assert sum("the first 3 of 4 runs" in sentence for sentence in said) == 1


def test_after_a_stop_nothing_is_told_twice_and_nothing_is_left_out(sweep, sinks):
    assert sweep("fake", stop_after=2)[0] is None
    results, said = sweep("fake")
    assert any("Going on from checkpoint" in sentence for sentence in said)
    first, second = sinks
    assert 0 < len(first.put_so_far) < len(first.put_so_far + second.put_so_far)
    told = curves_of(first.put_so_far + second.put_so_far)
    steps = [step for step, _ in told.pop("progress")["memorised"]]
    assert steps == sorted(set(steps))
    assert told == expected(results, Fake.most)


def test_a_restart_from_an_older_checkpoint_tells_nothing_twice(sweep, sinks, tmp_path):
    """As after a kill: the records went further than the checkpoint."""
    sweep("fake", stop_after=1)
    workdir = workdirs.Workdir(tmp_path / "run")
    kept = {path: path.read_bytes() for path in files(workdir.checkpoints)}
    sweep("fake", stop_after=2)
    for path in files(workdir.checkpoints):
        path.unlink()
    for path in sorted(workdir.checkpoints.rglob("*"), reverse=True):
        path.rmdir()
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    results, _ = sweep("fake")
    told = curves_of([put for sink in sinks for put in sink.put_so_far])
    told.pop("progress")
    assert told == expected(results, Fake.most)


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_log_that_comes_late_is_told_what_was_before(sweep, sinks):
    sweep(stop_after=2)
    results, _ = sweep("fake")
    told = curves_of(sinks[0].put_so_far)
    told.pop("progress")
    assert told == expected(results, Fake.most)


def test_a_log_changes_no_bit(sweep, sinks, run_sweep, assert_identical):
    results, _ = sweep("fake")
    assert_identical(results, run_sweep(SWEEP, dict(observe=dict(norms={}))))


def test_a_log_that_fails_says_so_once_and_the_run_goes_on(sweep, sinks, monkeypatch):
    monkeypatch.setattr(Fake, "broken", True)
    results, said = sweep("fake")
    assert results is not None and results["train_loss"].notnull().all()
    (sentence,) = [each for each in said if "failed" in each]
    assert "--log=fake failed and is turned off (the server is gone); the" in sentence


def test_a_log_that_cannot_be_opened_says_so_and_the_run_goes_on(sweep, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    results, said = sweep("tensorboard")
    assert results is not None
    assert any("--log=tensorboard failed" in sentence for sentence in said)


def test_what_is_not_a_number_for_each_record_and_what_is_nan_is_left_out(
    sweep, sinks, tmp_path
):
    log = watch.Log("fake", workdirs.Workdir(tmp_path), plan_of(2), lambda _: None)
    curves = {"a": np.array([[1.0, np.nan]]), "b": np.full((1, 2), np.nan)}
    log.records(measured.Records(np.array([1]), np.array([0, 5]), curves))
    assert sinks[0].put_so_far == [("seed=1", 0, {"a": 1.0})]
    del sweep


def plan_of(seeds, values=None):
    values = values or range(seeds)
    axis = Axis("seed", ("seed",), tuple((value,) for value in values))
    layer = dict(train=dict(steps=7))
    own = config.resolve(config.make_config(layer)).plan.experiment
    return programs.Plan(own, Grid((axis,)))


def test_runs_have_names_of_their_own_that_are_fit_for_folders():
    assert [run.name for run in watch.shown(plan_of(2))] == ["seed=0", "seed=1"]
    settings = watch.shown(plan_of(2))[1].settings
    assert (settings["seed"], settings["train.steps"]) == (1, 7)
    assert settings["model.name"] == "committee"
    odd = watch.shown(plan_of(0, ["a/b", "a b", "x" * 400]))
    names = [run.name for run in odd]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[\w.=,+-]{1,200}", name) for name in names)
    alone = programs.Plan(plan_of(2).experiment, Grid(()))
    assert [run.name for run in watch.shown(alone)] == ["run"]


# --- TensorBoard ----------------------------------------------------------------------


def events(folder):
    """{run: {tag: [(step, value), ...]}} of the event files below a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.rglob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                own = found.setdefault(path.parent.name, {})
                pair = (event.step, value.simple_value)
                own.setdefault(value.tag, []).append(pair)
    return found


def test_tensorboard_holds_every_run_apart_over_a_stop(sweep, tmp_path, monkeypatch):
    # tensorboardX names a file by the second: a quick restart must not overwrite it
    import tensorboardX.event_file_writer as files

    second = SimpleNamespace(time=lambda: 1_700_000_000.5)
    monkeypatch.setattr(files, "time", second)
    sweep("tensorboard", stop_after=2)
    results, _ = sweep("tensorboard")
    told = events(tmp_path / "run" / "tensorboard")
    steps = [step for step, _ in told.pop("progress")["diverged"]]
    assert steps == sorted(set(steps)) and steps[-1] == 96
    assert told == expected(results, 4)


def test_the_launcher_logs_each_run_of_a_page(tmp_path, launched):
    assert launched("--log=tensorboard") == launch.DONE
    told = events(tmp_path / "run" / "tensorboard")
    results = workdirs.read_results(tmp_path / "run" / "results.nc")
    assert len(told) == 1 + results.diverged.size
    losses = told["epsilon=0.5,seed=1"]["test_loss"]
    own = results.test_loss.sel(epsilon=0.5, seed=1)
    assert losses == list(zip(own.step.values.tolist(), own.values, strict=True))


def test_the_config_is_written_before_a_log_is_opened(launched, monkeypatch):
    """W&B makes its ids from it, and a folder with a log alone would be refused."""
    found = []

    def sink(folder, told):
        found.append(workdirs.read_json(folder.parent / "config.json")["name"])
        return Fake(folder, told)

    monkeypatch.setattr(watch, "KINDS", {"fake": watch.Kind("json", sink)})
    assert launched("--log=fake") == launch.DONE
    assert len(found) == 1


# --- Weights & Biases -----------------------------------------------------------------

OFFLINE = """
import sys
from pathlib import Path
from grok_jax.engine import watch
assert watch.check("wandb", Path()) == ["wandb"]
for steps in ((0, 10), (20, 30)):  # and a resume
    sink = watch.WandB(Path(sys.argv[1]) / "wandb", {})
    for seed in (0, 1):
        settings = {"seeds.seed": seed, "optimizer.betas": (0.9, 0.99)}
        for step in steps:
            run = watch.Shown(f"seed={seed}", settings)
            sink.put(run, step, {"train_loss": float(step + seed)})
    sink.flush()
    sink.close()
"""


def wandb_parts(content):
    """The records in a file of W&B: a LevelDB log after seven bytes of its own."""
    at, parts = 7, b""
    while at + 7 < len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = (
            int.from_bytes(content[at + 4 : at + 6], "little"),
            content[at + 6],
        )
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield parts
            parts = b""


def wandb_records(workdir):
    """What W&B wrote offline: {(id, name, group, seed): [(step, loss), ...]}."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for path in sorted(workdir.glob("wandb/offline-run-*/*.wandb")):
        key = None
        for part in wandb_parts(path.read_bytes()):
            one = Record.FromString(part)
            if one.HasField("run"):
                config = {
                    u.key: json.loads(u.value_json) for u in one.run.config.update
                }
                own = (one.run.run_id, one.run.display_name, one.run.run_group)
                key = (*own, config["seeds.seed"])
            if one.HasField("history"):
                items = one.history.item
                row = {"".join(i.nested_key) or i.key: i.value_json for i in items}
                row = {name: json.loads(row[name]) for name in ("_step", "train_loss")}
                found.setdefault(key, []).append(tuple(row.values()))
    return found


needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None,
    reason="W&B is not installed: pip install 'grok_jax[wandb]'",
)


def python(code, *arguments, **environment):
    """A process of its own: W&B starts another and reads its environment once."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@needs_wandb
def test_wandb_offline_has_a_run_for_each_run_with_an_id_that_a_resume_keeps(tmp_path):
    workdir = tmp_path / "k1"
    (workdir / "wandb").mkdir(parents=True)
    (workdir / "config.json").write_text("{}")
    done = python(OFFLINE, workdir, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    told = wandb_records(workdir)
    assert {key[1:] for key in told} == {("seed=0", "k1", 0), ("seed=1", "k1", 1)}
    assert len({key[0] for key in told}) == 2
    for (_, _, _, seed), rows in told.items():
        assert rows == [(step, step + seed) for step in (0, 10, 20, 30)]


@needs_wandb
def test_wandb_without_a_key_is_a_sentence(tmp_path):
    code = "from grok_jax.engine import watch; watch.check('wandb', watch.Path())"
    nothing = dict(HOME=str(tmp_path), NETRC=str(tmp_path / "none"), WANDB_API_KEY="")
    done = python(code, **nothing, WANDB_MODE="online")
    assert "SettingError: --log=wandb finds no key; run `wandb login`" in done.stderr


# --- the flag -------------------------------------------------------------------------


def test_the_flag_names_kinds(sinks):
    assert watch.check("", HERE) == []
    assert watch.check("fake, fake,", HERE) == ["fake"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensorbord", "--log knows no 'tensorbord'; nearest: tensorboard."),
        ("tensorboard,wanb", "nearest: wandb."),
        ("tensorboard", "pip install 'grok_jax[tensorboard]'."),
        ("wandb", "pip install 'grok_jax[wandb]'."),
    ],
)
def test_an_unknown_or_missing_log_is_refused_before_anything_is_written(
    text, said, launched, tmp_path, monkeypatch, capsys
):
    if "pip" in said:
        monkeypatch.setitem(sys.modules, watch.KINDS[text].library, None)
    assert launched(f"--log={text}") == launch.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: --log") and said in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
    with pytest.raises(SettingError):
        watch.check(text, HERE)


# --- progress.json --------------------------------------------------------------------


def test_progress_is_whole_whenever_it_is_read(tmp_path):
    workdir = workdirs.Workdir(tmp_path)
    own = watch.Watch(workdir, lambda _: None)
    done = threading.Event()

    def write():
        for steps in range(150):
            own.show(runner.Progress(1.0, steps, 150, 2.0, 2.0, 3, 2, 1, 0))
        done.set()

    own.show(runner.Progress(1.0, 0, 150, 2.0, 2.0, 3, 2, 1, 0))
    writer = threading.Thread(target=write)
    writer.start()
    read = []
    while not done.is_set():
        read.append(json.loads(workdir.progress.read_text())["run_steps"])
    writer.join()
    assert read == sorted(read) and len(set(read)) > 3


def test_in_a_bucket_the_last_progress_is_written_on_closing():
    workdir = workdirs.Workdir("memory://bucket/ended")
    own = watch.Watch(workdir, lambda _: None)
    for steps in (0, 80, 150):  # within the pause between two writes
        own.show(runner.Progress(1.0, steps, 150, 2.0, 2.0, 3, 2, 1, 0))
    assert workdirs.read_json(workdir.progress)["run_steps"] == 0
    own.close()
    assert workdirs.read_json(workdir.progress)["run_steps"] == 150


def test_a_sweep_without_steps_is_done():
    assert runner.Progress(1.0, 0, 0, 0.0, 0.0, 3, 0, 0, 0).share == 1


def test_the_line_says_how_far_and_what_the_runs_have_reached():
    said = watch.progress_text(runner.Progress(75.0, 30, 120, 9.0, 2.0, 6, 3, 1, 1))
    assert said == (
        " 25%  1:15 gone, 0:45 of training left  9 run-steps/s  of 6 runs: "
        "3 memorised, 1 generalised, 1 diverged"
    )


def test_logs_need_a_disk():
    with pytest.raises(
        SettingError, match="needs a --workdir on a disk, not memory://b/r"
    ):
        watch.check("tensorboard", remote.path("memory://b/r"))


def test_a_terminal_shows_a_bar_and_anything_else_lines():
    out, said = io.StringIO(), []
    terminal = Console(file=out, force_terminal=True, width=80)
    own = watch.Watch(None, said.append, watch.bar(terminal))
    own.show(runner.Progress(75.0, 30, 120, 9.0, 2.0, 6, 3, 1, 1))
    own.close()
    shown = " ".join(out.getvalue().split())
    assert "25% 1:15 gone" in shown and "3 memorised" in shown and not said
    assert watch.bar(Console(file=out, force_terminal=False)) is None


def displayed(curves, height):
    """What a terminal of 100 columns and so many lines shows of a run."""
    out = io.StringIO()
    own = watch.Watch(
        None,
        print,
        watch.bar(Console(file=out, force_terminal=True, width=100, height=height)),
    )
    own.curves = curves
    own.show(runner.Progress(75.0, 30, 120, 9.0, 2.0, 6, 3, 1, 1))
    own.close()
    return out.getvalue()


def test_a_terminal_shows_the_curves_above_the_bar_where_there_is_room():
    curves = live.Curves(None, plan_of(2), print)
    loss = np.array([[4.0, 2.0], [8.0, 2.5]])
    steps, both = np.array([0, 5]), {"train_loss": loss, "test_loss": 2 * loss}
    curves.add(measured.Records(np.arange(2), steps, both))
    shown = displayed(curves, 40)
    assert shown.index("train 2.25 ") < shown.index("25%  1:15 gone")
    assert "test 4.5 " in shown and "step 0" in shown
    for little in (displayed(curves, 15), displayed(None, 40)):
        assert "25%  1:15 gone" in little and "train " not in little


def test_a_notebook_without_widgets_has_lines(monkeypatch):
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert watch.bar(notebook) is None
