"""The benchmark: tiny measurements give numbers, the table, the JSON and the figure
say them. Nothing here depends on how long anything takes."""

import json
import math
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from benchmarks import (
    census,
    host,
    kernels,
    picture,
    pytorch,
    steps,
    timing,
    workloads,
)
from benchmarks import run as benchmark
from benchmarks.timing import Contender, Line, Row, Setup
from grok_jax.engine import config, machine, programs, workdirs
from grok_jax.settings import SettingError

TINY = dict(
    task=dict(name="polynomial", input_dim=6, train_size=14, test_size=9),
    model=dict(name="committee", width=7),
    optimizer=dict(rule="lazy"),
)
TINY_DYNAMICS = {**TINY, "model": dict(name="committee_dynamics")}


@pytest.fixture(autouse=True)
def as_many_devices_as_the_tests_have(monkeypatch):
    monkeypatch.setattr(machine, "_cores", jax.local_device_count)


class Named(NamedTuple):
    """A device of which only the platform counts."""

    platform: str


def tiny(**changed):
    return Setup(
        **{
            **dict(workloads={"tiny": TINY}, runs=(1, 3), seconds=1e-3, repeats=1),
            **changed,
        }
    )


# --- clocks ---------------------------------------------------------------------------


def clock(step, start=0.0):
    """A call whose time is made up, and the counts that it was asked for."""
    asked = []

    def call(count):
        asked.append(count)
        return start + step * count

    return call, asked


def test_a_slope_has_no_part_of_what_a_segment_costs_before_its_first_step():
    call, _ = clock(3e-6, start=0.2)
    own = timing.contender(call, seconds=0.5)
    (line,) = timing.lines({"own": own}, repeats=2).values()
    assert line.slope == pytest.approx(3e-6) and line.start == pytest.approx(0.2)


def test_the_longest_count_takes_the_seconds_that_were_asked_for():
    call, _ = clock(1e-4, start=0.02)
    least, middle, most = timing.contender(call, seconds=0.5).counts
    assert least == 1 and 1e-4 * (most - least) == pytest.approx(0.5, rel=0.01)
    assert middle == (1 + most) // 2


def test_a_step_that_is_expected_to_be_long_is_timed_at_one_and_two():
    call, asked = clock(20.0)
    assert timing.contender(call, 0.5, expected=20.0).counts == (1, 2)
    assert not asked


def test_contenders_are_called_in_turns_and_the_median_counts():
    calls, seconds = [], iter([1.0, 50.0, 2.0, 60.0, 90.0, 70.0])

    def call(name):
        return lambda count: (calls.append((name, count)), next(seconds))[1]

    own = {name: Contender(call(name), (2,)) for name in "ab"}
    found = timing.lines(own, repeats=3)
    assert calls == [("a", 2), ("b", 2)] * 3
    assert found == {"a": Line(1.0, 0.0), "b": Line(30.0, 0.0)}


def test_noise_that_bends_a_line_down_leaves_a_bound_from_above():
    assert timing.fit({1: 5.0, 10: 4.0}) == Line(0.4, 0.0)


# --- tiny measurements ----------------------------------------------------------------


def tiny_overhead(setup):
    layer = dict(train=dict(records=5), sweep=dict(seed=(0, 1, 2)))
    own = config.make_config(TINY, layer, dict(engine=dict(mode="map")))
    return host.overhead(setup, own, steps=20)


def tiny_networks():
    """Of two images by a LeNet, which is written as people write."""
    with jax.numpy_rank_promotion("allow"):
        return list(kernels.networks(tiny(), points=2, names=("lenet",), sizes=(16,)))


TINY_KERNELS = {
    "mlp": lambda: kernels.mlp_kernel((6, 5, 3), 4),
    "committee": lambda: kernels.committee_kernel(5, 6, 4),
    "transformer": lambda: kernels.transformer_kernel(5, 3),
}
BOTH = {"direct": TINY, "exact": TINY_DYNAMICS}
MEASUREMENTS = {
    "peak": lambda: steps.peak(tiny(), (16,)),
    "steps": lambda: steps.steps(tiny(workloads=BOTH, runs=(3,))),
    "devices": lambda: steps.devices(tiny(), runs=3),
    "host_overhead": lambda: tiny_overhead(tiny()),
    "compile": lambda: host.compile_time(tiny(), {"tiny": TINY}, many=4),
    "checkpoint": lambda: host.checkpoints(tiny(), TINY, runs=4),
    "ntk": lambda: kernels.kernels(tiny(), TINY_KERNELS, sizes=(16,)),
}
SLOW = {
    "ntk_networks": tiny_networks,
    "ntk_inputs": lambda: kernels.inputs(tiny(), (8, 16)),
    "launch": lambda: host.launch(tiny(), ("k3_laziness",)),
}


