"""Settings are read from signatures; each kind of bad value has its own sentence."""

from typing import Annotated, Literal

import optax
import pytest
from flax import linen as nn

from grok_jax.losses import classification, regression
from grok_jax.models.cluster_net import cluster_net
from grok_jax.models.committee import committee
from grok_jax.models.mlp import mlp
from grok_jax.models.transformer import transformer
from grok_jax.rng import run_keys
from grok_jax.settings import (
    STATIC,
    TRACED,
    Bounds,
    Count,
    Fraction,
    Leaf,
    Momentum,
    Natural,
    NonNegative,
    OwnSeed,
    Positive,
    Seed,
    SettingError,
    lookup,
    nearest,
    schema,
)
from grok_jax.tasks.modular import modular


def part(
    key,
    size=3,
    *,
    width: Count = 5,
    rate: Positive = 0.5,
    momentum: Momentum = 0.0,
    seed: Seed = 0,
    plain: float = 1.0,
    kind: Literal["a", "b"] = "a",
    name: str = "x",
    flag: bool = False,
    needed: int,
):
    """`key` is passed by the engine."""


KEYWORDS = ["width", "rate", "momentum", "seed", "plain", "kind", "name", "flag"]
KEYWORDS += ["needed"]


def check(annotation, value, path="part.x"):
    def factory(*, x: annotation = None): ...

    return schema(factory)["x"].check(path, value)


def test_a_schema_holds_the_parameters_that_have_a_default_or_must_be_named():
    leaves = schema(part)
    assert list(leaves) == ["size", *KEYWORDS]
    assert leaves["width"] == Leaf(int, 5, Bounds(low=1), (), static=True)
    assert leaves["kind"] == Leaf(str, "a", None, ("a", "b"), static=True)
    assert [name for name, leaf in leaves.items() if leaf.required] == ["needed"]


class Net:
    def __init__(
        self, inputs: int, width: int = 3, *, scale: float = 1.0, rate: Positive = 0.5
    ):
        self.inputs = inputs


class Linen(nn.Module):
    width: int = 3
    scale: float = 1.0
    sizes: tuple = (2, 3)


def test_the_fields_of_a_class_are_settings_and_a_plain_float_of_it_is_static():
    leaves = schema(Net)
    assert list(leaves) == ["inputs", "width", "scale", "rate"]
    assert leaves["inputs"].required and leaves["scale"].static
    assert not leaves["rate"].static
    assert list(schema(Linen)) == ["width", "scale", "sizes"]


def test_of_a_foreign_function_any_parameter_may_be_given_and_all_are_static():
    leaves = schema(optax.adam)
    assert {"learning_rate", "b1", "eps"} < set(leaves)
    assert all(leaf.static and not leaf.required for leaf in leaves.values())


def test_a_static_setting_of_any_kind_is_hashable():
    leaf = schema(Linen)["sizes"]
    assert leaf.check("model.sizes", [4, 5]) == (4, 5)
    with pytest.raises(SettingError, match=r"model.sizes is .*must be hashable"):
        leaf.check("model.sizes", {"a": []})


def test_floats_and_seeds_are_traced_and_everything_else_is_static():
    leaves = schema(part)
    assert {name for name, leaf in leaves.items() if not leaf.static} == {
        "rate",
        "seed",
        "plain",
    }
    assert check(Annotated[float, STATIC], 1) == 1.0

    def marked(*, a: Annotated[float, STATIC] = 1.0, b: Annotated[int, TRACED] = 1): ...

    assert [leaf.static for leaf in schema(marked).values()] == [True, False]


