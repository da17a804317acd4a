"""The command line, end to end: every test starts the real launcher, in this process
or, where signals and limits are at stake, in one of its own."""

import errno
import os
import random
import re
import shutil
import signal
import time
import types
from pathlib import Path

import processes
import pytest
import xarray as xr
from processes import DESCENT, K3, ROOT

from grok_jax import claims as claims_lib
from grok_jax import launch
from grok_jax.engine import checkpoint, watch, workdirs

pytestmark = pytest.mark.optimised(loops=False)

AXES = {"epsilon", "output_scale", "seed"}
LONG = (
    DESCENT,
    "--config.train.steps=8000",
    "--config.train.records=20",
    "--config.input_dim=48",
    "--config.train_size=300",
    "--config.stop.metric=",
    "--config.sweep.seed=0",
    "--config.engine.devices=2",
    "--config.engine.segment_seconds=0.05",
    "--config.engine.checkpoint_seconds=0.2",
)
"""K3 with four runs of a few seconds in all: time enough to be killed in."""
SHORT = (
    *LONG,
    "--config.train.steps=30",
    "--config.input_dim=6",
    "--config.train_size=14",
    "--config.test_size=9",
)


def line(workdir, *more, config=f"{K3}:smoke"):
    return ["launch", f"--config={config}", f"--workdir={workdir}", *more]


def snapshot(folder):
    """path -> (time of the last change, content), of every file but the lock."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    files = (path for path in paths if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An uninterrupted run of LONG; tests that change it copy it first."""
    workdir = tmp_path_factory.mktemp("done") / "run"
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    return workdir


