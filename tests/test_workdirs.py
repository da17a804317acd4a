"""The run folder: results as they were recorded, whole files, and refusals."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from grok_jax.engine import workdirs
from grok_jax.engine.workdirs import Workdir, WorkdirError

RESULTS = xr.Dataset(
    {
        "loss": (("seed", "step"), np.arange(6, dtype=np.float32).reshape(2, 3)),
        "ended": ("seed", [1.0, np.nan]),
    },
    coords={"seed": [7, 8], "step": [0, 4, 9]},
)


def test_results_come_back_from_the_disk_as_they_were(tmp_path):
    results = RESULTS.assign(flag=("seed", [True, False]))
    results = results.assign_coords(rule=("width", ["lazy", "plain"]))
    results.attrs = {"name": "a name", "seconds": 1.5}
    workdirs.write_results(tmp_path / "results.nc", results)
    back = workdirs.read_results(tmp_path / "results.nc")
    xr.testing.assert_identical(back.drop_attrs(), results.drop_attrs())
    assert back.flag.dtype == bool and back.attrs["name"] == "a name"
    assert [p.name for p in tmp_path.iterdir()] == ["results.nc"]


# --- damaged and missing files -------------------------------------------------------


def test_a_folder_without_a_run_names_one_that_is_inside(tmp_path):
    begun = "holds no config.json; no run has begun in it"
    with pytest.raises(WorkdirError, match=rf"{begun}\.$"):
        Workdir(tmp_path).about()
    for name in ("k2", "k1"):
        (tmp_path / name).mkdir()
        workdirs.write_json(tmp_path / name / "config.json", {})
    with pytest.raises(WorkdirError, match=rf"{begun}, but in {tmp_path / 'k1'}\.$"):
        Workdir(tmp_path).about()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_results_are_one_sentence(tmp_path, share):
    path = tmp_path / "results.nc"
    workdirs.write_results(path, RESULTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WorkdirError) as error:
        workdirs.read_results(path)
    assert str(error.value) == f"{path} is truncated or not a netCDF4 file."


def test_missing_results_are_one_sentence(tmp_path):
    with pytest.raises(WorkdirError, match=r"results\.nc is missing\."):
        workdirs.read_results(tmp_path / "results.nc")


@pytest.mark.parametrize("content", [None, "", '{"config": {'])
def test_json_that_is_missing_or_cut_is_one_sentence(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WorkdirError, match=r"config\.json is missing or not readable"):
        workdirs.read_json(path)


def test_json_comes_back_with_tuples_as_lists(tmp_path):
    content = {"a": (1, 2.5), "b": {"c": None, "d": True}}
    workdirs.write_json(tmp_path / "x.json", content)
    back = workdirs.read_json(tmp_path / "x.json")
    assert back == {"a": [1, 2.5], "b": {"c": None, "d": True}}


def run_python(code, path):
    return subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


FULL = """
import resource, sys
from pathlib import Path
import numpy as np, xarray as xr
from grok_jax.engine import workdirs

path = Path(sys.argv[1])
def results(size):
    return xr.Dataset({"a": ("x", np.random.default_rng(0).random(size))})
workdirs.write_results(path / "results.nc", results(10))
workdirs.write_json(path / "config.json", ["old"])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for write in (
    lambda: workdirs.write_results(path / "results.nc", results(100_000)),
    lambda: workdirs.write_json(path / "config.json", list(range(100_000))),
):
    try:
        write()
    except workdirs.WorkdirError as error:
        print(error)
