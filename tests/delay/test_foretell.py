"""The prediction for a run of one's own."""

import json

import numpy as np
import pytest
from delay.tables import made_up

import grok_jax
from grok_jax import watch
from grok_jax.delay import foretell, table, theories
from grok_jax.delay.evidence import evidence
from grok_jax.engine import live, workdirs
from grok_jax.settings import SettingError

PAGE = dict(
    task=dict(name="sparse_parity", bits=6, support=2, train_size=30, test_size=30),
    model=dict(name="mlp", width=8, layers=1),
    loss=dict(name="binary_cross_entropy"),
    optimizer=dict(name="adamw", learning_rate=0.03, weight_decay=0.1),
    observe=dict(evidence=dict(name=evidence, points=20)),
    grok=dict(kind="accuracy", train=0.9, test=0.95),
    train=dict(steps=60, records=12),
    sweep=dict(output_scale=(0.01, 1.0, 3.0), seed=(0, 1)),
)


@pytest.fixture(scope="module")
def results():
    return grok_jax.run(PAGE)


def test_each_run_that_has_fitted_gets_rising_quantiles(results):
    found = grok_jax.delay.predict(results, made_up())
    assert dict(found.sizes) == {"run": 6, "quantile": 3}
    times = results.t_train.values.ravel()
    np.testing.assert_array_equal(found.t_train, times)
    fitted = np.isfinite(times)
    assert fitted.any() and not fitted.all()
    assert np.isnan(found.t_test.values[~fitted]).all()
    low, middle, high = found.t_test.values[fitted].T
    assert (times[fitted] <= low).all() and (low <= middle).all()
    assert (middle <= high).all()


def test_of_a_run_that_has_not_generalised_what_is_said_is_after_its_last_step(results):
    """And the settings by which runs differ say which is which."""
    found = grok_jax.delay.predict(results, made_up())
    waiting = (np.isfinite(results.t_train) & np.isnan(results.t_test)).values.ravel()
    assert waiting.any() and (found.t_test.values[waiting] > 60).all()
    assert found.output_scale.values.tolist() == pytest.approx([0.01, 0.01, 1, 1, 3, 3])
    assert found.seed.values.tolist() == [0, 1] * 3
    assert "weight_decay" not in found.coords


def test_one_run_alone_is_foretold_as_among_others(results):
    alone = grok_jax.delay.predict(results.isel(output_scale=1, seed=1), made_up())
    among = grok_jax.delay.predict(results, made_up()).isel(run=[3])
    np.testing.assert_array_equal(alone.t_test, among.t_test)


def test_settings_that_were_not_swept_are_read_from_the_configuration(results):
    rows = table.rows(results, "parity", None)
    assert rows.output_scale.values.tolist() == pytest.approx([0.01, 0.01, 1, 1, 3, 3])
    assert rows.learning_rate.values.tolist() == pytest.approx([0.03] * 6)
    assert rows.method.values.tolist() == ["adamw"] * 6
    assert np.isnan(rows.fitted_embedding_overlap.values).all()  # no weak network


def test_it_says_what_lies_outside_of_the_runs_that_it_knows(results):
    known = made_up()
    inside = foretell.of_rows(known.isel(run=slice(0, 5)), known)
    far = known.isel(run=slice(0, 5)).assign(output_scale=("run", [1e3] * 5))
    outside = foretell.of_rows(far, known)
    assert int(inside.outside.max()) <= 2
    assert all("log output scale" in str(names) for names in outside.strange.values)


def test_runs_of_the_same_kind_generalise_within_the_quantiles_as_often_as_said():
    """A quarter of them generalise with their training, at a ratio of exactly 1."""
    new = theories.that_fitted(made_up(seed=1))
    found = foretell.of_rows(new, made_up(seed=0))
    late = np.where(np.isfinite(new.t_test), new.t_test, new.horizon)
    limits = found.t_test.values.T
    for level, limit in zip(found["quantile"].values, limits, strict=True):
        assert np.mean(late < limit * 0.999) <= level + 0.05
        assert np.mean(late <= limit * 1.001) >= level - 0.05


def test_curves_of_runs_that_go_on_get_a_sentence(results):
    config = json.loads(results.attrs["config"])
    runs = live.of_results(results)
    said = foretell.of_curves(runs, config, made_up())
    waiting = np.isfinite(results.t_train) & np.isnan(results.t_test)
    assert said.startswith(f"{int(waiting.sum())} of 6 runs have fitted and not gener")
    assert "expected step" in said and "80%: step" in said
    rows = table.rows(results, "", None).isel(run=waiting.values.ravel())
    now = float(results.step[-1])
    middle = foretell.of_rows(rows, made_up(), now).t_test.values[:, 1]
    assert f"expected step {np.median(middle):,.0f} " in said


def test_what_is_foretold_of_a_run_that_goes_on_is_still_to_come():
    rows, known = made_up(20, seed=3), made_up()
    plain, later = (foretell.of_rows(rows, known, now) for now in (0.0, 300.0))
    assert (plain.t_test.values < 300).any()
    assert (later.t_test.values > 300).all()
    assert (later.t_test.values >= plain.t_test.values * (1 - 1e-6)).all()


def test_curves_without_the_statistics_or_a_waiting_run_get_none(results):
    config = json.loads(results.attrs["config"])
    plain = live.of_results(results[["train_loss", "train_accuracy"]])
    assert foretell.of_curves(plain, config, made_up()) == ""
    assert foretell.of_curves([], config, made_up()) == ""
    ended = results.assign(test_accuracy=results.test_accuracy * 0 + 1)
    assert foretell.of_curves(live.of_results(ended), config, made_up()) == ""


def test_a_run_that_goes_on_has_the_settings_of_its_arm():
    arms = {"a": dict(optimizer=dict(weight_decay=0.5)), "b": {}}
    made = grok_jax.run({**PAGE, "arms": arms, "sweep": dict(seed=(0,))})
    config, runs = json.loads(made.attrs["config"]), live.of_results(made)
    rows = foretell.table.rows(foretell._results(runs, config), "", None)
    assert rows.weight_decay.values.tolist() == [0.5, 0.1]


def test_watch_says_it_where_there_is_a_table(tmp_path, monkeypatch, capsys):
    grok_jax.run(PAGE, workdir=tmp_path / "run", say=lambda line: None)
    monkeypatch.setattr(foretell.shipped, "folder", lambda: tmp_path)
    arguments = ["watch", str(tmp_path / "run"), "--once"]
    assert watch.main(arguments) == 0
    assert "expected step" not in capsys.readouterr().out
    (tmp_path / "delay").mkdir()
    workdirs.write_results(tmp_path / "delay" / "runs.nc", table.packed(made_up()))
    assert watch.main(arguments) == 0
    assert "expected step" in capsys.readouterr().out


def test_without_the_library_watch_names_the_extra(results, monkeypatch, tmp_path):
    (tmp_path / "delay").mkdir()
    workdirs.write_results(tmp_path / "delay" / "runs.nc", table.packed(made_up()))
    monkeypatch.setattr(foretell.shipped, "folder", lambda: tmp_path)
    monkeypatch.setattr(watch.importlib.util, "find_spec", lambda name: None)
    config = json.loads(results.attrs["config"])
    (said,) = watch._foretold(live.of_results(results), config)
    assert "pip install 'grok_jax[delay]'" in said


def test_results_without_the_statistics_are_refused(results):
    with pytest.raises(SettingError, match="has no laziness; observe"):
        grok_jax.delay.predict(results.drop_vars("laziness"), made_up())