@pytest.mark.parametrize(
    "name", [*MEASUREMENTS, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_a_tiny_measurement_gives_finite_positive_numbers(name, monkeypatch):
    monkeypatch.setattr(steps.rates, "GEMM_SIZES", (16,))
    rows = list({**MEASUREMENTS, **SLOW}[name]())
    assert rows
    for row in rows:
        assert row.name.startswith((f"{name}/", "gemm/", "many_runs/"))
        assert math.isfinite(row.measured) and row.measured > 0, row
    assert len({row.name for row in rows}) == len(rows)


def test_a_python_without_neural_tangents_is_named(tmp_path):
    for python, sentence in (
        (sys.executable, "ended without a kernel; it must be a Python with neural-tan"),
        (str(tmp_path / "none"), "none: No such file or directory"),
    ):
        with pytest.raises(SettingError, match=sentence):
            list(kernels.networks(tiny(), python, points=2, sizes=(16,)))


def test_every_benchmark_is_measured_here():
    assert {*benchmark.BENCHMARKS} == {*MEASUREMENTS, *SLOW, "pytorch", "census"}


class Compiled(NamedTuple):
    """A program that was not compiled."""


@pytest.fixture
def compiled(monkeypatch):
    """The (runs, mode) of the segments that were asked for; none is compiled."""
    asked = []

    def compile_segment(program, mode):
        asked.append((len(program.group.members), mode))
        return Compiled()

    monkeypatch.setattr(timing, "compile_segment", compile_segment)
    unknown = dict(planned_bytes=None, temporary_bytes=None)
    monkeypatch.setattr(timing, "planned_bytes", lambda _: unknown)
    return asked


@pytest.fixture
def timed(monkeypatch, compiled):
    """timed(name=Line, ...): nothing is compiled or timed, and these are the lines."""
    monkeypatch.setattr(steps.rates, "GEMM_SIZES", (16,))
    monkeypatch.setattr(timing, "in_turns", lambda calls, _: dict.fromkeys(calls, 1.0))
    monkeypatch.setattr(timing, "contender", lambda call, *_: Contender(call))

    def fix(**fixed):
        monkeypatch.setattr(
            timing, "lines", lambda calls, _: {name: fixed[name] for name in calls}
        )

    return fix


def test_numbers_of_a_step_follow_from_what_was_timed(timed):
    """14 x 6 inputs, 7 neurons: products of 2 * 14 * 6 * 7 each way."""
    timed(
        step=Line(6e-3, 0.5),
        products=Line(2e-3, 0.0),
        update=Line(1e-3, 0.0),
        few=Line(5e-3, 0.0),
        gemm=Line(1e-3, 0.0),
    )
    goals = steps.Goals(dict(tiny=0.7), dict(tiny=1.05))
    base, share, many, ratio = steps.steps(tiny(runs=(6,)), goals)
    work, rate = 2 * (2 * 14 * 6 * 7), 2 * 2 * 16**3 / 1e-3
    assert base.name == "steps/tiny/map/2" and many.name == "steps/tiny/map/6"
    assert base.measured == 3e-3 and many.measured == 1e-3
    found = base.numbers
    assert found["flops"] == work and found["segment_s"] == 0.5
    assert found["bound_s"] == pytest.approx(work / rate)
    assert (found["products_s"], found["update_s"]) == (1e-3, 5e-4)
    assert many.numbers["products_s"] == 1e-3
    assert share.measured == pytest.approx(work / rate / 3e-3) and share.goal == 0.7
    assert ratio.measured == pytest.approx(1e-3 / 2.5e-3) and ratio.goal == 1.05


def test_of_stacked_runs_the_products_are_stacked(timed):
    """Three runs on each of two devices take the stacked products together."""
    one = Line(6e-3, 0.0)
    timed(step=one, products=one, update=one, few=one, gemm=one)
    *_, many, _ = steps.steps(tiny(runs=(6,), mode="vmap"))
    assert many.numbers["products_stacked"] == 3
    assert many.numbers["products_s"] == pytest.approx(6e-3 / 6)


def test_what_would_take_too_long_or_too_much_memory_is_left_out(timed, monkeypatch):
    one = Line(1.0, 0.0)
    timed(step=one, products=one, update=one, few=one, gemm=one)
    rows = {row.name: row for row in steps.steps(tiny(runs=(4, 8), most=7.0))}
    assert rows["steps/tiny/map/4"].measured == 0.25
    assert rows["steps/tiny/map/8"].measured is None
    assert rows["steps/tiny/map/8"].note == "left out: timing it would take 12 s"
    planned = dict(planned_bytes=2**31, temporary_bytes=0)
    monkeypatch.setattr(timing, "planned_bytes", lambda _: planned)
    monkeypatch.setattr(timing.sweep, "memory_budget", lambda _: 2**30)
    first, *_ = steps.steps(tiny())
    assert first.note == "left out: it is planned to need 2 GiB on a device"


def test_a_program_that_fails_to_compile_says_so_and_the_others_go_on(
    timed, monkeypatch
):
    def fail(program, _):
        if len(program.group.members) == 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too large\nmore")
        return Compiled()

    one = Line(1.0, 0.0)
    timed(step=one, products=one, update=one, few=one, gemm=one)
    monkeypatch.setattr(timing, "compile_segment", fail)
    rows = {row.name: row for row in steps.steps(tiny(runs=(3, 4)))}
    failed = rows["steps/tiny/map/3"]
    assert failed.measured is None and failed.met == "-"
    assert failed.note == "JaxRuntimeError: RESOURCE_EXHAUSTED: too large"
    assert rows["steps/tiny/map/4"].measured == 0.25


def test_programs_are_compiled_side_by_side_once(compiled):
    setup = tiny()
    keys = [("tiny", 3, mode) for mode in ("map", "vmap")]
    setup.compile_side_by_side(keys, 2)
    assert sorted(compiled) == [(3, "map"), (3, "vmap")]
    assert all(setup.compiled(*key)[0] == Compiled() for key in keys)
    assert len(compiled) == 2


@pytest.mark.parametrize(
    ("platform", "mode", "modes"),
    [
        ("cpu", "auto", ("map",)),
        ("gpu", "auto", ("vmap",)),
        ("tpu", "auto", ("vmap",)),
        ("gpu", "map", ("map",)),
        ("cpu", "both", ("map", "vmap")),
    ],
)
def test_the_mode_is_the_one_that_the_platform_would_use(platform, mode, modes):
    setup = tiny(mode=mode)
    setup.devices = (Named(platform),)
    assert setup.modes == modes


# --- census ---------------------------------------------------------------------------


def test_the_census_counts_what_a_turn_of_the_training_loop_does():
    """Minibatches: a sort in the training loop, which only a conditional reaches."""
    settings = {**TINY, "train": dict(batch_size=5)}
    rows = {
        row.name: row.numbers
        for row in census.count(tiny(workloads={"tiny": settings}), runs=(1, 3))
    }
    assert {*rows} == {f"census/tiny/{m}/{n}" for m in ("map", "vmap") for n in (1, 3)}
    for name in ("census/tiny/map/1", "census/tiny/map/3"):
        found = rows[name]
        assert found["training_loop"]["sort"] == 1
        assert found["unconditional"]["sort"] == 0
        assert found["training_loop"]["product"] >= 2
        assert found["planned_bytes"] > found["temporary_bytes"] > 0
        assert not found["loop_asks_runs"] and not found["data_per_run"]


# --- the command ----------------------------------------------------------------------


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
    Row("steps/mnist/map/1", 2e-3, "s"),
    Row("steps/mnist/map/64", 1e-3, "s"),
    Row("steps/mnist/map/1024", None, "s", note="out of memory"),
]


def test_a_goal_is_met_up_to_and_at_it():
    assert [row.met for row in ROWS[:4]] == ["yes", "NO", "-", "yes"]
    assert ROWS[0]._replace(measured=1.05).met == "yes"
    assert ROWS[3]._replace(measured=0.75).met == "yes"
    assert ROWS[3]._replace(measured=0.7).met == "NO"


def test_the_command_prints_and_stores_the_rows_that_were_asked_for(
    monkeypatch, tmp_path, capsys
):
    seen = []

    def two(setup):
        seen.append(setup)
        yield from ROWS[1:]

    parts = {"one": lambda _: ROWS[:1], "two": two, "three": lambda _: 1 / 0}
    monkeypatch.setattr(benchmark, "BENCHMARKS", parts)
    out = tmp_path / "bench.json"
    page = tmp_path / "bench.md"
    line = ["benchmark", "--only=two,one", "--quick", f"--out={out}"]
    line += [f"--summary={page}", "--models=fnn,mnist", "--runs=1,8", "--mode=vmap"]
    assert benchmark.main(line) == benchmark.DONE
    (setup,) = seen
    assert list(setup.workloads) == ["fnn", "mnist"] and setup.runs == (1, 8)
    assert (setup.repeats, setup.modes) == (2, ("vmap",))
    said = capsys.readouterr().out
    for words in ("many_runs/fast", "1.2 x", "<= 1.05 x", ">= 0.75 of the bound"):
        assert words in said
    for words in ("yes", "NO", "64 runs against 1", "-  out of memory"):
        assert words in said
    held = json.loads(out.read_text())
    assert held["device"].startswith("2 x CPU")
    assert f"jax {jax.__version__}" in held["version"]
    assert held["git commit"] == workdirs.git_commit()
    assert held["command"].endswith(" ".join(line[1:]))
    assert held["rows"][1] == {
        **{"name": "many_runs/slow", "measured": 1.2, "unit": "x", "goal": 1.05},
        **{"note": "", "at_least": False, "met": "NO", "numbers": None},
    }
    assert held["rows"][2]["goal"] is None and len(held["rows"]) == len(ROWS)
    drawn = tmp_path / "figures" / "benchmark.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    said = page.read_text()
    assert said.startswith("# Benchmark: 2 of 3 goals met\n")
    assert "![the measurements](figures/benchmark.png)" in said
    assert "| many\\_runs/slow | 1.2 x | \\<= 1.05 x | NO |  |" in said


NUMBERS = dict(
    **{"mode": "map", "runs": 64, "run_step_s": 1e-3, "bound_s": 2e-4},
    **{"products_s": 5e-4, "segment_s": 0.1, "compile_s": 3.0},
    planned_bytes=2**21,
)


def test_the_steps_are_a_table_with_those_of_pytorch_beside_them():
    beside = dict(mode="map", runs=64, theirs_s=2e-3)
    rows = [
        Row("steps/mnist/map/64", 1e-3, "s", numbers=NUMBERS),
        Row("steps/mnist/map/1024", None, "s", note="left out: time"),
        Row("pytorch/mnist", 2.0, "times", numbers={**beside, "form": "eager"}),
        Row(
            "pytorch/mnist/captured/64", 2.0, "", numbers={**beside, "form": "captured"}
        ),
    ]
    page = benchmark.as_markdown(rows, {"device": "a card"}, "")
    assert "- device: a card" in page
    assert (
        "| mnist | map | 64 | 1 ms | 200 us | 500 us | 2 ms | - | 2 ms (not compiled) "
        "| 100 ms | 3 s | 2 |" in page
    )
    assert page.count("mnist") == 2 and "left out: time" in page


def test_what_was_measured_before_the_end_is_kept(monkeypatch, tmp_path):
    def killed(_):
        yield ROWS[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "BENCHMARKS", {"one": killed})
    out = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(["benchmark", f"--out={out}"])
    assert [row["name"] for row in json.loads(out.read_text())["rows"]] == [
        ROWS[0].name
    ]


def test_the_benchmark_ends_where_its_time_is_over(monkeypatch, tmp_path, capsys):
    parts = {name: lambda _: iter(ROWS) for name in ("one", "two", "three")}
    monkeypatch.setattr(benchmark, "BENCHMARKS", parts)
    out = tmp_path / "bench.json"
    line = ["benchmark", "--budget=1e-9", f"--out={out}"]
    assert benchmark.main(line) == benchmark.DONE
    held = json.loads(out.read_text())
    assert len(held["rows"]) == 1
    words = "some of one, two, three, because 1e-09 s had passed"
    assert held["left out"] == words and words in capsys.readouterr().out


def test_programs_are_compiled_anew_unless_a_cache_is_named(monkeypatch):
    before, seen = jax.config.values["jax_enable_compilation_cache"], []

    def look(_):
        seen.append(jax.config.values["jax_enable_compilation_cache"])
        yield ROWS[0]

    monkeypatch.setattr(benchmark, "BENCHMARKS", {"one": look})
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    benchmark.main(["benchmark"])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
    benchmark.main(["benchmark"])
    assert seen == [False, before]
    assert jax.config.values["jax_enable_compilation_cache"] == before


def test_the_figure_goes_where_it_is_told_and_shows_what_there_is(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"one": lambda _: ROWS})
    path = tmp_path / "own.png"
    assert benchmark.main(["benchmark", f"--figure={path}"]) == benchmark.DONE
    assert path.exists() and not (tmp_path / "bench.png").exists()
    axes = [axis for axis in picture.draw(ROWS).axes if axis.get_visible()]
    assert len(axes) == 2  # gemm and steps
    bar, line = axes
    assert [patch.get_width() for patch in bar.patches] == [0.8]
    assert line.lines[0].get_xydata().tolist() == [[1, 2], [64, 1]]
    assert picture.draw(ROWS[:3]) is None


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--only=compil", "no benchmark 'compil'; nearest: compile"),
        ("--models=transfomer", "no model 'transfomer'; nearest: transformer"),
        ("--runs=1,0", "--runs takes whole numbers of 1 or more, not '0'"),
        ("--runs=many", "--runs takes whole numbers of 1 or more, not 'many'"),
        ("--mode=pmap", "--mode"),
        ("--budget=0", "--budget must be above 0, not 0"),
        ("--onli=compile", "no flag --onli; nearest: --only"),
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
    line = ["benchmark", "--only=launch"]
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
@pytest.mark.parametrize("form", ["eager", "compiled", "stacked"])
@pytest.mark.parametrize("name", workloads.STEPS)
def test_a_step_of_pytorch_is_ours(name, form, monkeypatch):
    """In each of its forms; what torch.compile makes of a step is its own affair."""
    import torch

    monkeypatch.setattr(torch, "compile", lambda step: step)
    if form == "stacked" and name in ("lstm", "gcn"):
        pytest.skip("torch.func.vmap has no rule for it")
    full = dict(train=dict(batch_size=0))
    settings = config.make_config(workloads.STEPS[name], SHRUNK[name], full).to_dict()
    program = timing.group_program(settings, 1, jax.local_devices()[:1])
    timed = timing.timed_sweep(program, "map")
    step = pytorch.make_step(*timing.first_run(timed), form=form, runs=2)
    theirs = np.stack([np.array(step()) for _ in range(4)])
    assert theirs.shape == ((4, 2) if form == "stacked" else (4,))
    pieces = programs.make_pieces(np.arange(4), 0, 0, 3)
    compiled = timed.program.compiled("map", timed.chunk.place)
    _, records = compiled(*timed.chunk.arguments(pieces))
    ours = np.asarray(records["train_loss"])[0, :4]
    assert len(set(ours.tolist())) == 4
    for own in theirs.reshape(4, -1).T:
        np.testing.assert_allclose(own, ours, rtol=1e-5)


