"""Who wins, by the rule that was written before the runs; and the command line."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from delay.tables import judged, made_up
from delay.test_table import landscape, results

from grok_jax.delay import __main__ as command
from grok_jax.delay import judges, remedies, table, verdict
from grok_jax.engine import shipped, workdirs


def test_the_theory_whose_number_made_the_times_wins():
    assert verdict.winner(judged()) == "kernel"
    assert verdict.winner(judged(), moment="start") == "none"
    found = verdict.totals(made_up(runs=80), judged())
    assert found["winner"] == "kernel" and found["runs"] == 160
    assert found["beats_settings"] == ["kernel"]
    assert found["differences"]["kernel - floor"]["low"] > 0.3
    over = verdict.difference(judged(), "norm", "loss")
    assert over.low < 0 < over.high or abs(over.mean) < 0.1


def test_the_ends_of_runs_are_shares_of_those_that_fit():
    table = made_up(runs=4, tasks=("a",)).assign(
        t_train=("run", [10.0, 10, 10, np.nan]),
        t_test=("run", [15.0, 16, np.nan, np.nan]),
    )
    third = pytest.approx(1 / 3)
    assert verdict.ends(table) == {
        "no delay": third,
        "delay": third,
        "never generalised": third,
        "never fitted": 0.25,
    }


def test_none_wins_where_the_times_are_shuffled():
    shuffled = made_up(runs=80)
    order = np.random.default_rng(0).permutation(shuffled.sizes["run"])
    for name in ("t_test", "t_train"):
        shuffled[name] = ("run", shuffled[name].values[order])
    found = judges.judge(shuffled, models=("Cox",))
    assert verdict.winner(found) == "none"
    shares = [one.concordance for one in found if one.theory == "kernel"]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_differences_are_paired():
    """The same draws of the runs for both: one differs from itself by exactly 0."""
    assert verdict.difference(judged(), "kernel", "kernel") == (0, 0, 0)


def test_the_command_prints_the_verdicts(tmp_path, capsys, monkeypatch):
    path = tmp_path / "runs.nc"
    workdirs.write_results(path, table.packed(made_up(runs=60)))
    monkeypatch.setattr(judges.judge, "__defaults__", (("Cox",),))
    assert command.main(["delay", f"--table={path}", "--totals"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"winner", "differences", "judged"} <= set(found)
    row = found["judged"][0]
    assert {"theory", "left_out", "concordance", "low", "high", "censored"} <= set(row)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "Say --run, --make, --totals or --draw"),
        (["--totals", "--table=nowhere.nc"], "nowhere.nc is missing"),
        (["--total"], "There is no flag --total; nearest: --totals"),
        (["--make=nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_a_sentence(argv, says, capsys):
    assert command.main(["delay", *argv]) == 2
    assert says in capsys.readouterr().err


def test_without_the_library_a_sentence_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert command.main(["delay", "--totals"]) == 2
    assert "pip install 'grok_jax[delay]'" in capsys.readouterr().err


def test_pages_are_run_and_their_table_is_made(tmp_path, monkeypatch):
    """With the launcher replaced: every task and its landscape, then interventions and
    remedies, until one stops; of a pilot the tasks alone."""
    lines, ended = [], []

    def run(line):
        lines.append(line)
        return subprocess.CompletedProcess(line, ended.pop(0) if ended else 0)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["delay", f"--run={tmp_path}"]) == 0
    assert len(lines) == 14 + 4 + 4
    pairs = [tuple(word.partition("=")[2] for word in line[3:]) for line in lines]
    config, workdir = pairs[1]
    assert config.endswith("delay/d1_polynomial.py:landscape")
    assert workdir == f"{tmp_path}/d1_polynomial_landscape"
    assert [Path(config).name[:2] for config, _ in pairs[14:]] == [
        *("c1", "c2", "c3", "c4"),
        *("r1", "r2", "r3", "r4"),
    ]
    lines.clear()
    ended += [0] * 6 + [75]
    assert command.main(["delay", f"--run={tmp_path}", "--pilot"]) == 75
    assert [line[3].rpartition(":")[2] for line in lines] == ["pilot"] * 7


def test_what_two_looks_cost_is_a_share_of_the_steps():
    """A run that never generalised takes all its steps."""
    runs = xr.Dataset(
        {
            "task": ("run", ["a", "a", "a"]),
            "t_test": ("run", [100.0, np.nan, 50.0]),
            "horizon": ("run", [400.0] * 3),
        },
        attrs={"look_in_steps": json.dumps({"a": 10.0})},
    )
    assert verdict.cost(runs) == {"a": pytest.approx(0.2)}


def test_the_table_is_made_of_finished_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(command.cost, "in_steps", lambda experiment: 12.0)
    for name in command._pages():
        for end, made in (("", results()), ("_landscape", landscape())):
            folder = tmp_path / f"{name}{end}"
            folder.mkdir()
            workdirs.write_results(folder / "results.nc", made)
            workdirs.write_json(folder / "config.json", {"git_commit": "abc"})
    for name in command._pages("r"):
        folder = tmp_path / name
        folder.mkdir()
        arms = [remedies.PLAIN, "GrokFast", *(["StableMax"] if "pairs" in name else [])]
        made = xr.concat([results()] * len(arms), xr.DataArray(arms, dims="arm"))
        workdirs.write_results(folder / "results.nc", made)
    path = tmp_path / "runs.nc"
    arguments = [f"--make={tmp_path}", f"--table={path}"]
    assert command.main(["delay", *arguments]) == 0
    made = workdirs.read_results(path)
    assert made.sizes["run"] == 7 * 4
    assert made.attrs["commits"] == "abc"
    assert json.loads(made.attrs["look_in_steps"])["parity"] == 12.0
    assert set(made.task.values) >= {"polynomial", "transformer"}
    assert np.isfinite(made.critical_norm.values).all()
    tried = workdirs.read_results(tmp_path / "runs_remedies.nc")
    assert tried.sizes["run"] == 4 * 4 and set(tried.arm.values) == {
        "GrokFast",
        "StableMax",
    }
    others = tried.gain.sel(arm="StableMax")[tried.task.values != "pairs"]
    assert np.isnan(others.values).all()
    assert (tried.gain.sel(arm="GrokFast") == 0).all()


def test_the_published_totals_are_those_of_the_published_table():
    """Its counts, and the verdict on the norm with one task left out."""
    folder = shipped.folder() / "delay"
    runs, found = (
        workdirs.read_results(folder / "runs.nc"),
        workdirs.read_json(folder / "totals.json"),
    )
    assert found["runs"] == runs.sizes["run"] >= 5000
    assert found["ends"] == verdict.plain(verdict.ends(runs))
    assert found["cost"] == verdict.plain(verdict.cost(runs))
    fitted = judges.theories.that_fitted(runs)
    inside = fitted.task.values == "transformer"
    case = judges.Case(
        "task: transformer", fitted.isel(run=~inside), fitted.isel(run=inside)
    )
    norm = case.fitted("norm", "fitted", "Cox", judges.theories.matrix)
    assert verdict.plain(verdict._row(norm)) in found["judged"]
