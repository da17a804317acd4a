"""A sweep from Python: `grok_jax.run`."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import grok_jax
from grok_jax.engine import config, session, workdirs
from grok_jax.engine.workdirs import WorkdirError
from grok_jax.settings import SettingError

LAYER = dict(
    task=dict(input_dim=6, train_size=14, test_size=9),
    model=dict(width=7),
    optimizer=dict(rule="lazy"),
    train=dict(steps=24, records=6),
    sweep=dict(output_scale=(0.5, 2.0), seed=(0, 1)),
)


def quiet(line):
    del line


@pytest.fixture(scope="module")
def results():
    return grok_jax.run(LAYER, say=quiet)


def test_a_run_in_memory_has_the_results_of_the_sweep(
    results, run_sweep, assert_identical
):
    assert_identical(results.data_vars, run_sweep(LAYER).data_vars)


def test_a_configuration_may_be_a_config_dict(results, assert_identical):
    again = session.run(config.make_config(LAYER), say=quiet)
    assert_identical(again.data_vars, results.data_vars)


def test_a_page_is_run_by_its_path_and_preset(tmp_path, monkeypatch, assert_identical):
    page = f"""
from grok_jax.engine.config import choose_preset, make_config
LAYER = {LAYER!r}
def get_config(preset="cpu"):
    small = dict(train=dict(steps=3))
    return make_config(LAYER, choose_preset(preset, smoke=small, cpu={{}}))
"""
    (tmp_path / "page.py").write_text(page)
    own = grok_jax.run(f"{tmp_path}/page.py:smoke", say=quiet)
    assert own.step.values[-1] == 3
    with pytest.raises(SettingError, match="There is no config file"):
        grok_jax.run(f"{tmp_path}/pages.py")


def test_in_a_workdir_it_is_kept_read_again_and_refused(
    results, tmp_path, assert_identical
):
    folder = tmp_path / "run"
    kept = grok_jax.run(LAYER, folder, say=quiet)
    assert_identical(kept.data_vars, results.data_vars)
    about = workdirs.read_json(workdirs.Workdir(folder).config)
    assert about["config"]["model.width"] == 7
    assert about["command"] == f"grok_jax.run(..., {str(folder)!r})"
    again = grok_jax.run(LAYER, folder, say=quiet)  # only read
    assert again.attrs["seconds"] == kept.attrs["seconds"]
    assert_identical(again.data_vars, results.data_vars)
    with pytest.raises(WorkdirError, match=r"holds another config .*model\.width"):
        grok_jax.run({**LAYER, "model": dict(width=8)}, folder, say=quiet)


def test_a_run_that_was_cut_goes_on(results, tmp_path, assert_identical, monkeypatch):
    """By an exception here, as Ctrl-C in a notebook would be."""
    shown = []

    def interrupt(self, progress):
        shown.append(progress)
        if len(shown) == 3:
            raise KeyboardInterrupt

    own = {**LAYER, "engine": dict(segment_seconds=1e-9, checkpoint_seconds=1e-9)}
    with monkeypatch.context() as patch:
        patch.setattr(session.watch_lib.Watch, "show", interrupt)
        with pytest.raises(KeyboardInterrupt):
            grok_jax.run(own, tmp_path / "run", say=quiet)
    said = []
    resumed = grok_jax.run(own, tmp_path / "run", say=said.append)
    assert said[0].startswith("Going on from checkpoint")
    assert_identical(resumed.data_vars, results.data_vars)


def test_what_it_sets_of_jax_is_afterwards_as_it_was():
    before = {name: getattr(jax.config, name) for name in session._FLAGS}
    own = dict(engine=dict(x64=True, precision="high", compilation_cache=False))
    results = grok_jax.run({**LAYER, **own}, say=quiet)
    assert results.train_loss.dtype == np.float64
    assert {name: getattr(jax.config, name) for name in session._FLAGS} == before
    with pytest.raises(SettingError, match=r"nearest: model\.width"):
        grok_jax.run(dict(model=dict(widht=3)))
    assert {name: getattr(jax.config, name) for name in session._FLAGS} == before


SCRIPT = """
import grok_jax

results = grok_jax.run(
    dict(
        task=dict(name="teacher_student", train_size=20, test_size=20),
        model=dict(name="mlp", width=10, outputs=5),
        optimizer=dict(name="adamw", learning_rate=1e-2),
        observe=dict(norms={}),
        train=dict(steps=50, records=5),
        sweep=dict(weight_decay=(0.0, 1.0), init_scale=(1.0, 3.0), seed=(0, 1)),
    )
)
norm = results.weight_norm.isel(step=-1).mean("seed")
assert (norm.sel(weight_decay=1.0) < norm.sel(weight_decay=0.0)).all()
print(results.sizes)
"""


def test_a_script_of_twenty_lines_needs_no_more_than_the_package():
    said = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True)
    assert "'weight_decay': 2" in said
