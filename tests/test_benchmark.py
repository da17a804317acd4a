"""The benchmark: tiny measurements give numbers, the table, the JSON and the figure
say them. Nothing here depends on how long anything takes."""

import json
import math

import jax
import numpy as np
import pytest

from grok_jax import benchmark, config, programs, record, timing
from grok_jax.benchmarks import (
    alone,
    host,
    kernels,
    picture,
    pytorch,
    scaling,
    steps,
    workloads,
)
from grok_jax.timing import Row

TINY = dict(
    task=dict(name="polynomial", input_dim=6, train_size=14, test_size=9),
    model=dict(name="committee", width=7),
    optimizer=dict(rule="lazy"),
)
TINY_DYNAMICS = {**TINY, "model": dict(name="committee_dynamics")}


@pytest.fixture(autouse=True)
def as_many_devices_as_the_tests_have(monkeypatch):
    monkeypatch.setattr(config, "_cores", jax.local_device_count)


def tiny_host_overhead():
    layer = dict(train=dict(records=5), sweep=dict(seed=(0, 1, 2)))
    return host.overhead(
        config.make_config(TINY, layer, dict(engine=dict(mode="map"))), steps=20
    )


TINY_KERNELS = {
    "mlp": lambda: kernels.mlp_kernel((6, 5, 3), 4),
    "committee": lambda: kernels.committee_kernel(5, 6, 4),
    "transformer": lambda: kernels.transformer_kernel(5, 3),
}
MEASUREMENTS = {
    "gemm": lambda: steps.gemm_bound(
        dict(direct=TINY, exact=TINY_DYNAMICS),
        dict(direct=0.7),
        repeats=1,
        seconds=1e-3,
        sizes=(16,),
    ),
    "many_runs": lambda: scaling.many_runs(
        {"tiny": TINY}, runs=4, repeats=1, seconds=1e-3
    ),
    "host_overhead": tiny_host_overhead,
    "compile": lambda: host.compile_time(TINY, runs=4, repeats=1),
    "checkpoint": lambda: host.checkpoints(TINY, runs=4, repeats=1),
    "ntk": lambda: kernels.ntk(TINY_KERNELS, repeats=1, sizes=(16,)),
}
SLOW = {
    "runs": lambda: scaling.runs(
        {"tiny": scaling.Range(TINY, (1, 3), ("map", "vmap"))}, repeats=1, seconds=1e-3
    ),
    "ntk_inputs": lambda: kernels.inputs((8, 16), repeats=1),
    "start_up": lambda: host.start_up(repeats=1),
    "devices": lambda: alone.devices({"tiny": TINY}, counts=(1, 3), seconds=1e-3),
    "memory": lambda: alone.memory({"tiny": TINY}, seconds=1e-3),
}


