"""The account: its figures and words say what the totals do."""

import json

import numpy as np
import pytest
from delay.tables import made_up

from grok_jax.delay import __main__ as command
from grok_jax.delay import account, judges, verdict
from grok_jax.engine import workdirs


@pytest.fixture(scope="module")
def runs():
    return made_up(runs=60)


@pytest.fixture(scope="module")
def totals(runs):
    runs = runs.assign_attrs(look_in_steps=json.dumps({"a": 10.0, "b": 20.0}))
    found = verdict.totals(runs, judges.judge(runs, models=("Cox",)))
    told = {name: [0, -1, 1] for name in account.theories.NUMBER}
    found["remedies"] = {"GrokFast": told}
    return json.loads(json.dumps(found))


def test_words_are_those_of_the_totals(totals):
    assert account.said("runs", totals).startswith("120 runs.")
    low, high = sorted(totals["cost"].values())
    assert f"{low:.0%} to {high:.0%} of a run's steps" in account.said("cost", totals)
    assert "**Kernel wins**" in account.said("winner", totals)
    assert "**No theory wins**" in account.said("winner", {**totals, "winner": "none"})
    table = account.said("theories", totals).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [
        f"| {name}" for name in (*account.THEORIES, "anywhere", "floor")
    ]
    kernel = account.of_theory(totals, "kernel")
    seen = np.mean([row["concordance"] for row in kernel if "task" in row["left_out"]])
    assert f"**{seen:.2f}**" in table[3]
    assert "GrokFast | +0.00 (-1.00 to +1.00)" in account.said("remedies", totals)
    chance = account.said("unexplained", totals)
    far = account.mean(account.of_theory(totals, "together"), "far_off")
    assert (
        chance.startswith("On every task some theory")
        and f"{far:.0%} of the runs" in chance
    )
    no_better = [{**row, "low": 0.4} for row in totals["judged"]]
    assert "chance on a, b." in account.said("unexplained", {"judged": no_better})
    assert "generalise within the 80% range" in account.said("coverage", totals)
    gain = totals["differences"]["kernel - norm"]["mean"]
    assert f"{gain:+.3f}" in account.said("differences", totals)


def test_figures_draw_every_task_and_theory(runs, totals):
    drawn = account.figures(runs, totals)
    assert set(drawn) == {"runs", "theories", "tasks", "times"}
    ends, delays = drawn["runs"].axes[:2]
    assert len(ends.patches) == 4 * 2  # four ways to end, two tasks
    width = sum(patch.get_width() for patch in ends.patches)
    assert width == pytest.approx(2)
    assert len(delays.get_lines()) == 2 + 1
    heat = drawn["tasks"].axes[0].get_images()[0].get_array()
    assert heat.shape == (2 + len(judges.REGIONS), len(account.THEORIES) + 1)
    floor = account.of_theory(totals, "floor")
    np.testing.assert_allclose(heat[:, -1], [row["concordance"] for row in floor])


def test_each_task_is_predicted_from_the_others(runs):
    """With the delays of a task changed, the predictions of its own runs stay."""
    first, second = account.predictions(runs, "kernel")
    inside = runs.task.values == first[0]
    longer = runs.assign(t_test=runs.t_test.where(~inside, runs.t_test * 2))
    changed = account.predictions(longer, "kernel")
    np.testing.assert_array_equal(changed[0][1], first[1])
    assert not np.array_equal(changed[1][1], second[1])


def test_they_are_drawn_from_files(runs, totals, tmp_path, capsys):
    workdirs.write_results(tmp_path / "runs.nc", runs)
    workdirs.write_json(tmp_path / "totals.json", totals)
    line = [f"--table={tmp_path / 'runs.nc'}", f"--draw={tmp_path / 'totals.json'}"]
    assert command.main(["delay", *line]) == 0
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == [f"account_{n}.png" for n in ("runs", "tasks", "theories", "times")]
    workdirs.write_json(tmp_path / "totals.json", {"a": 1})
    assert command.main(["delay", *line]) == 2
    assert "is not what --totals prints" in capsys.readouterr().err
