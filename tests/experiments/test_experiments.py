"""Every experiment: its presets hold, and its smoke preset runs to the end."""

import ast
import re
from pathlib import Path

import pytest

from grok_jax import experiment, launch, report
from grok_jax.claims import Claim
from grok_jax.engine import config, programs, session, workdirs
from grok_jax.tasks.reading import DataError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [
    path
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if re.search(r"(?m)^(def )?get_config\b", path.read_text(encoding="utf-8"))
]
LONG = (
    "delay/c1_modular_embedding",
    "delay/c2_parity_embedding",
    "delay/c4_parity_norm",
    "delay/d2_teacher_student",
    "delay/d3_pairs",
    "delay/d4_transformer",
    "delay/d5_parity",
    "delay/d6_xor",
    "delay/d7_digits",
    "delay/r1_polynomial",
    "delay/r2_pairs",
    "delay/r3_parity",
    "delay/r4_xor",
    "groktransfer/g1_modular",
    "groktransfer/g1_weak",
    "groktransfer/g2_init_scale",
    "groktransfer/g3_kernel",
    "groktransfer/g4_norm_ratio",
    "groktransfer/g4_one_step",
    "groktransfer/g4_weak",
    "groktransfer/g5_weak_accuracy",
    "groktransfer/g7_ablations",
    "groktransfer/g7_mnist",
    "groktransfer/grid_search",
    "groktransfer/remedies",
    "groktransfer/search_digits",
    "groktransfer/search_weak",
    "lazy_to_rich/k11_readouts",
    "lazy_to_rich/k12_teacher_student",
    "lazy_to_rich/k12_transformer",
    "lazy_to_rich/k13_hermite",
    "lazy_to_rich/k13_multi_index",
    "lazy_to_rich/k1_grokking",
    "lazy_to_rich/k2_moduli",
    "lazy_to_rich/k3_alignment",
    "lazy_to_rich/k3_laziness",
    "lazy_to_rich/k3_phase_diagram",
    "lazy_to_rich/k5_eigenlabels",
    "lazy_to_rich/k7_transformer",
    "omnigrok/o2_critical_size",
    "omnigrok/o2_landscape",
    "omnigrok/o4_landscape",
    "omnigrok/o5_toy_addition",
    "omnigrok/o6_transformer",
    "omnigrok/o8_landscape",
    "omnigrok/o9_transformer",
)
"""Pages whose smoke preset takes ten seconds and more to compile, and whose parts all
stand in pages that are not here: they run with `-m slow`."""


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def each(paths):
    return pytest.mark.parametrize("path", list(paths), ids=name_of)


every_experiment = each(EXPERIMENTS)


def test_there_are_experiments():
    assert EXPERIMENTS


@every_experiment
@pytest.mark.parametrize("preset", ["smoke", "cpu", "paper"])
def test_a_preset_resolves_to_a_grid_with_seeds(path, preset):
    page, chosen = launch.load_experiment(f"{path}:{preset}")
    resolved = config.resolve(session.get_config(page, chosen))
    assert resolved.name and resolved.description
    axes = [path for axis in resolved.plan.grid.axes for path in axis.paths]
    assert any(axis == "seed" or axis.startswith("seeds.") for axis in axes)


@every_experiment
def test_the_docstring_names_the_command(path):
    says = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    command = " ".join(says.replace("\\\n", " ").split())
    line = f"python -m grok_jax.launch --config={path.relative_to(ROOT).as_posix()}"
    assert re.search(rf"{re.escape(line)}(:\w+)? --workdir=\S+", command), command


def skip_without_data(path):
    """Skips an experiment on data that no package ships, unless they are here."""
    page, preset = launch.load_experiment(f"{path}:smoke")
    resolved = config.resolve(session.get_config(page, preset))
    try:
        for group in resolved.plan.groups():
            experiment.load_files(group.experiment)
    except DataError as error:
        pytest.skip(f"set GROK_JAX_DATA to a folder with the data: {error}")


def parts_of(path):
    """The names of the parts that the smoke preset of a page is made of."""
    page, preset = launch.load_experiment(f"{path}:smoke")
    plan = config.resolve(session.get_config(page, preset)).plan
    chosen = ("task.name", "model.name", "model.linearized", "loss.name")
    chosen += ("optimizer.name", "optimizer.norm", "transfer.source")
    every = [programs.named_settings(g.experiment) for g in plan.groups()]
    gradients = {
        (name, value)
        for settings in every
        for name, value in settings.items()
        if name.startswith("gradient.") and name.endswith(".name")
    }
    own = {(name, settings.get(name)) for settings in every for name in chosen}
    return own | gradients


def test_what_a_long_page_is_made_of_stands_in_shorter_ones():
    long = [path for path in EXPERIMENTS if name_of(path) in LONG]
    assert len(long) == len(LONG)
    there = set().union(*(parts_of(path) for path in EXPERIMENTS if path not in long))
    for path in long:
        if path.parent.name != "delay":  # its tasks: tests/delay/test_evidence.py
            assert parts_of(path) <= there, path


@each(
    pytest.param(path, marks=pytest.mark.slow if name_of(path) in LONG else ())
    for path in EXPERIMENTS
)
def test_smoke_runs_to_its_end(path, tmp_path):
    skip_without_data(path)
    workdir = workdirs.Workdir(tmp_path / "run")
    arguments = [f"--config={path}:smoke", f"--workdir={workdir.path}"]
    arguments.append("--config.engine.devices=2")
    assert launch.main(["launch", *arguments]) == launch.DONE

    results = workdirs.read_results(workdir.results)
    assert not results["diverged"].all()
    for name in ("train_loss", "test_loss"):
        assert results[name].dims[-1] == "step"
    first = results.isel(step=0)
    assert first.train_loss.notnull().all()
    assert first.test_loss.notnull().any()  # of all pairs for training, none is left

    claims = workdirs.read_json(workdir.claims)
    ids = [claim["id"] for claim in claims]
    assert ids and len(set(ids)) == len(ids)
    for claim in claims:
        assert tuple(claim) == (*Claim._fields, "git_commit")
        assert isinstance(claim["holds"], bool)
        assert all(claim[name] for name in ("id", "place", "statement", "expected"))

    figures = list(workdir.figures.glob("*.png"))
    assert figures and all(figure.stat().st_size > 5000 for figure in figures)
    out = tmp_path / "report"
    assert report.main(["report", str(workdir.path), f"--out={out}"]) == report.DONE
    assert len(list((out / "figures").iterdir())) == len(figures)
