"""The table of runs: what it takes from results, and that it looks no further."""

import json

import numpy as np
import pytest
import xarray as xr

from grok_jax.delay import foretell, table, theories
from grok_jax.delay.evidence import EVIDENCE
from grok_jax.engine import workdirs
from grok_jax.settings import SettingError

STEPS = np.array([0, 1, 2, 4, 8, 16, 32])


def results(seed=0):
    """Four runs: fitted at step 4 and general at 16; at 8 and never; never fitted; at
    0."""
    rng = np.random.default_rng(seed)
    runs, steps = 4, len(STEPS)
    curves = {
        name: (("seed", "step"), rng.uniform(0.1, 1, (runs, steps)))
        for name in (*EVIDENCE, "train_loss", "test_accuracy")
        if name != "embedding_fourier"
    }
    coords = {
        "seed": [5, 6, 7, 8],
        "step": STEPS,
        "output_scale": ("seed", [0.1, 1.0, 3.0, 10.0]),
        "init_scale": ("seed", [1.0, 2.0, 2.0, 0.5]),
        "weight_decay": ("seed", [0.0, 1.0, 1.0, 2.0]),
        "learning_rate": ("seed", [0.1, 0.1, 0.1, 0.1]),
        "method": ("seed", ["adamw", "momentum", "adamw", "adamw"]),
    }
    nan = np.nan
    times = {
        "t_train": ("seed", [4.0, 8, nan, 0]),
        "t_test": ("seed", [16.0, nan, nan, 8]),
    }
    return xr.Dataset({**curves, **times}, coords)


def landscape(best=(8.0, 4.0, 2.0)):
    """Fixed norms whose lowest test loss is at `best`, for three output scales."""
    scales, norms = [0.1, 1.0, 10.0], 2.0 ** np.arange(-1, 7)
    losses = 1 + np.log(norms[:, None] / np.array(best)) ** 2
    dims = ("init_scale", "output_scale", "seed", "step")
    return xr.Dataset(
        {
            "test_loss": (dims, np.exp(losses)[:, :, None, None]),
        },
        {"init_scale": norms, "output_scale": scales, "seed": [0], "step": [100]},
    )


def test_a_row_holds_the_statistics_at_both_moments():
    found, made = results(), table.rows(results(), "digits", landscape())
    assert made.task.values.tolist() == ["digits"] * 4
    assert made.horizon.values.tolist() == [32.0] * 4
    alignment = found.kernel_alignment
    assert (
        made.start_kernel_alignment.values.tolist() == alignment[:, 0].values.tolist()
    )
    fitted = made.fitted_kernel_alignment.values
    assert fitted[[0, 1, 3]].tolist() == [
        alignment.values[0, 3],
        alignment.values[1, 4],
        alignment.values[3, 0],
    ]
    assert np.isnan(fitted[2])
    distance = found.kernel_distance.values
    speed = (distance[0, 3] - distance[0, 2]) / np.log(4 / 2)
    assert made.fitted_kernel_speed.values[0] == pytest.approx(speed)
    assert made.fitted_kernel_speed.values[3] == 0
    loss = np.log(found.train_loss.values[1, :5])
    rises = np.diff(loss).clip(min=0).sum()
    assert made.fitted_oscillation.values[1] == pytest.approx(rises)


def test_settings_of_a_weak_network_are_not_those_of_the_run():
    """Swept alone they go by the short name; beside the run's own, both by their
    path."""
    found = results().drop_vars("learning_rate")
    of = {
        "optimizer.learning_rate": [1e-3, 2e-3, 3e-3, 4e-3],
        "transfer.optimizer.learning_rate": [9.0] * 4,
        "transfer.optimizer.weight_decay": [8.0] * 4,
    }
    found = found.assign_coords(
        optimizer_learning_rate=("seed", of["optimizer.learning_rate"]),
        transfer_optimizer_learning_rate=("seed", [9.0] * 4),
        weight_decay=("seed", [8.0] * 4),
    )
    config = {"sweep": {"+".join(["seed", *of]): []}, "optimizer.weight_decay": 0.5}
    found.attrs["config"] = json.dumps(config)
    made = table.rows(found, "a", None)
    assert made.learning_rate.values.tolist() == of["optimizer.learning_rate"]
    assert made.weight_decay.values.tolist() == [0.5] * 4


def test_no_column_but_the_time_looks_past_the_step_of_the_prediction():
    before, after = results(), results(seed=1)
    late = before.step > before.t_train.fillna(0)
    changed = before.assign(
        {
            name: xr.where(late, after[name], before[name]).transpose("seed", "step")
            for name in before
            if "step" in before[name].dims
        }
    )
    changed["t_test"] = before.t_test * 2
    changed["test_accuracy"] = after.test_accuracy  # and none reads a test accuracy
    one, two = (table.rows(each, "a", landscape()) for each in (before, changed))
    xr.testing.assert_identical(one.drop_vars("t_test"), two.drop_vars("t_test"))
    assert not one.t_test.equals(two.t_test)


