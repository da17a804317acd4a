"""Configurations: defaults, layers, overrides, and a sentence for each bad one."""

import copy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from grok_jax.engine import machine, programs
from grok_jax.engine.config import choose_preset, make_config, resolve
from grok_jax.engine.override import apply_overrides
from grok_jax.experiment import leaves_of
from grok_jax.settings import SettingError


def settings(*overrides, base=None):
    """What a configuration with these overrides resolves to."""
    changed = apply_overrides(base or make_config(), overrides)
    return resolve(changed).plan.settings


def refusal(*overrides, base=None):
    with pytest.raises(SettingError) as error:
        settings(*overrides, base=base)
    return str(error.value)


def misfit(*overrides):
    """What is said of parts that do not go together, before anything runs."""
    changed = apply_overrides(make_config(), overrides)
    with pytest.raises(SettingError) as error:
        programs.check_data(resolve(changed).plan)
    return str(error.value)


# --- defaults and layers -------------------------------------------------------------


def test_every_setting_has_the_default_of_its_signature():
    plain = settings()
    leaves = leaves_of(resolve(make_config()).plan.experiment)
    assert len(leaves) > 30
    for path, leaf in leaves.items():
        assert plain[path] == leaf.default, path


def test_later_layers_win_and_touch_nothing_else():
    first = dict(model=dict(width=9, epsilon=0.5), seed=1)
    second = dict(model=dict(width=4))
    held = resolve(make_config(first, second)).plan.settings
    assert (held["model.width"], held["model.epsilon"], held["seed"]) == (4, 0.5, 1)
    assert held["task.train_size"] == settings()["task.train_size"]


def test_layers_are_not_changed_by_merging():
    first = dict(model=dict(width=9), observe=dict(norms={}), sweep=dict(seed=[1]))
    second = dict(model=dict(epsilon=0.1), observe=dict(kernel_alignment={}))
    before = copy.deepcopy((first, second))
    make_config(first, second)
    assert (first, second) == before


def test_a_chosen_part_brings_its_own_settings():
    held = resolve(make_config(dict(task=dict(name="modular")))).plan.settings
    assert held["task.modulus"] == 23 and "task.input_dim" not in held


def test_an_observable_that_is_named_is_taken_at_every_record():
    held = resolve(make_config(dict(observe=dict(norms={})))).plan.settings
    assert held["observe.norms.every"] == 1


def test_an_unknown_key_of_a_layer_names_the_nearest():
    with pytest.raises(SettingError) as error:
        make_config(dict(model=dict(widht=3)))
    assert str(error.value).startswith(
        "There is no setting 'model.widht'; nearest: model.width"
    )


def test_an_unknown_section_of_a_layer_names_the_nearest():
    with pytest.raises(SettingError) as error:
        make_config(dict(optimiser=dict(learning_rate=3)))
    assert "nearest: optimizer.learning_rate" in str(error.value)


def test_presets_are_chosen_by_name_and_an_unknown_one_names_those_there_are():
    assert choose_preset("a", a={"x": 1}, b={}) == {"x": 1}
    with pytest.raises(SettingError) as error:
        choose_preset("papr", smoke={}, cpu={}, paper={})
    assert str(error.value) == "There is no preset 'papr'; known: smoke, cpu, paper."


# --- overrides: what they do ---------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("model.width=30", "model.width", 30),
        ("model.width=3e1", "model.width", 30),
        ("model.epsilon=2", "model.epsilon", 2.0),
        ("model.epsilon=1e-3", "model.epsilon", 1e-3),
        ("epsilon=.5", "model.epsilon", 0.5),
        ("centered=true", "model.centered", True),
        ("centered=False", "model.centered", False),
        ("centered=1", "model.centered", True),
        ("threshold=-1.5", "stop.threshold", -1.5),
        ("metric=test_loss", "stop.metric", "test_loss"),
        ("spacing=linear", "train.spacing", "linear"),
        ("seeds.init=-1", "seeds.init", -1),
        ("seed=7", "seed", 7),
    ],
)
def test_an_override_is_read_in_the_type_of_its_setting(override, path, value):
    held = settings(override)[path]
    assert held == value and type(held) is type(value)