@pytest.mark.parametrize(
    ("annotation", "value", "held", "kind"),
    [
        (Positive, 3, 3.0, float),
        (Count, 4.0, 4, int),
        (Count, 10**12, 10**12, int),
        (bool, True, True, bool),
        (str, "plain", "plain", str),
        (Seed, 2**31 - 1, 2**31 - 1, int),
        (OwnSeed, -1, -1, int),
        (Fraction, 1, 1.0, float),
        (Momentum, 0, 0.0, float),
        (float, float("inf"), float("inf"), float),
    ],
)
def test_a_good_value_is_held_in_the_type_of_its_setting(annotation, value, held, kind):
    result = check(annotation, value)
    assert result == held
    assert type(result) is kind


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (Count, "three", "part.x must be of type int, not 'three'."),
        (Count, 2.5, "part.x must be of type int, not 2.5."),
        (Count, True, "part.x must be of type int, not True."),
        (Positive, True, "part.x must be of type float, not True."),
        (Positive, "0.5", "part.x must be of type float, not '0.5'."),
        (Positive, None, "part.x must be of type float, not None."),
        (Positive, (1.0, 2.0), "part.x must be of type float, not (1.0, 2.0)."),
        (bool, 1, "part.x must be of type bool, not 1."),
        (str, 1, "part.x must be of type str, not 1."),
        (Count, 0, "part.x is 0; it must be >= 1."),
        (Natural, -1, "part.x is -1; it must be >= 0."),
        (Positive, 0, "part.x is 0.0; it must be > 0."),
        (Positive, float("nan"), "part.x is nan; it must be > 0."),
        (NonNegative, -1e-9, "part.x is -1e-09; it must be >= 0."),
        (Momentum, 1.0, "part.x is 1.0; it must be >= 0 and < 1."),
        (Fraction, 0.0, "part.x is 0.0; it must be > 0 and <= 1."),
        (Seed, 2**31, "part.x is 2147483648; it must be >= 0 and <= 2147483647."),
        (OwnSeed, -2, "part.x is -2; it must be >= -1 and <= 2147483647."),
        (Literal["log", "linear"], "lin", "part.x is 'lin'; it must be one of log, "),
    ],
)
def test_each_kind_of_bad_value_has_its_own_sentence(annotation, value, sentence):
    with pytest.raises(SettingError) as error:
        check(annotation, value)
    assert str(error.value).startswith(sentence)


def test_a_typo_is_answered_by_the_closest_names():
    known = ["model.width", "model.epsilon", "task.train_size"]
    assert nearest("model.widht", known).startswith("nearest: model.width")
    assert nearest("epsilonn", known) == "nearest: model.epsilon"


def test_a_name_like_no_other_is_answered_by_all_names():
    assert nearest("zzz", ["b", "a"]) == "known: a, b"


def test_lookup_finds_an_entry_or_names_the_nearest():
    assert lookup({"committee": 1}, "committee", "model") == 1
    with pytest.raises(SettingError) as error:
        lookup({"committee": 1}, "comittee", "model")
    assert str(error.value) == "There is no model 'comittee'; nearest: committee."


@pytest.mark.parametrize(
    ("make", "bad", "sentence"),
    [
        (mlp, {"activation": "rleu"}, "no activation 'rleu'; nearest: relu"),
        (mlp, {"init": "kaiming"}, "no initialisation 'kaiming'; nearest: kaiming_n"),
        (transformer, {"activation": "gleu"}, "no activation 'gleu'; nearest: gelu"),
        (committee, {"readout": "train"}, "no readout 'train'; nearest: trained"),
        (cluster_net, {"init": "gauss"}, "no initialisation 'gauss'; nearest: gauss"),
        (classification, {"error": "entropy"}, "no error 'entropy'; nearest: cross"),
        (regression, {"outputs": "total"}, "'total'; known: mean, sum"),
    ],
)
def test_a_typo_is_answered_where_a_part_is_called_by_hand_too(make, bad, sentence):
    with pytest.raises(SettingError, match=sentence):
        make(**bad)


def test_an_operation_that_there_is_not_is_answered_by_the_nearest():
    with pytest.raises(SettingError, match="no operation 'adition'; nearest: addition"):
        modular(run_keys(0), operation="adition")