def test_what_is_known_at_the_start_does_not_depend_on_training():
    before, after = results(), results(seed=1)
    changed = before.assign(
        {
            name: xr.where(before.step > 0, after[name], before[name]).transpose(
                "seed", "step"
            )
            for name in EVIDENCE
            if name in before
        }
    )
    one, two = (table.rows(each, "a", landscape()) for each in (before, changed))
    start = [name for name in one if str(name).startswith("start_")]
    assert len(start) == len(EVIDENCE) - 1
    xr.testing.assert_identical(one[start], two[start])


def test_the_critical_scale_is_that_of_the_lowest_test_loss():
    scales = xr.DataArray([0.1, 1.0, np.sqrt(10), 10.0, 30.0], dims="run")
    found = table.critical_scale(landscape(), scales)
    expected = [8, 4, np.sqrt(8), 2, 2]  # the last is outside: that of its end
    np.testing.assert_allclose(found.values, expected, rtol=0.02)


def test_a_landscape_whose_lowest_loss_is_at_an_end_is_left_out_or_refused():
    scales = xr.DataArray([0.1, 1.0, 10.0], dims="run")
    found = table.critical_scale(landscape(best=(0.1, 4.0, 2.0)), scales)
    np.testing.assert_allclose(found.values, [4, 4, 2], rtol=0.02)
    with pytest.raises(SettingError, match="lowest test loss at an end of its norms"):
        table.critical_scale(landscape(best=(0.1, 0.1, 0.1)), scales)


def test_the_time_to_shrink_is_that_of_the_paper():
    made = theories.that_fitted(table.rows(results(), "a", landscape()))
    usual = made.start_weight_norm / made.init_scale
    np.testing.assert_allclose(made.critical_norm, usual * [8, 4, 2], rtol=0.02)
    made["fitted_weight_norm"] = made.critical_norm * np.array([2.0, 2.0, 0.5])
    found = np.expm1(theories.norm_time(made, "fitted"))
    never = theories.LONGEST  # above the critical norm, without decay
    assert found == pytest.approx([never, np.log(2) / 0.1 / 8, 0], rel=1e-6)


def test_at_step_0_no_theory_knows_when_a_run_fits_or_generalises():
    made = theories.that_fitted(table.rows(results(), "a", landscape()))
    blank = ("run", np.full(made.sizes["run"], np.nan))
    made = foretell._whole(made).assign(start_embedding_fourier=blank)
    later = made.assign(t_train=made.t_train * 3, t_test=made.t_test * 2)
    both = (made, later)
    for theory in (*theories.THEORIES, "theories", "together", "anywhere"):
        if theories.columns(theory, "start"):
            one, two = (
                theories.matrix(each, theory, "start") for each in (made, later)
            )
            np.testing.assert_array_equal(one, two)
    one, two = (theories.matrix(each, "train time", "fitted") for each in both)
    assert not np.array_equal(one, two)


def test_a_run_without_the_setting_has_no_decay_and_without_w_c_no_time():
    made = theories.that_fitted(table.rows(results(), "a", landscape()))
    made["fitted_weight_norm"] = made.critical_norm * 2
    blank = made.assign(weight_decay=made.weight_decay * np.nan)
    assert (theories.norm_time(blank, "fitted") == np.log1p(theories.LONGEST)).all()
    lost = made.assign(critical_norm=made.critical_norm * np.nan)
    assert np.isnan(theories.norm_time(lost, "fitted")).all()


def test_the_target_is_the_ratio_of_times_and_censored_at_the_horizon():
    times, seen = theories.target(
        theories.that_fitted(table.rows(results(), "a", landscape()))
    )
    assert times.tolist() == [4.0, 4.0, 8.0]  # step 0 counts as 1
    assert seen.tolist() == [True, False, True]


def test_tables_of_tasks_are_joined_written_and_read(tmp_path):
    one = table.rows(results(), "a", landscape())
    two = one.drop_vars("method").assign(
        task=("run", ["b"] * 4), operation=("run", ["addition"] * 4)
    )
    both = table.joined([one, two])
    assert both.sizes["run"] == 8
    assert both.method.values[4:].tolist() == [""] * 4
    assert both.operation.values[:4].tolist() == [""] * 4
    workdirs.write_results(tmp_path / "runs.nc", table.packed(both))
    found = workdirs.read_results(tmp_path / "runs.nc")
    assert found.t_test.dtype == np.float32
    np.testing.assert_allclose(found.t_test, both.t_test, rtol=1e-6)
    assert found.task.values.tolist() == both.task.values.tolist()