@pytest.mark.usefixtures("torch_alone")
def test_a_step_is_compared_with_those_of_pytorch(monkeypatch):
    """On minibatches, of which PyTorch draws its own; a form that fails says why, and
    the others go on."""
    import torch

    def fail(step):
        raise NotImplementedError("no rule\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    settings = {**TINY, "train": dict(batch_size=5)}
    rows = list(pytorch.compare(tiny(workloads={"tiny": settings}), {"tiny": 1e-9}))
    eager, compiled, stacked = rows
    assert eager.name == "pytorch/tiny" and eager.measured > 0 and eager.met == "yes"
    assert stacked.name == "pytorch/tiny/stacked/3"
    for row in (compiled, stacked):
        assert row.measured is None and row.note == "NotImplementedError: no rule"
    monkeypatch.setattr(torch, "compile", lambda step: step)
    *_, stacked = pytorch.compare(tiny(workloads={"tiny": settings}), {})
    assert stacked.measured > 0
    assert stacked.numbers["theirs_s"] > 0


@pytest.mark.usefixtures("torch_alone")
def test_where_pytorch_computes_on_no_such_device_it_says_so():
    setup = tiny()
    setup.devices = (Named("tpu"),)
    with pytest.raises(SettingError, match="does not support tpu devices here"):
        next(pytorch.compare(setup, {}))