def test_the_original_configuration_is_left_alone():
    base = make_config(dict(sweep=dict(seed=(0, 1)), observe=dict(norms={})))
    before = base.to_json()
    apply_overrides(
        base, ["width=3", "sweep.epsilon=1,2", "model.name=committee_dynamics"]
    )
    assert base.to_json() == before


def test_the_last_of_two_overrides_of_one_setting_wins():
    assert settings("width=3", "model.width=4")["model.width"] == 4


def grid_of(*overrides, base=None):
    return resolve(apply_overrides(base or make_config(), overrides)).plan.grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sweep.epsilon=0.1,0.2", [0.1, 0.2]),
        ("sweep.epsilon=(0.1,0.2)", [0.1, 0.2]),
        ("sweep.epsilon=( 1 , 1e-2 )", [1.0, 0.01]),
        ("sweep.epsilon=1", [1.0]),
        ("sweep.epsilon=(1,)", [1.0]),
        ("sweep.model.epsilon=1,2", [1.0, 2.0]),
        ("sweep.width=3,4", [3, 4]),
        ("sweep.centered=true,false", [True, False]),
        ("sweep.spacing=log,linear", ["log", "linear"]),
    ],
)
def test_an_axis_is_a_list_of_values(text, values):
    grid = grid_of(text)
    assert [axis[0] for axis in grid.axes[0].values] == values
    assert len(grid) == len(values)


@pytest.mark.parametrize("values", [(2, 3), [2, 3], range(2, 4), np.arange(2, 4)])
def test_values_of_an_axis_may_come_in_any_sequence(values):
    grid = resolve(make_config(dict(sweep=dict(seed=values)))).plan.grid
    assert grid.runs() == [{"seed": 2}, {"seed": 3}]
    assert all(type(run["seed"]) is int for run in grid.runs())


def test_a_bare_value_in_a_config_file_is_an_axis_of_one():
    for values in (3, [3], (3,)):
        grid = resolve(make_config(dict(sweep=dict(seed=values)))).plan.grid
        assert grid.runs() == [{"seed": 3}]
    grid = resolve(make_config(dict(sweep=dict(spacing="linear")))).plan.grid
    assert grid.runs() == [{"train.spacing": "linear"}]


@pytest.mark.parametrize("new", ["sweep.epsilon=3", "sweep.model.epsilon=3"])
@pytest.mark.parametrize("old", ["epsilon", "model.epsilon"])
def test_an_override_of_an_axis_replaces_it_however_either_is_named(old, new):
    base = make_config(dict(sweep={old: (1.0, 2.0), "seed": (0, 1)}))
    grid = grid_of(new, base=base)
    assert sorted(grid.dims) == ["epsilon", "seed"] and len(grid) == 2


def test_axes_are_zipped_by_an_override_and_unzipped_by_an_empty_one():
    axes = ["sweep.train_size=5,6", "sweep.steps=10,20"]
    zipped = apply_overrides(make_config(), [*axes, "zip=train_size+steps"])
    assert len(resolve(zipped).plan.grid) == 2
    assert len(grid_of("zip=", base=zipped)) == 4


def test_another_model_brings_its_defaults_and_keeps_what_was_set_and_both_have():
    base = make_config(dict(model=dict(epsilon=0.7, aligned_share=0.5)))
    base.optimizer.rule = "lazy"
    held = settings("model.name=committee_dynamics", base=base)
    assert held["model.epsilon"] == 0.7
    assert held["model.width"] == 0  # the committee's default was 500
    assert "model.aligned_share" not in held


def test_the_settings_of_a_new_part_may_be_overridden_in_any_order():
    held = settings("task.modulus=5", "task.name=modular")
    assert held["task.modulus"] == 5


