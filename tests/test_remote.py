"""Run folders in an object store: as on a disk, or refused with a sentence.

memory:// lives in this process; gs:// is spoken to an emulator, or to a server that
refuses, both on this machine.
"""

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import zipfile

import numpy as np
import pytest
import xarray as xr
from processes import DESCENT, K3

from grok_jax import launch, report
from grok_jax.engine import checkpoint, remote, runner, workdirs
from grok_jax.engine.checkpoint import CheckpointError
from grok_jax.engine.workdirs import Workdir, WorkdirError

pytestmark = pytest.mark.optimised(loops=False)

pytest.importorskip("upath", reason="needs universal_pathlib (pip install .[test])")

SHORT = (
    DESCENT,
    "--config.train.steps=30",
    "--config.train.records=20",
    "--config.input_dim=6",
    "--config.train_size=14",
    "--config.test_size=9",
    "--config.sweep.seed=0",
    "--config.engine.devices=1",
)
LONG = (
    *SHORT,
    "--config.train.steps=4000",
    "--config.input_dim=48",
    "--config.train_size=300",
    "--config.stop.metric=",
    "--config.engine.segment_seconds=0.05",
    "--config.engine.checkpoint_seconds=0.2",
)
"""K3 of a few seconds: time enough to be killed in."""
CONFIG = {"seed": 0, "model.width": 5}


def line(workdir, *more):
    return ["launch", f"--config={K3}:smoke", f"--workdir={workdir}", *more]


@pytest.fixture
def place():
    """An empty place of its own in the memory of this process."""
    return f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(remote, "SETTLE_SECONDS", 0.0)


def other(value):
    return {"state": {"w": np.full(4, float(value))}}


# --- paths ---------------------------------------------------------------------------


def test_a_text_without_a_scheme_is_a_path_of_this_machine(tmp_path):
    assert Workdir(str(tmp_path)).config == tmp_path / "config.json"
    assert Workdir("memory://a/run/").config.name == "config.json"
    assert str(Workdir("memory://a/run/").path) == "memory://a/run"


def test_an_unknown_scheme_is_one_sentence(capsys):
    assert launch.main(line("gcs9://bucket/run")) == launch.WRONG_USAGE
    assert capsys.readouterr().err == (
        "grok_jax: No file system is known for gcs9://; write gs://BUCKET/FOLDER or a "
        "local folder.\n"
    )