@pytest.fixture
def copy_of(tmp_path):
    def copy(workdir):
        return shutil.copytree(workdir, tmp_path / "copy")

    return copy


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """(workdir, exit status, output) of LONG stopped by SIGTERM on its way."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    process = processes.start_ending(line(workdir, *LONG)[1:], 0.3, signal.SIGTERM)
    output, _ = process.communicate()
    return workdir, process.returncode, output


def test_a_whole_run_leaves_config_results_claims_and_figures(done):
    about = workdirs.read_json(done / "config.json")
    assert about["config"]["train.steps"] == 8_000
    assert about["command"].startswith("python -m grok_jax.launch --config=")
    assert {"versions", "device", "precision", "git_commit"} <= about.keys()

    results = workdirs.read_results(done / "results.nc")
    curves = [name for name in results if "step" in results[name].dims]
    assert {"train_loss", "test_loss", "train_accuracy", "test_accuracy"} <= {*curves}
    for name in results:
        assert set(results[name].dims) >= AXES, name
        assert ("step" in results[name].dims) == (results[name].dims[-1] == "step")
    assert results["train_loss"].notnull().all() and not results["diverged"].any()

    claims = workdirs.read_json(done / "claims.json")
    assert claims
    for claim in claims:
        assert tuple(claim) == (*claims_lib.Claim._fields, "git_commit")
    assert (done / "figures" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_line_again_only_draws_again(done, copy_of, capsys):
    workdir = copy_of(done)
    (workdir / "figures" / "figure.png").unlink()
    (workdir / "claims.json").unlink()
    before = snapshot(workdir)
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    assert "is complete" in capsys.readouterr().out
    after = snapshot(workdir)
    assert {path.name for path in after.keys() - before.keys()} == {
        "figure.png",
        "claims.json",
    }
    assert all(after[path] == before[path] for path in before)


def test_how_to_run_may_change_between_launches_but_what_to_run_may_not(
    done, copy_of, capsys
):
    workdir = copy_of(done)
    assert launch.main(line(workdir, *LONG, "--config.runs_per_chunk=1")) == launch.DONE
    before = snapshot(workdir)
    capsys.readouterr()
    status = launch.main(line(workdir, *LONG, "--config.centered=true"))
    assert status == launch.WRONG_USAGE
    error = capsys.readouterr().err
    assert "holds another config" in error and "model.centered" in error
    assert snapshot(workdir) == before


def test_truncated_results_are_made_again_from_the_checkpoint(
    done, copy_of, capsys, assert_identical
):
    workdir = copy_of(done)
    results = workdir / "results.nc"
    results.write_bytes(results.read_bytes()[:5000])
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    said = capsys.readouterr().out
    assert "results.nc is truncated" in said and "checkpoint" in said
    assert_identical(
        workdirs.read_results(results), workdirs.read_results(done / "results.nc")
    )


def test_sigterm_saves_and_ends_with_75_and_the_same_line_goes_on_to_the_same_bits(
    done, stopped, copy_of, capsys, assert_identical
):
    workdir, status, output = stopped
    assert status == launch.STOPPED == 75
    assert "run the same line to go on" in output
    assert not (workdir / "results.nc").exists()
    workdir = copy_of(workdir)
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    assert "Going on from checkpoint" in capsys.readouterr().out
    assert_identical(
        workdirs.read_results(workdir / "results.nc"),
        workdirs.read_results(done / "results.nc"),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_segment(number, tmp_path, monkeypatch):
    show = watch.Watch.show

    def interrupted(self, progress):
        show(self, progress)
        signal.raise_signal(number)

    monkeypatch.setattr(watch.Watch, "show", interrupted)
    assert launch.main(line(tmp_path / "run", *SHORT)) == launch.STOPPED
    assert signal.getsignal(number) is not interrupted  # handlers are given back
    assert checkpoint.restore_newest(tmp_path / "run" / "checkpoints")[1]


def test_a_signal_before_or_after_the_training_stops_at_once(
    tmp_path, monkeypatch, capsys
):
    """Nothing is lost then: the same line goes on to the end."""
    arguments = line(tmp_path / "run", *SHORT)
    for module, name in ((launch.programs, "check_data"), (launch.plot, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_: signal.raise_signal(signal.SIGTERM))
            assert launch.main(arguments) == launch.STOPPED
        assert "Stopped; run the same line to go on" in capsys.readouterr().err
    assert (tmp_path / "run" / "results.nc").exists()
    assert not (tmp_path / "run" / "figures" / "figure.png").exists()
    assert launch.main(arguments) == launch.DONE
    assert (tmp_path / "run" / "figures" / "figure.png").exists()


def test_a_signal_that_came_too_late_for_the_last_segment_is_not_forgotten():
    with launch.Stopper() as stopper, pytest.raises(launch.Stopped):
        with stopper.waiting():
            signal.raise_signal(signal.SIGTERM)
            assert stopper.requested()
        pytest.fail("went on")


def test_sigterm_while_the_program_is_still_importing_ends_with_75(tmp_path):
    process = processes.start(line(tmp_path / "run", *SHORT)[1:])
    while not catches(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.001)
    process.terminate()
    output, _ = process.communicate()
    assert process.returncode == launch.STOPPED, output
    assert not (tmp_path / "run").exists()


def catches(pid, number):
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(caught >> (number - 1) & 1)


@pytest.mark.slow  # tests/test_outside.py kills once
def test_killed_at_random_moments_and_started_again_it_ends_in_the_same_bits(
    done, tmp_path, assert_identical
):
    workdir, chance = tmp_path / "run", random.Random(0)
    for share in (0.02, 0.35, 0.65):
        share, seconds = share + 0.2 * chance.random(), 0.1 * chance.random()
        process = processes.start_ending(
            line(workdir, *LONG)[1:], share, signal.SIGKILL, seconds
        )
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (workdir / "results.nc").exists()
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    assert_identical(
        workdirs.read_results(workdir / "results.nc"),
        workdirs.read_results(done / "results.nc"),
    )


def test_a_launch_killed_before_its_config_was_written_can_be_started_again(tmp_path):
    workdir = workdirs.Workdir(tmp_path / "run")
    workdir.create()
    assert launch.main(line(workdir.path, *SHORT)) == launch.DONE


def test_a_damaged_newest_checkpoint_is_skipped_with_a_sentence(
    done, stopped, copy_of, capsys, assert_identical
):
    workdir = copy_of(stopped[0])
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-10])
    assert launch.main(line(workdir, *LONG)) == launch.DONE
    assert f"Checkpoint {newest.name} is not readable" in capsys.readouterr().out
    assert_identical(
        workdirs.read_results(workdir / "results.nc"),
        workdirs.read_results(done / "results.nc"),
    )


def test_a_full_disk_is_said_in_a_sentence_and_loses_no_checkpoint(stopped, copy_of):
    workdir = copy_of(stopped[0])
    leaves, about, _ = checkpoint.restore_newest(workdir / "checkpoints")
    process = processes.start(line(workdir, *LONG)[1:], limit=4096)
    error, _ = process.communicate()
    assert process.returncode == launch.WRITE_FAILED == 74
    said = r"grok_jax: Checkpoint \d+ could not be written to .*: File too large; the "
    assert re.search(said, error), error  # threads of tensorstore may add to it
    held, still, skipped = checkpoint.restore_newest(workdir / "checkpoints")
    assert still == about and not skipped
    assert held.keys() == leaves.keys()
    assert not (workdir / "results.nc").exists()


def test_any_write_that_fails_is_74_which_is_tried_again(tmp_path, monkeypatch, capsys):
    def fails(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(workdirs.os, "fsync", fails)
    assert launch.main(line(tmp_path / "run", *SHORT)) == launch.WRITE_FAILED
    said = capsys.readouterr().err
    assert "config.json could not be written: Input/output error; the prev" in said


def test_a_second_launch_on_one_folder_is_refused(done, capsys):
    with workdirs.Workdir(done).locked():
        assert launch.main(line(done, *LONG)) == launch.WRONG_USAGE
    assert "Another launch is running" in capsys.readouterr().err


BAD_SETTINGS = {
    "typo": (["model.epsilom=1"], "'model.epsilom'; nearest: model.epsilon"),
    "typo in a short name": (["epsilom=1"], "model.epsilon"),
    "typo in an axis": (["sweep.epsilom=1,2"], "epsilon"),
    "word for a number": (["train.steps=many"], "train.steps must be of type int"),
    "fraction for a count": (["train.steps=1.5"], "train.steps must be of type int"),
    "alpha zero": (["model.output_scale=0"], "output_scale is 0.0; it must be > 0"),
    "alpha zero in an axis": (["sweep.output_scale=0,1"], "it must be > 0"),
    "no examples": (["task.train_size=0"], "train_size is 0; it must be >= 1"),
    "negative steps": (["train.steps=-1"], "train.steps is -1; it must be >= 0"),
    "no value": (["train.steps"], "train.steps must be of type int"),
    "empty axis": (["sweep.epsilon="], "epsilon is empty"),
    "value twice": (["sweep.epsilon=0.25,0.25"], "twice"),
    "unequal zip": (["sweep.seed=0,1,2", "zip=epsilon+seed"], "equal lengths"),
    "zip of no axis": (["zip=epsilon+width"], "no swept axis 'width'"),
    "unknown part": (["model.name=comittee"], "nearest: committee"),
    "unknown choice": (["train.spacing=lin"], "one of log, linear"),
    "parts that do not fit": (["optimizer.momentum=0.5"], "without momentum"),
    "decay that is not exact": (
        ["optimizer.weight_decay=0.1"],
        "without momentum, weight decay",
    ),
    "filter that is not exact": (
        ["gradient.orthogonal.name=orthogonal"],
        "no gradient transformations",
    ),
    "a window of another filter": (
        ["gradient.grokfast_ema.window=9", "model.name=committee"],
        "There is no setting 'gradient.grokfast_ema.window'; ",
    ),
}


def refused(arguments, capsys):
    """The one sentence with which the launcher refuses a line."""
    assert launch.main(arguments) == launch.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and error.endswith(".\n"), error
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_setting_is_refused_before_anything_is_written(case, tmp_path, capsys):
    overrides, said = BAD_SETTINGS[case]
    workdir = tmp_path / "run"
    arguments = line(workdir, *(f"--config.{text}" for text in overrides))
    assert said in refused(arguments, capsys)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (f"{K3}:smok", "no preset 'smok'; known: smoke, cpu, paper, descent"),
        ("nowhere.py", "no config file nowhere.py"),
        ("nowhere.py:smoke", "no config file nowhere.py"),
        ("empty.py", "defines no get_config()"),
        ("broken.py", "cannot be loaded"),
        ("plain.py:smoke", "plain.py has no preset 'smoke'"),
        ("three.py", "three.py returns int; it must return settings"),
    ],
)
def test_a_bad_config_file_is_refused(config, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.py").write_text("")
    Path("broken.py").write_text("def get_config(")
    Path("plain.py").write_text("def get_config():\n    return {}\n")
    Path("three.py").write_text("def get_config(preset=None):\n    return 3\n")
    assert said in refused(line(tmp_path / "run", config=config), capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --config"),
        ([f"--config={K3}:smoke"], "Give --workdir"),
        (["--config"], "--config"),
        (["--confg=x"], "no flag --confg; nearest: --config"),
        ([f"--config={K3}:smoke", "--workdir=run", "fast"], "'fast' is not a flag"),
        ([f"--config={K3}:smoke", "--workdir=run", "--dry_run=maybe"], "dry_run"),
    ],
)
def test_a_bad_line_is_refused(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(["launch", *arguments], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workdir", "said"),
    [
        ("file", "is a file"),
        ("file/run", "cannot be written: Not a directory"),
        ("/proc/run", "cannot be written"),
        ("x" * 300, "cannot be read: File name too long"),
        ("other", "is not empty and holds no config.json"),
    ],
)
def test_a_bad_workdir_is_refused(workdir, said, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("kept")
    before = snapshot(tmp_path)
    assert said in refused(line(tmp_path / workdir), capsys)
    assert snapshot(tmp_path) == before


def test_a_dry_run_says_what_would_run_and_writes_nothing(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = line("run", *SHORT, "--config.sweep.seed=0,1,2", "--dry_run")
    assert launch.main(arguments) == launch.DONE
    said = capsys.readouterr().out
    for words in ("18 runs", "seed (3)", "1 compile group", "MiB", "At most"):
        assert words in said, words
    assert not list(tmp_path.iterdir())


def test_overrides_hold_and_paths_may_be_relative_to_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = line(
        "deep/run",
        "--config.engine.devices=2",
        "--config.steps=599",
        "--config.model.name=committee",
        "--config.width=7",
        "--config.sweep.epsilon=0.25,0.5",
        config=f"{os.path.relpath(K3)}:smoke",
    )
    assert launch.main(arguments) == launch.DONE
    held = workdirs.read_json(tmp_path / "deep" / "run" / "config.json")["config"]
    assert (held["model.name"], held["model.width"]) == ("committee", 7)
    assert held["train.steps"] == 599
    results = workdirs.read_results(tmp_path / "deep" / "run" / "results.nc")
    assert results["epsilon"].values.tolist() == [0.25, 0.5]
    assert results["step"].values[-1] == 599


def test_a_dry_run_without_a_workdir_names_none_and_looks_into_none(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "dry").mkdir(parents=True)
    (tmp_path / "runs" / "dry" / "config.json").write_text("{}")
    arguments = ["launch", f"--config={K3}:smoke", *SHORT, "--dry_run"]
    assert launch.main(arguments) == launch.DONE
    said = capsys.readouterr().out
    assert said.endswith("Nothing was written.\n") and "results" not in said


def test_a_signal_ends_a_dry_run_even_within_a_compiler(tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        launch.dry_run, "show", lambda *_: held.append(signal.getsignal(signal.SIGTERM))
    )
    before = signal.getsignal(signal.SIGTERM)
    arguments = ["launch", f"--config={K3}:smoke", *SHORT, "--dry_run"]
    assert launch.main(arguments) == launch.DONE
    assert held == [signal.SIG_DFL] and signal.getsignal(signal.SIGTERM) == before


# --- data that are not there ---------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_missing_data_are_a_sentence_and_nothing_is_written(
    more, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("GROK_JAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reviews = ROOT / "experiments" / "omnigrok" / "o3_reviews.py"
    workdir = tmp_path / "run"
    assert launch.main(line(workdir, *more, config=f"{reviews}:smoke")) == 2
    said = capsys.readouterr().err
    assert said.startswith("grok_jax: There are no IMDb reviews") and "fetch" in said
    assert not workdir.exists()


def test_too_few_data_are_a_sentence_and_nothing_is_written(tmp_path, capsys):
    digits = ROOT / "experiments" / "omnigrok" / "o2_grokking.py"
    workdir = tmp_path / "run"
    many = line(workdir, "--config.train_size=4990", config=f"{digits}:smoke")
    assert launch.main(many) == 2
    assert "There are 5000 digits, 10 of them for testing" in capsys.readouterr().err
    assert not workdir.exists()


def test_claims_that_this_grid_cannot_answer_leave_the_results(tmp_path, capsys):
    def claims(results):
        return results.sel(output_scale=6.0)

    results = xr.Dataset(coords={"output_scale": [0.5, 1.0]})
    experiment = types.SimpleNamespace(
        claims=claims, figure=claims, __file__=claims.__code__.co_filename
    )
    workdir = workdirs.Workdir(tmp_path)
    status = launch.finish(experiment, results, workdir)  # pyright: ignore
    assert status == launch.PAGE_FAILED == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be made from them (KeyError" in said
    assert "return results.sel(output_scale=6.0) Correct the page" in said
    assert said.endswith("run the same line: nothing is trained again.")
    assert not workdir.claims.exists()


@pytest.mark.parametrize(
    ("claims", "figure", "said"),
    [
        ([], None, "TypeError: a figure of the page is of type NoneType"),
        ([], {"a": 1}, "TypeError: a figure of the page is of type int"),
        ([True], {}, "TypeError: a claim of the page is of type bool"),
        (None, {}, "TypeError: claims(results) of the page returns nothing"),
    ],
)
def test_what_is_no_claim_or_no_figure_is_the_pages_error(
    claims, figure, said, tmp_path, capsys
):
    page = types.SimpleNamespace(
        claims=lambda _: claims, figure=lambda _: figure, __file__="page.py"
    )
    workdir = workdirs.Workdir(tmp_path)
    status = launch.finish(page, xr.Dataset(), workdir)  # pyright: ignore
    assert status == launch.PAGE_FAILED
    assert said in " ".join(capsys.readouterr().out.split())
    assert not workdir.claims.exists()


def test_a_page_of_settings_alone_has_neither_title_nor_table(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text(
        "def get_config():\n"
        "    return dict(task=dict(input_dim=6), train=dict(steps=2, records=1))\n"
    )
    assert launch.main(line("run", config="page.py")) == launch.DONE
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("1 runs: one; ")
    assert last == f"Results: {tmp_path / 'run' / 'results.nc'}"


def test_in_a_narrow_terminal_claims_stand_one_below_the_other(capsys, monkeypatch):
    monkeypatch.setattr(launch.console, "_width", 80)
    measured = {f"seed {seed}": float(seed) for seed in range(9)}
    claim = claims_lib.Claim("K9", "Fig. 1", "it is late [0]", "> 2", measured, True)
    launch.print_claims([claim])
    assert capsys.readouterr().out.splitlines() == [
        "K9 (Fig. 1) yes",
        "  it is late [0]",
        "  expected: > 2",
        "  measured: seed 0: 0; seed 1: 1; seed 2: 2; seed 3: 3; 5 more in claims.json",
        "1 of 1 claims hold.",
    ]


def test_what_a_claim_expects_is_broken_into_lines_and_not_cut(capsys, monkeypatch):
    monkeypatch.setattr(launch.console, "_width", 40)
    expected = " ".join(f"word{number}" for number in range(20))
    claim = claims_lib.Claim("K9", "Fig. 1", "it is late", expected, 1.0, False)
    launch.print_claims([claim], "smoke")
    said = capsys.readouterr().out
    assert f"expected: {expected}" in " ".join(said.split())
    assert said.endswith("0 of 1 claims hold (smoke is too small to decide them).\n")


def test_square_brackets_are_printed_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(launch.console, "_width", 200)
    claim = claims_lib.Claim("K9", "ours", "in [0, 1] [/b]", "a [red] one", 1.0, False)
    launch.print_claims([claim])
    said = capsys.readouterr().out
    assert "in [0, 1] [/b]" in said and "a [red] one" in said and "NO" in said


def test_an_unforeseen_error_has_a_status_of_its_own_and_a_traceback(
    tmp_path, monkeypatch, capsys
):
    def fails(*_):
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(launch.machine, "set_up_jax", fails)
    assert launch.main(line(tmp_path / "run", *SHORT)) == launch.CRASHED == 70
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("Error: nobody thought of it\n")
