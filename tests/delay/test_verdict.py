"""Who wins, by the rule that was written before the runs; and the command line."""

import json

import numpy as np
import pytest
from delay.tables import made_up

from grok_jax.delay import __main__ as command
from grok_jax.delay import judges, table, verdict
from grok_jax.engine import workdirs


@pytest.fixture(scope="module")
def judged():
    return judges.judge(made_up(runs=150), models=("Cox",))


def test_the_theory_whose_number_made_the_times_wins(judged):
    assert verdict.winner(judged) == "kernel"
    assert verdict.winner(judged, moment="start") == "none"
    found = verdict.totals(judged)
    assert found["winner"] == "kernel"
    assert found["beats_settings"] == ["kernel"]
    assert found["differences"]["kernel - floor"]["low"] > 0.3
    over = verdict.difference(judged, "norm", "loss")
    assert over.low < 0 < over.high or abs(over.mean) < 0.1


def test_none_wins_where_the_times_are_shuffled():
    shuffled = made_up(runs=150)
    order = np.random.default_rng(0).permutation(shuffled.sizes["run"])
    for name in ("t_test", "t_train"):
        shuffled[name] = ("run", shuffled[name].values[order])
    found = judges.judge(shuffled, models=("Cox",))
    assert verdict.winner(found) == "none"
    shares = [one.concordance for one in found if one.theory == "kernel"]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_differences_are_paired(judged):
    """The same draws of the runs for both: one differs from itself by exactly 0."""
    assert verdict.difference(judged, "kernel", "kernel") == (0, 0, 0)


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
        ([], "Say --totals or --make=RUNS"),
        (["--totals", "--table=nowhere.nc"], "nowhere.nc is missing"),
        (["--total"], "There is no flag --total; nearest: totals"),
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