WITHOUT = """
import sys

sys.modules[sys.argv[1]] = None
from grok_jax import settings
from grok_jax.engine import remote

try:
    remote.path("gs://bucket/run")
except settings.SettingError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["gcsfs", "upath"])
def test_without_the_library_a_sentence_says_how_to_install_it(missing):
    said = subprocess.check_output([sys.executable, "-c", WITHOUT, missing], text=True)
    assert missing in said and said.count("\n") == 1
    assert said.endswith("; for gs:// pip install 'grok_jax[gcs]'.\n")


def same(one, other):
    """The same results, but for what tells of the clock."""
    xr.testing.assert_identical(
        *(each.drop_vars([*runner.BY_CLOCK]).drop_attrs() for each in (one, other))
    )


# --- the run folder ------------------------------------------------------------------


def test_files_come_back_as_they_were_and_nothing_lies_beside_them(place):
    workdir = Workdir(place)
    workdir.check(CONFIG)
    workdir.create()
    results = xr.Dataset({"a": ("x", np.array([1.0, np.nan, -0.0]))})
    for length in (3, 2):
        workdirs.write_results(workdir.results, results.isel(x=slice(length)))
        workdirs.write_json(workdir.config, {"config": CONFIG})
    xr.testing.assert_identical(
        workdirs.read_results(workdir.results), results.isel(x=slice(2))
    )
    assert workdirs.read_json(workdir.config) == {"config": CONFIG}
    names = {path.name for path in workdir.path.iterdir()}
    assert names == {"config.json", "results.nc"}


def test_a_place_with_another_config_or_with_foreign_objects_is_refused(place):
    workdir = Workdir(place)
    (workdir.path / "thesis.tex").write_bytes(b"dear")
    with pytest.raises(WorkdirError, match="is not empty and holds no config"):
        workdir.check(CONFIG)
    workdirs.write_json(workdir.config, {"config": CONFIG})
    workdir.check(CONFIG)
    with pytest.raises(WorkdirError, match=r"another config \(it differs in seed\)"):
        workdir.check({**CONFIG, "seed": 1})


@pytest.mark.parametrize("content", [b"", b"CDF", b"\x89HDF\r\n\x1a\n"])
def test_damaged_and_missing_results_are_one_sentence(place, content):
    path = Workdir(place).results
    with pytest.raises(WorkdirError, match=r"results\.nc is missing\."):
        workdirs.read_results(path)
    path.write_bytes(content)
    with pytest.raises(WorkdirError, match="is truncated or not a netCDF4 file"):
        workdirs.read_results(path)


# --- who holds it --------------------------------------------------------------------


def left_by(place, **about):
    """A lock as another launch wrote it."""
    lock = {"token": "other", "host": "elsewhere", "pid": 7, "at": 0.0, **about}
    (Workdir(place).path / ".lock").write_bytes(json.dumps(lock).encode())


def test_a_lock_that_changes_is_respected(place, monkeypatch):
    monkeypatch.setattr(remote, "BEAT_SECONDS", 0.02)
    with Workdir(place).locked(), pytest.raises(WorkdirError) as error:
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with Workdir(place).locked(lambda _: None):
            pass
    assert re.fullmatch(
        rf"Another launch \(process {os.getpid()} on .*\) is running in {place}; wait "
        r"for it to end\.",
        str(error.value),
    )
    assert not (Workdir(place).path / ".lock").exists()


def test_a_lock_that_does_not_change_is_taken_after_a_while(place):
    left_by(place)
    said = []
    with Workdir(place).locked(said.append):
        held = json.loads((Workdir(place).path / ".lock").read_bytes())
        assert held["pid"] == os.getpid()
    assert "was left by process 7 on elsewhere; waiting" in said[0]


def test_a_killed_process_of_this_machine_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 1e6)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left_by(place, host=socket.gethostname(), pid=gone.pid)
    with Workdir(place).locked():
        pass


def test_of_two_that_take_it_at_once_the_later_write_stays(place, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: left_by(place))
    with pytest.raises(WorkdirError, match="process 7 on elsewhere"):
        Workdir(place).locked().__enter__()


def test_who_was_thought_dead_ends_when_it_sees_another_lock(place, monkeypatch):
    monkeypatch.setattr(remote, "BEAT_SECONDS", 0.02)
    workdir = Workdir(place)
    with workdir.locked():
        workdir.check_lock()
        left_by(place)
        with pytest.raises(WorkdirError, match=f"has taken {place}; this one ends"):
            for _ in range(200):
                time.sleep(0.02)
                workdir.check_lock()
    held = json.loads((workdir.path / ".lock").read_bytes())
    assert held["token"] == "other"  # what is not its own stays


# --- checkpoints ---------------------------------------------------------------------


def test_a_checkpoint_is_one_object_and_the_newest_two_are_kept(place):
    folder = Workdir(place).checkpoints
    assert checkpoint.restore_newest(folder) == ({}, {}, [])
    for step in (9, 10, 11):
        checkpoint.save(folder, step, other(step), {"own": step})
    assert {path.name for path in folder.iterdir()} == {"10.zip", "11.zip"}
    leaves, about, skipped = checkpoint.restore_newest(folder)
    assert about["own"] == 11 and (leaves["state.w"] == 11).all() and not skipped


def test_a_damaged_newest_object_is_skipped_and_a_strange_one_is_not_looked_at(place):
    folder = Workdir(place).checkpoints
    for step in (1, 2):
        checkpoint.save(folder, step, other(step), {"own": step})
    (folder / "3.zip.part").write_bytes(b"")
    whole = (folder / "2.zip").read_bytes()
    (folder / "2.zip").write_bytes(whole[: len(whole) // 2])
    _, about, skipped = checkpoint.restore_newest(folder)
    assert about["own"] == 1
    assert len(skipped) == 1 and skipped[0].startswith("Checkpoint 2 is not readable (")
    (folder / "1.zip").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is readable"):
        checkpoint.restore_newest(folder)


@pytest.mark.parametrize("store", ["memory", "gs"])
def test_a_run_may_be_copied_from_a_store_to_a_disk_and_back(
    store, place, tmp_path, request
):
    if store == "gs":
        request.getfixturevalue("emulator")
        place = "gs://bucket/copied/run"
    there, here = Workdir(place).checkpoints, tmp_path / "checkpoints"
    checkpoint.save(there, 1, other(1), {"own": 1})
    remote.download(there, here)
    checkpoint.save(here, 2, other(2), {"own": 2})
    assert {path.name for path in here.iterdir()} == {"1.zip", "2"}
    for step in (3, 4):
        _, about, _ = checkpoint.restore_newest(here)
        assert about["own"] == step - 1
        checkpoint.save(here, step, other(step), {"own": step})
    assert {path.name for path in here.iterdir()} == {"3", "4"}
    for path in (here / "4").rglob("*"):
        if path.is_file():
            target = there / path.relative_to(here).as_posix()
            target.write_bytes(path.read_bytes())
    leaves, about, skipped = checkpoint.restore_newest(there)
    assert about["own"] == 4 and (leaves["state.w"] == 4).all() and not skipped
    checkpoint.save(there, 5, other(5), {"own": 5})
    assert {path.name for path in there.iterdir()} == {"4", "5.zip"}


def test_no_member_of_a_zip_is_written_outside_its_scratch_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as pack:
        pack.writestr("../../outside", "x")
    with pytest.raises(CheckpointError):
        checkpoint.restore_newest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1.zip"]


# --- the command line ----------------------------------------------------------------


EXPERIMENT = """
from grok_jax import claims as claims_lib
from grok_jax import plot
from grok_jax.engine import config


