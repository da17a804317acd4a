"""The drill: it sees one bit, fails where a promise is broken, and (slow) runs."""

import json
import os
import shutil
import sys
import textwrap

import disks
import drilling
import fault_drill
import h5py
import numpy as np
import processes
import pytest
import xarray as xr

from grok_jax.engine import workdirs

pytestmark = pytest.mark.optimised(loops=False)


@pytest.fixture
def pair(tmp_path):
    """Two workdirs with the same results, claims and other wall seconds."""
    loss = np.array([[1.0, 0.5, np.nan], [2.0, -0.0, 1e-30]], np.float32)
    diverged = np.array([True, False])
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        workdir = tmp_path / name
        workdir.mkdir()
        results = xr.Dataset(
            {"loss": (("seed", "step"), loss), "diverged": ("seed", diverged)},
            {"seed": [0, 1], "step": [0, 1, 10]},
            {"seconds": seconds, "command": name, "modes": "map"},
        )
        workdirs.write_results(workdir / "results.nc", results)
        workdirs.write_json(workdir / "claims.json", [{"id": "a", "holds": True}])
    return tmp_path / "one", tmp_path / "two"


def test_what_only_the_clock_tells_apart_is_the_same(pair):
    assert drilling.differences(*pair) == []


@pytest.mark.parametrize("value", [0, 2, 4, 5], ids=["1", "NaN", "-0.0", "1e-30"])
def test_one_bit_of_one_value_is_a_difference(pair, value):
    """The lowest one, also that of a NaN; and the sign of a zero."""
    with h5py.File(pair[1] / "results.nc", "r+") as file:
        bits = file["loss"][()].view(np.uint32).reshape(-1)
        bits[value] ^= 2**31 if value == 4 else 1
        file["loss"][...] = bits.view(np.float32).reshape(2, 3)
    assert drilling.differences(*pair) == ["loss: 1 of 6 values"]


def rewrite(workdir, change):
    results = workdirs.read_results(workdir / "results.nc")
    workdirs.write_results(workdir / "results.nc", change(results))


