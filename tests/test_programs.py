"""Runs -> groups: what shares a compiled program."""

import jax
import pytest

from grok_jax import experiment
from grok_jax.engine import config, programs
from grok_jax.settings import SettingError


def groups_of(sweep):
    return config.resolve(config.make_config(dict(sweep=sweep))).plan.groups()


def test_traced_axes_of_any_length_make_one_group():
    (group,) = groups_of({"epsilon": tuple(range(8)), "seed": tuple(range(8))})
    assert group.members == tuple(range(64))


def test_a_static_axis_of_k_values_makes_k_groups():
    groups = groups_of({"width": (3, 4, 5), "seed": (0, 1), "epsilon": (0.1, 0.2)})
    assert len(groups) == 3
    assert [g.experiment.model["width"] for g in groups] == [3, 4, 5]
    members = {n for group in groups for n in group.members}
    assert members == set(range(12)) and all(len(g.members) == 4 for g in groups)


def test_groups_partition_the_runs_and_each_member_keeps_its_own_settings():
    sweep = {"width": (3, 4), "seed": (7, 8), "linearized": (False, True)}
    plan = config.resolve(config.make_config(dict(sweep=sweep))).plan
    runs, groups = plan.grid.runs(), plan.groups()
    assert len(groups) == 4
    assert sorted(n for group in groups for n in group.members) == list(range(8))
    for group in groups:
        for number, own in zip(group.members, group.runs, strict=True):
            expected = {**experiment.settings_of(plan.experiment), **runs[number]}
            assert experiment.settings_of(own) == expected


def test_every_traced_setting_has_a_value_for_each_member_swept_or_not():
    (group,) = groups_of({"epsilon": (0.1, 0.2)})
    stacked = experiment.stack(group.runs)
    assert {leaf.shape for leaf in jax.tree.leaves(stacked)} == {(2,)}
    assert abs(stacked.model["epsilon"] - [0.1, 0.2]).max() < 1e-7
    assert stacked.seed.tolist() == [0, 0] and stacked.seed.dtype == "int32"
    assert stacked.model["width"] == group.experiment.model["width"]


def test_runs_on_the_same_data_stand_in_turns_where_an_axis_of_data_is_in_the_middle():
    (group,) = groups_of(
        {"epsilon": (0.1, 0.2), "seed": (0, 1, 2), "threshold": (1, 2)}
    )
    assert [run.seed for run in group.runs] == 4 * [0, 1, 2]
    assert sorted(group.members) == list(range(12))
    (rows,) = groups_of({"seed": (0, 1, 2), "threshold": (1, 2)})
    assert rows.members == tuple(range(6))
    (odd,) = groups_of({"data": (0, 1), "seed": (0, 1)})
    assert sorted(odd.members) == list(range(4))


def test_false_and_zero_of_different_axes_stay_apart():
    """Python holds False and 0 for equal, and True and 1."""
    assert len(groups_of({"linearized": (False, True), "width": (1, 2)})) == 4


# --- what is recorded ----------------------------------------------------------------


def check(**layer):
    programs.check_data(config.resolve(config.make_config(layer)).plan)


def test_a_run_may_stop_by_any_number_that_it_records():
    check(stop=dict(metric="weight_norm"), observe=dict(norms={}))
    check(stop=dict(metric="population_risk"), observe=dict(population_risk={}))


@pytest.mark.parametrize(
    ("metric", "observe", "said"),
    [
        ("train_los", {}, "nearest: train_loss"),
        ("population_risk", {}, "which is no number that this run records; "),
        ("ntk", dict(kernel_snapshots={}), "stop.metric is 'ntk', which is no number"),
    ],
)
def test_what_is_not_recorded_as_a_number_is_a_sentence(metric, observe, said):
    with pytest.raises(SettingError) as error:
        check(stop=dict(metric=metric), observe=observe)
    assert said in str(error.value)


def test_the_lazy_rule_asks_for_a_rate():
    def tx():
        import optax

        return optax.sgd(0.1)

    settings = dict(optimizer=dict(name=tx, rule="lazy"))
    with pytest.raises(SettingError, match=r"optimizer\.learning_rate"):
        programs.check_data(config.resolve(config.make_config(settings)).plan)
