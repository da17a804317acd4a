"""The benchmark: tiny measurements give numbers, the table and the JSON say them.
Nothing here depends on how long anything takes."""

import json
import math

import jax
import pytest

from grok_jax import benchmark, benchmark_torch, config

TINY = dict(
    task=dict(name="polynomial", input_dim=6, train_size=14, test_size=9),
    model=dict(name="committee", width=7),
    optimizer=dict(rule="lazy"),
)


@pytest.fixture(autouse=True)
def as_many_devices_as_the_tests_have(monkeypatch):
    monkeypatch.setattr(config, "_cores", jax.local_device_count)


def tiny_host_overhead():
    layer = dict(train=dict(records=5), sweep=dict(seed=(0, 1, 2)))
    return benchmark.host_overhead(
        config.make_config(TINY, layer, dict(engine=dict(mode="map"))), steps=20
    )


MEASUREMENTS = {
    "many_runs": lambda: benchmark.many_runs(
        {"tiny": TINY}, runs=4, repeats=1, seconds=1e-4
    ),
    "host_overhead": tiny_host_overhead,
    "compile": lambda: benchmark.compile_time(TINY, runs=4, repeats=1),
    "checkpoint": lambda: benchmark.checkpoints(TINY, runs=4, repeats=1),
    "ntk": lambda: benchmark.ntk(
        widths=(6, 5, 3), points=4, width=5, inputs=6, repeats=1, gemm=16
    ),
}


def test_a_tiny_step_is_compared_with_that_of_pytorch():
    pytest.importorskip("torch", reason="PyTorch is an optional extra")
    workload = benchmark.TEACHER_STUDENT, benchmark_torch.teacher_student, 1e-9
    (row,) = benchmark.pytorch({"tiny": workload}, repeats=1, seconds=1e-3)
    assert row.name == "pytorch/tiny" and row.measured > 0 and row.met == "yes"
    for step in (benchmark_torch.mnist(4, 8, 4), benchmark_torch.transformer(5)):
        step()


def test_without_pytorch_the_comparison_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_torch, "available", lambda: False)
    assert benchmark.main(["benchmark", "--only=pytorch"]) == 2
    assert "pip install 'grok_jax[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [*MEASUREMENTS, pytest.param("start_up", marks=pytest.mark.slow)],
)
def test_a_tiny_measurement_gives_finite_positive_numbers(name):
    measure = {**MEASUREMENTS, "start_up": lambda: benchmark.start_up(repeats=1)}[name]
    rows = measure()
    assert rows
    for row in rows:
        assert row.name.startswith(f"{name}/")
        assert math.isfinite(row.measured) and row.measured > 0, row
    assert len({row.name for row in rows}) == len(rows)


def test_every_benchmark_is_measured_here():
    assert {*benchmark.BENCHMARKS} == {*MEASUREMENTS, "start_up", "pytorch"}


ROWS = [
    benchmark.Row("a/fast", 1.0, "x", 1.05, "64 runs against 1"),
    benchmark.Row("a/slow", 1.2, "x", 1.05),
    benchmark.Row("a/free", 2.0, "s"),
]


def test_a_goal_is_met_up_to_and_at_it():
    assert [row.met for row in ROWS] == ["yes", "NO", "-"]
    assert ROWS[0]._replace(measured=1.05).met == "yes"


def test_the_command_prints_and_stores_the_rows_that_were_asked_for(
    monkeypatch, tmp_path, capsys
):
    parts = {"one": lambda: ROWS[:1], "two": lambda: ROWS[1:], "three": lambda: 1 / 0}
    monkeypatch.setattr(benchmark, "BENCHMARKS", parts)
    out = tmp_path / "bench.json"
    line = ["benchmark", "--only=one,two", f"--out={out}"]
    assert benchmark.main(line) == benchmark.DONE
    said = capsys.readouterr().out
    for words in ("a/fast", "1.2 x", "<= 1.05 x", "yes", "NO", "64 runs against 1"):
        assert words in said
    held = json.loads(out.read_text())
    assert held["device"].startswith("2 x CPU") and held["jax"] == jax.__version__
    assert held["rows"][1] == {
        **{"name": "a/slow", "measured": 1.2, "unit": "x", "goal": 1.05},
        **{"note": "", "met": "NO"},
    }
    assert held["rows"][2]["goal"] is None and len(held["rows"]) == 3


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--only=compil", "no benchmark 'compil'; nearest: compile"),
        ("--onli=compile", "no flag --onli; nearest: only"),
        ("--out=nowhere/bench.json", "There is no folder"),
        ("compile", "'compile' is not a flag"),
    ],
)
def test_a_bad_line_is_refused(argument, said, capsys):
    assert benchmark.main(["benchmark", argument]) == benchmark.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and said in error and error.count("\n") == 1


def test_measurements_that_need_a_checkout_say_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "K3", tmp_path / "k3_laziness.py")
    line = ["benchmark", "--only=start_up"]
    assert benchmark.main(line) == benchmark.WRONG_USAGE
    assert "needs a checkout" in capsys.readouterr().err