def test_an_observable_is_added_by_setting_something_of_it():
    held = settings("observe.kernel_alignment.points=5")
    assert held["observe.kernel_alignment.points"] == 5
    assert held["observe.kernel_alignment.every"] == 1
    assert settings("observe.norms.every=3")["observe.norms.every"] == 3


# --- overrides: what they refuse -----------------------------------------------------

TWO = dict(observe=dict(norms={}, kernel_alignment={}))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer.learningrate=2", "There is no setting 'optimizer.learningrate'; "),
        ("epsilonn=2", "There is no setting 'epsilonn'; nearest: model.epsilon"),
        ("modle.name=x", "There is no setting 'modle.name'; nearest: model.name"),
        ("sweeep.epsilon=1,2", "There is no setting 'sweeep.epsilon'; nearest: "),
        ("width=many", "model.width must be of type int, not 'many'."),
        ("width=2.5", "model.width must be of type int, not 2.5."),
        (
            "width=1,2",
            "model.width must be of type int, not (1, 2). To sweep it, give "
            "sweep.model.width these values.",
        ),
        ("width=", "model.width must be of type int, not ''."),
        ("learning_rate=fast", "optimizer.learning_rate must be of type float, not "),
        ("learning_rate=True", "optimizer.learning_rate must be of type float, not "),
        ("centered=maybe", "model.centered must be of type bool, not 'maybe'."),
        ("output_scale=0", "model.output_scale is 0.0; it must be > 0."),
        ("epsilon=-1", "model.epsilon is -1.0; it must be >= 0."),
        ("train_size=0", "task.train_size is 0; it must be >= 1."),
        ("train.steps=-1", "train.steps is -1; it must be >= 0 and <= 2147483647."),
        ("train.steps=3000000000", "train.steps is 3000000000; it must be >= 0 and "),
        ("records=0", "train.records is 0; it must be >= 1."),
        ("momentum=1", "optimizer.momentum is 1.0; it must be >= 0 and < 1."),
        ("seed=-1", "seed is -1; it must be >= 0 and <= 2147483647."),
        ("spacing=cubic", "train.spacing is 'cubic'; it must be one of log, linear."),
        ("engine.mode=fast", "engine.mode is 'fast'; it must be one of auto, map, "),
        ("memory_gb=-1", "engine.memory_gb is -1.0; it must be >= 0."),
        ("model.name=comittee", "There is no model 'comittee'; nearest: committee"),
        ("task.name=polynomal", "There is no task 'polynomal'; nearest: polynomial."),
        ("optimizer.name=sgd", "There is no optimizer 'sgd'; "),
        ("loss.name=hinge", "There is no loss 'hinge'; "),
        ("observe.norm.every=2", "There is no observable 'norm'; nearest: norms"),
        ("width", "Write --config.width=VALUE; there is no value."),
        ("degree=2", "The setting 'degree' could be "),
        ("sweep.degree=2,3", "The setting to sweep 'degree' could be "),
        ("grok.kind=accuracy", "grok.kind accuracy needs a level in grok.train and "),
        ("sweep.epsilon=", "The swept axis epsilon is empty; give it a value."),
        ("sweep.epsilon=1,-2", "sweep.epsilon is -2.0; it must be >= 0."),
        ("sweep.epsilon=1,x", "sweep.epsilon must be of type float, not 'x'."),
        ("sweep.seed=1,2,1", "The swept axis seed holds a value twice."),
        ("sweep.epsilom=1,2", "There is no setting to sweep 'epsilom'; nearest: "),
        ("sweep.model.name=a,b", "model.name cannot be swept; compare parts as arms."),
        ("sweep.engine.mode=map", "engine.mode is the same for all runs of a sweep."),
        ("zip=seed+width", "There is no swept axis 'seed'; "),
    ],
)
def test_each_kind_of_bad_override_has_its_own_sentence(override, sentence):
    assert refusal(override).startswith(sentence)