CHANGES = {
    "type": (lambda r: r.assign(loss=r.loss.astype(float)), "loss: ('seed', 'step') f"),
    "shape": (lambda r: r.isel(step=[0, 1]), "step: ('step',) int64 (3,), "),
    "order": (lambda r: r.isel(seed=[1, 0]), "seed: 2 of 2 values"),
    "more": (lambda r: r.assign(more=r.loss), "only in one: more"),
    "mode": (lambda r: r.assign_attrs(modes="vmap"), "attribute modes"),
    "flag": (lambda r: r.assign(diverged=~r.diverged), "diverged: 2 of 2 values"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_other_change_is_a_difference(pair, change):
    how, said = CHANGES[change]
    rewrite(pair[1], how)
    found = drilling.differences(*pair)
    assert any(text.startswith(said) for text in found), found


def test_other_claims_are_a_difference_and_so_are_none(pair):
    workdirs.write_json(pair[1] / "claims.json", [{"id": "a", "holds": False}])
    assert drilling.differences(*pair) == ["claims.json"]
    (pair[1] / "claims.json").unlink()
    assert drilling.differences(*pair) == ["claims.json"]


# --- promises that are not kept ------------------------------------------------------

STUB = textwrap.dedent(
    """
    import json, os, shutil, signal, sys, time
    from pathlib import Path
    flag = next(a for a in sys.argv if a.startswith("--workdir="))
    workdir, source = Path(flag.split("=")[1]), Path(os.environ["STUB_RESULTS"])
    broken = os.environ["STUB_BROKEN"].split(",")
    def stop(*_):
        print("Stopped and saved")
        sys.exit(1 if "status" in broken else 75)
    signal.signal(signal.SIGTERM, stop)
    folder = workdir / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    lock = workdir / ".lock"
    if lock.exists() and Path("/proc", lock.read_text()).exists():
        if "lock" not in broken:
            print("grok_jax: Another launch is running in it.")
            sys.exit(2)
    else:
        lock.write_text(str(os.getpid()))
    first = max([int(p.name) for p in folder.iterdir()], default=0)
    if "loses" in broken and first:
        source = Path(os.environ["STUB_OTHER"])
    for number in range(first, 4):
        if "saves nothing" not in broken or not number:
            (folder / str(number + 1)).mkdir()
        progress = {"run_steps": number + 1, "run_steps_total": 4}
        (workdir / "part").write_text(json.dumps(progress))
        (workdir / "part").rename(workdir / "progress.json")
        time.sleep(0.3)
    shutil.copytree(source, workdir, dirs_exist_ok=True)
    """
)
"""Stands for the launcher: four checkpoints in a second or so, then ready results."""


@pytest.fixture
def drill_with(pair, tmp_path, monkeypatch):
    """drill_with(what is broken, scenario) -> (exit status, last line of the log)."""
    one, two = pair
    rewrite(two, lambda r: r.assign(loss=r.loss + 1))
    start = processes.start

    def stub(arguments, **how):
        environment = {
            **os.environ,
            **{"STUB_RESULTS": str(one), "STUB_OTHER": str(two), "STUB_BROKEN": broken},
        }
        how["environment"] = environment
        return start(arguments, program=(sys.executable, "-c", STUB), **how)

    def run(what, scenario):
        nonlocal broken
        broken = what
        out = tmp_path / "drill"
        status = fault_drill.main([f"--out={out}", f"--only={scenario}", "--kills=4"])
        lines = (out / "drill.log").read_text().splitlines()
        return status, json.loads(lines[-2])

    broken = ""
    monkeypatch.setattr(processes, "start", stub)
    return run


@pytest.mark.parametrize(
    ("broken", "scenario", "said"),
    [
        ("", "two_launches", "Another launch is running"),
        ("lock", "two_launches", "Broken: it ends with (2,)"),
        ("", "sigkill", "4 hits ("),
        ("loses", "sigkill", "Broken: the results are bit-identical"),
        ("status", "sigterm", "Broken: SIGTERM ends with 75"),
        ("saves nothing", "sigterm", "Broken: it saved"),
    ],
)
def test_a_broken_promise_fails_the_drill_and_a_kept_one_does_not(
    broken, scenario, said, drill_with
):
    status, end = drill_with(broken, scenario)
    assert end["came"].startswith(said) or said in end["came"], end
    assert status == (1 if broken else 0)
    assert end["event"] == ("FAIL" if broken else "passed")


def test_what_a_scenario_did_not_foresee_fails_it_and_the_next_one_runs(
    tmp_path, monkeypatch
):
    ran = []
    scenarios = {"odd": lambda _: ran[0], "next": lambda _: ran.append(1) or "ran"}
    for scenario in scenarios.values():
        scenario.__doc__ = "One."
    monkeypatch.setattr(fault_drill, "SCENARIOS", scenarios)
    page = tmp_path / "drill.md"
    line = [f"--out={tmp_path / 'd'}", "--only=odd,next", f"--summary={page}"]
    assert fault_drill.main(line) == 1
    assert ran == [1]
    assert "IndexError" in (tmp_path / "d" / "drill.log").read_text()
    said = page.read_text()
    assert said.startswith("# Fault drill: 1 of 2 scenarios passed\n")
    assert "| odd | One. | **FAIL** | 0 | IndexError" in said
    assert f"- git commit: {workdirs.git_commit()}\n" in said
    assert "| next | passed | seconds: 0.0; came: ran |" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only=sigkil"], "no scenario 'sigkil'; known: sigkill"),
        (["--kills=0"], "--kills must be 1 or more"),
        (["--summary=nowhere/drill.md"], "there is no folder nowhere"),
        ([], "is not empty and holds no drill.log"),
    ],
)
def test_wrong_usage_is_a_sentence_and_touches_nothing(
    arguments, said, tmp_path, capsys
):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(SystemExit) as error:
        fault_drill.main([f"--out={tmp_path}", *arguments])
    assert error.value.code == 2 and said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_small_disk_fills_up_and_is_gone_afterwards(tmp_path):
    with disks.small(tmp_path / "disk", 2**20) as disk:
        disk.fill(2**14)
        if not disk.limit:
            with pytest.raises(OSError, match="No space left"):
                (disk.path / "more").write_bytes(bytes(2**15))
            disk.free()
            (disk.path / "more").write_bytes(bytes(2**15))
    assert list((tmp_path / "disk").iterdir()) == []


def test_without_a_small_disk_a_limit_stands_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("unshare") is None
    with disks.small(tmp_path / "disk", 2**20) as disk:
        assert disk.limit and disk.path == tmp_path / "disk"


# --- the drill, with a few kills -----------------------------------------------------


@pytest.mark.slow
def test_the_whole_drill(tmp_path):
    assert fault_drill.main([f"--out={tmp_path / 'drill'}", "--kills=4"]) == 0


@pytest.mark.slow
def test_the_full_disks_without_rights(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    only = "--only=disk_full_at_checkpoint,disk_full_at_results"
    assert fault_drill.main([f"--out={tmp_path / 'drill'}", only]) == 0