assert workdirs.read_results(path / "results.nc").sizes["x"] == 10
assert workdirs.read_json(path / "config.json") == ["old"]
print(sorted(p.name for p in path.iterdir()))
"""


def test_a_full_disk_is_one_sentence_and_the_old_file_stays_whole(tmp_path):
    """A limit on the size of a file stands for the end of the disk."""
    done = run_python(FULL, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, left = done.stdout.splitlines()
    for name, sentence in (("results.nc", first), ("config.json", second)):
        assert sentence.startswith(f"{tmp_path / name} could not be written: ")
        assert sentence.endswith("; the previous file is intact.")
    assert left == "['config.json', 'results.nc']"


# --- whose folder it is --------------------------------------------------------------

CONFIG = {"seed": 0, "model.width": 5, "sweep": {"seed": [0, 1]}}


def started(path):
    workdir = Workdir(path)
    workdir.check(CONFIG)
    workdir.create()
    workdirs.write_json(workdir.config, {"config": CONFIG})
    return workdir


def content(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_the_same_config_is_let_in_again(tmp_path):
    workdir = started(tmp_path / "new" / "run")
    workdir.check(json.loads(json.dumps(CONFIG)))
    workdir.check(CONFIG)


def test_another_config_is_refused_by_the_names_that_differ_and_nothing_is_touched(
    tmp_path,
):
    workdir = started(tmp_path / "run")
    before = content(tmp_path)
    with pytest.raises(WorkdirError) as error:
        workdir.check({**CONFIG, "model.width": 6, "loss.name": "x"})
    assert str(error.value) == (
        f"{workdir.path} holds another config (it differs in loss.name, model.width); "
        "nothing was touched. Give another workdir."
    )
    assert content(tmp_path) == before


def test_a_foreign_folder_that_is_not_empty_is_refused_and_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    before = content(tmp_path)
    with pytest.raises(WorkdirError) as error:
        Workdir(tmp_path).check(CONFIG)
    assert str(error.value) == (
        f"{tmp_path} is not empty and holds no config.json; nothing was touched. "
        "Give an empty or new workdir."
    )
    assert content(tmp_path) == before


def test_a_folder_with_foreign_figures_is_refused(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_text("")
    with pytest.raises(WorkdirError, match="is not empty and holds no config"):
        Workdir(tmp_path).check(CONFIG)


def test_a_launch_killed_before_its_config_was_written_may_start_again(tmp_path):
    Workdir(tmp_path).create()
    Workdir(tmp_path).check(CONFIG)


@pytest.mark.parametrize("hidden", [".DS_Store", ".lock"])
def test_hidden_files_do_not_make_a_folder_foreign(tmp_path, hidden):
    (tmp_path / hidden).write_text("")
    Workdir(tmp_path).check(CONFIG)


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="is a file; give a folder as workdir"):
        Workdir(tmp_path / "file").check(CONFIG)


def test_a_workdir_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    workdir = Workdir(tmp_path / "file" / "run")
    with pytest.raises(WorkdirError) as error:
        workdir.create()
    assert str(error.value) == (
        f"The workdir {workdir.path} cannot be written: Not a directory."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workdir_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WorkdirError, match=r"cannot be written: Permission denied\."):
        Workdir(tmp_path).create()


def test_a_second_launch_is_refused_while_the_first_holds_the_folder(tmp_path):
    workdir = started(tmp_path)
    with workdir.locked():
        with pytest.raises(WorkdirError) as error, Workdir(tmp_path).locked():
            pass
        assert str(error.value) == (
            f"Another launch is running in {tmp_path}; wait for it to end."
        )
    with Workdir(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_locked_is_another_sentence(tmp_path):
    (tmp_path / ".lock").mkdir()
    sentence = "cannot be locked: Is a directory"
    with pytest.raises(WorkdirError, match=sentence), Workdir(tmp_path).locked():
        pass


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"config": 3}'])
def test_a_config_that_does_not_say_what_ran_is_damaged(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WorkdirError, match="is damaged: it does not say what ran"):
        Workdir(tmp_path).check({})


KILLED = """
import os, sys
from grok_jax.engine.workdirs import Workdir
with Workdir(sys.argv[1]).locked():
    os._exit(9)
"""


def test_a_killed_launch_leaves_no_lock_behind(tmp_path):
    started(tmp_path)
    assert run_python(KILLED, tmp_path).returncode == 9
    assert (tmp_path / ".lock").exists()
    with Workdir(tmp_path).locked():
        pass