def test_a_swept_setting_cannot_be_set_alone_where_it_would_change_nothing():
    page = make_config(dict(sweep={"model.epsilon": (1.0, 2.0), "seed": (0, 1)}))
    for text, axis in (("epsilon=3", "model.epsilon"), ("seed=3", "seed")):
        with pytest.raises(SettingError) as caught:
            apply_overrides(page, [text])
        assert str(caught.value).startswith(
            f"{axis} is swept here; --config.sweep.{axis}=VALUE"
        )
    changed = apply_overrides(page, ["sweep.epsilon=3", "width=7"])
    assert changed.sweep.epsilon == (3.0,) and changed.model.width == 7


def test_a_short_name_of_two_settings_asks_for_the_full_path():
    assert refusal("every=2", base=make_config(TWO)) == (
        "The setting 'every' could be observe.norms.every or "
        "observe.kernel_alignment.every; write the full path."
    )


def test_one_setting_swept_under_two_names_is_refused():
    base = make_config(dict(sweep={"epsilon": (1.0,), "model.epsilon": (2.0,)}))
    assert refusal(base=base) == "The setting model.epsilon is swept twice."


def test_zipped_axes_of_different_lengths_are_refused():
    said = refusal("sweep.seed=1,2", "sweep.width=1,2,3", "zip=seed+width")
    assert said == "Zipped axes need equal lengths: seed (2), width (3)."


def test_a_bad_value_set_in_the_file_is_refused_as_one_on_the_command_line_is():
    base = make_config(dict(model=dict(output_scale=-1.0)))
    assert refusal(base=base) == "model.output_scale is -1.0; it must be > 0."


# --- parts that do not go together ---------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["observe.population_risk.every=1", "task.name=eigenlabels"],
            "observe.population_risk needs task.name polynomial",
        ),
        (
            ["model.name=committee_flow", "rule=lazy", "momentum=0.5"],
            "A model with dynamics of its own ",
        ),
        (
            ["reference.lazy=true", "momentum=0.5"],
            "reference.lazy has a closed form for optimizer.name gradient_descent",
        ),
        (
            ["reference.lazy=true", "task.name=modular"],
            "reference.lazy has a closed form for optimizer.name gradient_descent",
        ),
        (
            ["model.name=committee_flow", "rule=lazy", "train.batch_size=5"],
            "A model with dynamics of its own ",
        ),
        (
            ["reference.lazy=true", "optimizer.norm=fixed"],
            "reference.lazy has a closed form for optimizer.name gradient_descent",
        ),
        (
            ["reference.lazy=true", "train.batch_size=5"],
            "reference.lazy has a closed form for optimizer.name gradient_descent",
        ),
        (
            [
                *("task.name=modular_tokens", "modulus=7"),
                *("model.name=transformer", "vocabulary=5"),
            ],
            "model.vocabulary is 5, but the data need 8; leave it out",
        ),
        (
            ["task.name=mnist", "model.name=mlp", "model.outputs=2"],
            "model.outputs is 2, but the data need 10; leave it out",
        ),
        (
            [
                *("task.name=modular_tokens", "equals=false"),
                *("model.name=transformer", "context=3"),
            ],
            "A transformer takes integer tokens of shape (n, 3), not int32 inputs of ",
        ),
        (
            ["task.name=modular_embedded", "model.name=fnn", "vocabulary=113"],
            "An fnn with vocabulary 113 takes integer tokens of shape (n, D), not ",
        ),
        (
            ["model.name=transformer"],
            "A transformer takes integer tokens of shape (n, T), not "
            f"{jax.numpy.zeros(1).dtype} inputs",
        ),
        (
            ["task.name=modular"],
            "loss.name squared_error does not return one number for an example's ",
        ),
        (
            ["model.name=cluster_net"],
            "A cluster net takes int8 signs of shape (n, p) with p >= 3, or with its ",
        ),
        (
            ["observe.xor_norms.every=1"],
            "observe.xor_norms needs model.name cluster_net.",
        ),
        (
            ["model.aligned_share=0.5", "task.name=eigenlabels"],
            "model.aligned_share needs a task with a known solution",
        ),
        (
            ["rate_drops=(9, 5)"],
            "optimizer.rate_drops is (9, 5); it must be increasing steps",
        ),
        (
            ["observe.softmax_collapse.every=1"],
            "observe.softmax_collapse needs loss.error cross_entropy or naive",
        ),
    ],
)
def test_parts_that_do_not_go_together_have_their_own_sentence(overrides, sentence):
    assert misfit(*overrides).startswith(sentence)