@pytest.mark.parametrize(
    "name", [*MEASUREMENTS, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_a_tiny_measurement_gives_finite_positive_numbers(name):
    rows = {**MEASUREMENTS, **SLOW}[name]()
    assert rows
    for row in rows:
        assert row.name.startswith(f"{name}/")
        assert math.isfinite(row.measured) and row.measured > 0, row
    assert len({row.name for row in rows}) == len(rows)


def test_every_benchmark_is_measured_here():
    assert {*benchmark.BENCHMARKS} == {*MEASUREMENTS, *SLOW, "pytorch"}
    assert {*benchmark.QUICK} <= {*benchmark.BENCHMARKS}


def test_the_share_of_the_gemm_bound_follows_from_what_was_timed(monkeypatch):
    """14 x 6 inputs, 7 neurons: products of 2 * 14 * 6 * 7 each way; the clock stands
    still but for what is said here."""

    def in_turns(calls, repeats):
        fixed = {"step": 1.0, "products": 0.5, "update": 0.25}
        return {name: fixed.get(name, 1e-3) for name in calls}

    monkeypatch.setattr(steps.timing, "in_turns", in_turns)
    monkeypatch.setattr(steps.timing, "steps_in", lambda *_: 10)
    first, alone_, update = steps.gemm_bound({"tiny": TINY}, {}, sizes=(16,))
    rate = 2 * 2 * 16**3 / 1e-3  # both devices at once: the larger of the two
    run_step = 1.0 / 10 / jax.local_device_count()
    work = 2 * (2 * 14 * 6 * 7)
    assert first.measured == pytest.approx(work / rate / run_step)
    assert (alone_.measured, update.measured) == (0.5, 0.25)


def test_the_answer_of_a_process_of_its_own_fits_the_question():
    request = alone.Request(TINY, runs=3, devices=2, seconds=1e-3)
    found = alone.answer(request)
    assert 0 < found.before <= found.peak
    assert found.predicted > 0 and found.run_step > 0 and found.compile > 0


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="commitee"):
        alone.ask(alone.Request(dict(model=dict(name="commitee"))))


def test_without_pytorch_the_comparison_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(pytorch, "available", lambda: False)
    assert benchmark.main(["benchmark", "--only=pytorch"]) == 2
    assert "pip install 'grok_jax[bench]'" in capsys.readouterr().err


ROWS = [
    Row("many_runs/fast", 1.0, "x", 1.05, "64 runs against 1"),
    Row("many_runs/slow", 1.2, "x", 1.05),
    Row("many_runs/free", 2.0, "s"),
    Row("gemm/mnist", 0.8, "of the bound", 0.75, at_least=True),
    Row("gemm/mnist/update", 0.1, ""),
    Row("runs/mnist map/1", 2e-3, "s"),
    Row("runs/mnist map/64", 1e-3, "s"),
]


def test_a_goal_is_met_up_to_and_at_it():
    assert [row.met for row in ROWS[:4]] == ["yes", "NO", "-", "yes"]
    assert ROWS[0]._replace(measured=1.05).met == "yes"
    assert ROWS[3]._replace(measured=0.75).met == "yes"
    assert ROWS[3]._replace(measured=0.7).met == "NO"


def test_the_command_prints_and_stores_the_rows_that_were_asked_for(
    monkeypatch, tmp_path, capsys
):
    parts = {
        **{"one": lambda: ROWS[:1], "two": lambda repeats=5: ROWS[repeats:]},
        "three": lambda: 1 / 0,
    }
    monkeypatch.setattr(benchmark, "BENCHMARKS", parts)
    monkeypatch.setattr(benchmark, "QUICK", {"two": dict(repeats=1)})
    out = tmp_path / "bench.json"
    page = tmp_path / "bench.md"
    line = ["benchmark", "--only=one,two", "--quick", f"--out={out}"]
    line += [f"--summary={page}"]
    assert benchmark.main(line) == benchmark.DONE
    said = capsys.readouterr().out
    for words in ("many_runs/fast", "1.2 x", "<= 1.05 x", ">= 0.75 of the bound"):
        assert words in said
    for words in ("yes", "NO", "64 runs against 1"):
        assert words in said
    held = json.loads(out.read_text())
    assert held["device"].startswith("2 x CPU")
    assert f"jax {jax.__version__}" in held["version"]
    assert held["git commit"] == record.git_commit()
    assert held["rows"][1] == {
        **{"name": "many_runs/slow", "measured": 1.2, "unit": "x", "goal": 1.05},
        **{"note": "", "at_least": False, "met": "NO"},
    }
    assert held["rows"][2]["goal"] is None and len(held["rows"]) == len(ROWS)
    drawn = tmp_path / "figures" / "benchmark.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    said = page.read_text()
    assert said.startswith("# Benchmark: 2 of 3 goals met\n")
    assert "![the measurements](figures/benchmark.png)" in said
    assert "| many\\_runs/slow | 1.2 x | \\<= 1.05 x | NO |  |" in said


def test_the_figure_goes_where_it_is_told_and_shows_what_there_is(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"one": lambda: ROWS})
    path = tmp_path / "own.png"
    assert benchmark.main(["benchmark", f"--figure={path}"]) == benchmark.DONE
    assert path.exists() and not (tmp_path / "bench.png").exists()
    axes = [axis for axis in picture.draw(ROWS).axes if axis.get_visible()]
    assert len(axes) == 2  # gemm and runs
    bar, line = axes
    assert [patch.get_width() for patch in bar.patches] == [0.8]
    assert line.lines[0].get_xydata().tolist() == [[1, 2], [64, 1]]
    assert picture.draw(ROWS[:3]) is None


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--only=compil", "no benchmark 'compil'; nearest: compile"),
        ("--onli=compile", "no flag --onli; nearest: only"),
        ("--out=nowhere/bench.json", "There is no folder"),
        ("--figure=nowhere/bench.png", "There is no folder"),
        ("--summary=nowhere/bench.md", "There is no folder"),
        ("compile", "'compile' is not a flag"),
    ],
)
def test_a_bad_line_is_refused(argument, said, capsys):
    assert benchmark.main(["benchmark", argument]) == benchmark.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and said in error and error.count("\n") == 1