def get_config():
    return config.make_config(
        dict(
            name="Tiny",
            description="one run",
            task=dict(input_dim=6, train_size=14, test_size=9),
            model=dict(width=7),
            optimizer=dict(rule="lazy"),
            train=dict(steps=24, records=6),
        )
    )


def claims(results):
    losses = results["train_loss"]
    falls = bool(losses.isel(step=-1) < losses.isel(step=0))
    return [claims_lib.Claim("T1", "none", "the loss falls", "it does", falls, falls)]


def figure(results):
    return plot.panels(1, 1)[0]
"""


def test_launch_and_report_do_as_on_a_disk(place, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(EXPERIMENT)
    places = (Workdir(place), Workdir(tmp_path / "run"))
    for each in places:
        arguments = ["launch", f"--config={tmp_path}/tiny.py", f"--workdir={each.path}"]
        assert launch.main(arguments) == launch.DONE
        assert f"{each.path}/figures" in capsys.readouterr().out
    there, here = (workdirs.read_results(each.results) for each in places)
    same(there, here)
    for name in ("claims.json", "figures/figure.png"):
        a, b = ((each.path / name).read_bytes() for each in places)
        assert a == b
    a, b = (workdirs.read_json(each.progress).keys() for each in places)
    assert a == b
    assert not (places[0].path / ".lock").exists()
    assert launch.main([*arguments[:2], f"--workdir={place}"]) == launch.DONE
    assert f"{place} is complete; drawing it again." in capsys.readouterr().out
    out = tmp_path / "report"
    assert report.main(["report", place, f"--out={out}"]) == report.DONE
    assert (out / "figures" / "run_figure.png").exists()


def test_a_report_is_written_on_this_machine_and_of_what_is_there(place, capsys):
    arguments = ["report", place, "--out=gs://bucket/report"]
    assert report.main(arguments) == report.WRONG_USAGE
    assert "--out is written on this machine" in capsys.readouterr().err
    assert report.main(["report", place, "--out=x"]) == report.WRONG_USAGE
    assert capsys.readouterr().err == f"grok_jax: There is no folder {place}.\n"


# --- gs:// ---------------------------------------------------------------------------


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as Google does to who may not: 401 (no one) or 403 (someone else)."""

    status = 403

    def do_GET(self):
        content = json.dumps(
            {"error": {"code": self.status, "message": "not allowed to"}}
        ).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(BrokenPipeError):  # whoever asked may have left
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_PUT = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def refusing(status):
    handler = type("Handler", (Refusing,), {"status": status})
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [401, 403])
def test_without_permission_a_sentence_says_how_to_get_it(status, monkeypatch, capsys):
    gcsfs = pytest.importorskip("gcsfs", reason="needs gcsfs (pip install .[gcs])")
    gcsfs.GCSFileSystem.clear_instance_cache()
    with refusing(status) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        assert launch.main(line("gs://bucket/run")) == launch.WRONG_USAGE
        said = capsys.readouterr().err
        assert report.main(["report", "gs://bucket/run", "--out=x"]) == 2
        reported = capsys.readouterr().err
    for sentence in (said, reported):
        assert "gs://bucket/run cannot be read: no permission (" in sentence
        assert "not allowed to" in sentence and "auth application-default" in sentence
        assert sentence.count("\n") == 1
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def emulator(monkeypatch):
    """The address of an emulator of Google Cloud Storage with one bucket, "bucket"."""
    gcsfs = pytest.importorskip("gcsfs", reason="needs gcsfs (pip install .[gcs])")
    emulated = pytest.importorskip(
        "gcp_storage_emulator.server",
        reason="needs gcp-storage-emulator (pip install .[dev])",
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = emulated.create_server("localhost", port, True, default_bucket="bucket")
    server.start()
    address = f"http://localhost:{port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield address
    server.stop()
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_a_bucket_takes_a_run_folder_and_a_missing_one_is_one_sentence(emulator):
    workdir = Workdir("gs://bucket/some/run")
    workdir.check(CONFIG)
    workdir.create()
    workdirs.write_json(workdir.config, {"config": CONFIG})
    workdir.check(CONFIG)
    with workdir.locked():
        for step in (1, 2, 3):
            checkpoint.save(workdir.checkpoints, step, other(step), {"own": step})
    _, about, _ = checkpoint.restore_newest(workdir.checkpoints)
    assert about["own"] == 3
    names = {path.name for path in workdir.checkpoints.iterdir()}
    assert names == {"2.zip", "3.zip"}
    with pytest.raises(WorkdirError) as error:
        Workdir("gs://nobody/run").create()
    assert str(error.value) == (
        "The workdir gs://nobody/run cannot be written: the bucket or the object does "
        "not exist."
    )


def start(arguments):
    """The launcher in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "grok_jax.launch", *arguments[1:]],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_killed_goes_on_to_the_results_of_a_local_one(
    emulator, tmp_path, capsys
):
    whole = LONG[:-2]  # in segments of their usual length, which changes nothing
    assert launch.main(line(tmp_path / "run", *whole)) == launch.DONE
    workdir = Workdir("gs://bucket/run")
    for kills in range(2):
        process, begun = start(line(workdir.path, *LONG)), newest(workdir)
        while process.poll() is None and newest(workdir) < begun + 2:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        output, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert ("Going on from checkpoint" in output) == (kills > 0)
        assert not workdir.results.exists()
    process = start(line(workdir.path, *LONG))
    output, errors = process.communicate()
    assert process.returncode == launch.DONE, errors
    assert "Going on from checkpoint" in output
    a, b = (
        workdirs.read_results(each)
        for each in (workdir.results, tmp_path / "run" / "results.nc")
    )
    same(a, b)
    for name in ("claims.json", "figures/figure.png"):
        there, here = workdir.path / name, tmp_path / "run" / name
        assert there.read_bytes() == here.read_bytes()
    out = tmp_path / "report"
    assert report.main(["report", str(workdir.path), f"--out={out}"]) == report.DONE
    assert "finished" in (out / "summary.md").read_text()


def newest(workdir):
    """The number of the newest checkpoint; 0 without one."""
    paths = workdir.checkpoints.glob("*.zip")
    return max((int(path.stem) for path in paths), default=0)