def test_every_run_of_a_grid_is_checked_not_the_first_alone():
    said = misfit("sweep.momentum=0,0.5", "reference.lazy=true")
    assert said.startswith("reference.lazy has a closed form")


# --- axes and arms -------------------------------------------------------------------

ARMS = dict(
    model=dict(width=6),
    arms=dict(
        plain={},
        slow=dict(gradient=dict(grokfast_ema=dict(strength=3.0))),
        deep=dict(model=dict(name="mlp", layers=3), optimizer=dict(name="adamw")),
    ),
    sweep=dict(seed=(0, 1)),
)


def test_axes_are_those_of_the_author_in_that_order():
    orders = (("seed", "epsilon", "width"), ("width", "seed", "epsilon"))
    values = dict(seed=(1, 0), epsilon=(0.5, 0.25), width=(3, 2))
    for names in orders:
        base = make_config(dict(sweep={name: values[name] for name in names}))
        assert resolve(base).plan.grid.dims == names
        changed = apply_overrides(base, ["sweep.epsilon=1,2"])
        assert resolve(changed).plan.grid.dims == names
        added = apply_overrides(base, ["sweep.output_scale=1,2"])
        assert resolve(added).plan.grid.dims == (*names, "output_scale")


def test_arms_are_the_first_axis_and_each_has_its_own_parts():
    plan = resolve(make_config(ARMS)).plan
    assert (plan.grid.dims, plan.grid.shape) == (("arm", "seed"), (3, 2))
    plain, slow, deep = plan.arms.values()
    assert (plain.model["width"], deep.model["width"]) == (6, 6)
    assert "layers" not in plain.model.settings and deep.model["layers"] == 3
    assert not plain.gradient and slow.gradient["grokfast_ema"]["strength"] == 3.0
    runs = plan.settings_of_runs()
    assert [run["model.name"] for run in runs] == 2 * ["committee"] * 2 + 2 * ["mlp"]
    assert [run["seed"] for run in runs] == 3 * [0, 1]


def test_an_arm_that_names_another_part_begins_with_its_defaults():
    """What was set stays where both parts have it, and no default of the old part."""
    base = dict(model=dict(name="fnn", layers=7))
    arm = dict(model=dict(name="mlp"))
    (own,) = resolve(make_config(base, dict(arms=dict(a=arm)))).plan.arms.values()
    assert (own.model["layers"], own.model["width"]) == (7, 200)


def test_what_arms_have_in_common_is_stored_once():
    held = resolve(make_config(ARMS)).stored
    assert held["model.width"] == 6 and "model.name" not in held
    assert held["arms"]["plain"]["model.name"] == "committee"
    assert held["arms"]["slow"]["gradient.grokfast_ema.strength"] == 3.0
    assert "seed" in held and "seed" not in held["arms"]["deep"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["width=9"], (9, 9, 9)),  # for all
        (["layers=5"], (6, 6, 6)),
        (["arms.deep.width=9"], (6, 6, 9)),
        (["arms.deep.model.width=9", "width=4"], (4, 4, 9)),
        (["arms=slow,deep"], (6, 6)),
    ],
)
def test_an_override_holds_for_all_arms_or_for_the_one_it_names(overrides, expected):
    plan = resolve(apply_overrides(make_config(ARMS), overrides)).plan
    assert tuple(own.model["width"] for own in plan.arms.values()) == expected
    if overrides == ["layers=5"]:  # a setting that one arm alone has
        assert plan.arms["deep"].model["layers"] == 5


