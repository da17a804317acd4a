"""Every experiment: its presets hold, and its smoke preset runs to the end."""

import ast
import re
from pathlib import Path

import pytest

from grok_jax import experiment, launch, report
from grok_jax.claims import Claim
from grok_jax.engine import config, session, workdirs
from grok_jax.tasks.reading import DataError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [
    path
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if re.search(r"(?m)^(def )?get_config\b", path.read_text(encoding="utf-8"))
]
SHORT = (
    "groktransfer/g4_grokking",
    "groktransfer/search_parity",
    "lazy_to_rich/k10_aligned_init",
    "lazy_to_rich/k2_modular",
    "omnigrok/o1_weight_decay",
    "omnigrok/o2_grokking",
    "omnigrok/o3_reviews",
    "omnigrok/o7_messiness",
    "omnigrok/o9_mnist",
)
"""Pages whose smoke preset takes a few seconds. The others run with `-m slow`, as
`.ci/run` does."""


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def each(paths):
    return pytest.mark.parametrize("path", list(paths), ids=name_of)


every_experiment = each(EXPERIMENTS)


def test_there_are_experiments():
    assert set(SHORT) < set(map(name_of, EXPERIMENTS))


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


@each(
    pytest.param(path, marks=() if name_of(path) in SHORT else pytest.mark.slow)
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