def test_measurements_that_need_a_checkout_say_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(host, "K3", tmp_path / "k3_laziness.py")
    line = ["benchmark", "--only=start_up"]
    assert benchmark.main(line) == benchmark.WRONG_USAGE
    assert "needs a checkout" in capsys.readouterr().err


SHRUNK = {
    "teacher_student": dict(task=dict(train_size=10, test_size=5), model=dict(width=8)),
    "mnist": dict(task=dict(train_size=12, test_size=5), model=dict(width=6)),
    "transformer": dict(
        task=dict(modulus=5),
        model=dict(vocabulary=6, width=8, heads=2, head_width=4, mlp_width=16),
    ),
    "fnn": dict(
        task=dict(modulus=5),
        model=dict(vocabulary=5, outputs=5, embedding=4, width=8),
    ),
    "lstm": dict(
        task=dict(train_size=8, test_size=5, vocabulary=9, length=6),
        model=dict(vocabulary=9, embedding=4, hidden=5),
    ),
    "gcn": dict(
        task=dict(train_size=6, test_size=5, atoms=5),
        model=dict(first_channels=4, second_channels=3, edge_hidden=4, dense=4),
    ),
    "committee": dict(
        task=dict(input_dim=6, train_size=14, test_size=9), model=dict(width=7)
    ),
    "committee_dynamics": dict(task=dict(input_dim=6, train_size=14, test_size=9)),
}


@pytest.fixture
def torch_alone():
    """PyTorch on one thread: its threads wait for one another where cores are busy."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_alone")
@pytest.mark.parametrize("name", workloads.STEPS)
def test_a_step_of_pytorch_is_ours(name):
    full = dict(train=dict(batch_size=0))
    settings = config.make_config(workloads.STEPS[name], SHRUNK[name], full).to_dict()
    lot = timing.lot(settings, 1, jax.local_devices()[:1])
    step = pytorch.make_step(*steps.first_run(lot))
    theirs = [float(step()) for _ in range(4)]
    pieces = programs.make_pieces(np.arange(4), 0, 0, 3)
    compiled = lot.program.compiled("map", lot.chunk.place)
    _, records = compiled(*lot.chunk.arguments(pieces))
    ours = np.asarray(records["train_loss"])[0, :4]
    assert len(set(ours.tolist())) == 4
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)


@pytest.mark.usefixtures("torch_alone")
def test_a_step_is_compared_with_that_of_pytorch():
    """On minibatches, of which PyTorch draws its own."""
    settings = {**TINY, "train": dict(batch_size=5)}
    (row,) = steps.pytorch(
        {"tiny": settings},
        {"tiny": 1e-9},
        pytorch.make_step,
        repeats=1,
        seconds=1e-3,
    )
    assert row.name == "pytorch/tiny" and row.measured > 0 and row.met == "yes"