def test_the_name_of_an_arm_may_be_a_number():
    arms = {"α = 0.5": dict(model=dict(output_scale=0.5)), "α = 2": {}}
    plan = resolve(apply_overrides(make_config(dict(arms=arms)), ["width=3"])).plan
    assert [*plan.arms] == [*arms]
    assert plan.arms["α = 0.5"].wrapping["output_scale"] == 0.5


def test_an_override_wins_over_what_an_arm_says():
    base = make_config(ARMS, dict(arms=dict(plain=dict(model=dict(width=8)))))
    plan = resolve(apply_overrides(base, ["width=9"])).plan
    assert {own.model["width"] for own in plan.arms.values()} == {9}


def test_none_takes_out_what_an_earlier_layer_has():
    layer = dict(arms=dict(slow=None, deep=None), observe=dict(norms=None))
    first = dict(ARMS, observe=dict(norms={}, kernel_alignment={}))
    plan = resolve(make_config(first, layer)).plan
    assert [*plan.arms] == ["plain"]
    assert [*plan.experiment.observe] == ["kernel_alignment"]
    first = dict(ARMS, observe=dict(norms={}))
    without = dict(arms=dict(plain=dict(observe=dict(norms=None))))
    plain, slow, _ = resolve(make_config(first, without)).plan.arms.values()
    assert not plain.observe and [*slow.observe] == ["norms"]


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (dict(sweep=dict(layers=(2, 3))), "The axis layers sets nothing in arm plain"),
        (
            dict(arms=dict(plain=dict(engine=dict(x64=True)))),
            "arms.plain sets engine, which all runs share.",
        ),
        (
            dict(arms=dict(plain=dict(model=dict(widht=3)))),
            "There is no setting 'model.widht'; nearest: model.width",
        ),
    ],
)
def test_arms_that_cannot_be_have_their_own_sentence(layer, sentence):
    with pytest.raises(SettingError) as error:
        resolve(make_config(ARMS, layer))
    assert str(error.value).startswith(sentence)


def test_an_unknown_arm_names_those_there_are():
    said = "There is no arm 'slo'; known: plain, slow, deep."
    assert refusal("arms=plain,slo", base=make_config(ARMS)) == said
    assert refusal("arms.slo.width=3", base=make_config(ARMS)) == said


def test_two_axes_of_one_short_name_are_stored_apart():
    observe = dict(norms={}, kernel_alignment={})
    axes = {"observe.norms.every": (1, 2), "observe.kernel_alignment.every": (3, 4)}
    zipped = ("observe.norms.every+observe.kernel_alignment.every",)
    resolved = resolve(make_config(dict(observe=observe, sweep=axes, zip=zipped)))
    (stored_name,) = resolved.stored["sweep"]
    assert stored_name == zipped[0]
    names = resolved.plan.grid.coordinates()
    assert [*names] == ["observe_norms_every", "observe_kernel_alignment_every"]
    assert [v for _, v in names.values()] == [[1, 2], [3, 4]]


# --- what is stored ------------------------------------------------------------------


def stored(*overrides):
    return resolve(apply_overrides(make_config(), overrides)).stored


@pytest.mark.parametrize(
    "override",
    [
        "width=3",
        "seed=1",
        "grok.test=0.2",
        "engine.precision=default",
        "engine.x64=true",
        "engine.mode=map",
        "sweep.seed=0,1",
        "observe.norms.every=2",
    ],
)
def test_all_that_can_change_a_number_is_stored(override):
    assert stored(override) != stored()


@pytest.mark.parametrize(
    "override",
    [
        "engine.devices=1",
        "engine.segment_seconds=9",
        "engine.checkpoint_seconds=9",
        "runs_per_chunk=3",
        "memory_gb=1",
    ],
)
def test_how_to_run_is_not_stored_and_may_differ_between_launches(override):
    assert stored(override) == stored()


# --- this machine --------------------------------------------------------------------


def engine(*overrides):
    return resolve(apply_overrides(make_config(), overrides)).engine


@pytest.fixture
def jax_settings():
    """What set_up_jax sets, put back afterwards."""
    names = ("jax_default_matmul_precision", "jax_enable_x64")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_more_devices_than_there_are_is_one_sentence(jax_settings):
    with pytest.raises(SettingError) as error:
        machine.set_up_jax(engine("engine.devices=99"))
    assert str(error.value) == "engine.devices is 99; this machine has 2."


@pytest.mark.parametrize("devices", [1, 2])
def test_the_engine_has_the_devices_that_are_asked_for(jax_settings, devices):
    asked = machine.set_up_jax(engine(f"engine.devices={devices}", "mode=map"))
    assert asked.devices == tuple(jax.local_devices()[:devices])
    assert asked.mode == "map"
    assert machine.device_text(asked.devices).startswith(f"{devices} x CPU (")


def test_precision_and_x64_are_those_asked_for(jax_settings):
    machine.set_up_jax(engine("engine.x64=true", "engine.precision=high"))
    assert jax.numpy.zeros(1).dtype == "float64"
    assert jax.config.jax_default_matmul_precision == "high"
    machine.set_up_jax(engine())
    assert jax.numpy.zeros(1).dtype == "float32"
    assert jax.config.jax_default_matmul_precision == "highest"


MISSING = """
import sys
from grok_jax.engine import config, machine
from grok_jax.engine.override import apply_overrides
from grok_jax.experiment import leaves_of
from grok_jax.settings import SettingError
asked = apply_overrides(config.make_config(), ["platform=" + sys.argv[1]])
try:
    machine.set_up_jax(config.resolve(asked).engine)
except SettingError as error:
    print(error)
"""
CARDS = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]


@pytest.mark.parametrize(
    ("platform", "why"),
    [
        ("tpu", "Unable to initialize"),
        pytest.param(
            "gpu",
            "JAX finds no card here.",
            marks=pytest.mark.skipif(bool(CARDS), reason="there is a card"),
        ),
    ],
)
def test_a_platform_that_is_not_here_is_one_sentence(platform, why):
    line = [sys.executable, "-c", MISSING, platform]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (sentence,) = done.stdout.splitlines()
    none = f"engine.platform is {platform}, but this machine has none: "
    assert sentence.startswith(none + why)


# --- pages of YAML -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (dict(observe=["norms"]), "observe is ['norms']; write names with their"),
        (dict(observe=dict(norms=True)), "observe.norms is True; write names with"),
        (dict(transfer=True), "transfer is True; write"),
        (dict(sweep=["seed"]), "sweep is ['seed']; write"),
        (dict(arms=["a"]), "arms is ['a']; write"),
        (dict(arms=dict(a=1)), "arms.a is 1; write"),
    ],
)
def test_what_is_no_mapping_of_settings_is_a_sentence(page, said):
    with pytest.raises(SettingError) as error:
        make_config(page)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({"train": {"steps": None}}, "train.steps has no value."),
        ({"train": {"steps:40": None}}, "There is no setting 'train.steps:40'; near"),
        ({"stepz": None}, "There is no setting 'stepz'; nearest: train.steps."),
        ({"sweep": {"seed": None}}, "The swept axis seed is empty; give it a value."),
    ],
)
def test_a_setting_of_the_first_layer_needs_a_value(page, said):
    """In YAML, `steps:40` is a name without one."""
    with pytest.raises(SettingError) as error:
        make_config(page)
    assert str(error.value).startswith(said)


def test_an_empty_part_of_the_first_layer_has_its_defaults_and_none_removes_it_later():
    page = dict(observe=dict(norms=None), arms=None, zip="seed+epsilon")
    assert make_config(page) == make_config({**page, "observe": dict(norms={})})
    assert make_config(page).observe.norms.name == "norms"
    assert make_config(page).zip == ("seed+epsilon",)
    assert "observe" not in make_config(page, dict(observe=dict(norms=None)))
