"""Axes -> runs: products, zips and names."""

import math

import pytest

from grok_jax.engine.grid import Axis, Grid, make_grid, resolve, short_name
from grok_jax.settings import Bounds, Leaf, SettingError

LEAVES = {
    "seed": Leaf(int, 0, Bounds(low=0), static=False),
    "model.width": Leaf(int, 5, Bounds(low=1)),
    "model.epsilon": Leaf(float, 0.25, Bounds(low=0), static=False),
    "model.degree": Leaf(int, 0),
    "model.linearized": Leaf(bool, False),
    "task.train_size": Leaf(int, 10, Bounds(low=1)),
    "task.degree": Leaf(int, 0),
    "train.steps": Leaf(int, 100, Bounds(low=0)),
}


def test_the_grid_is_the_product_with_the_last_axis_fastest():
    grid = make_grid(LEAVES, {"epsilon": (0.1, 0.2), "seed": (3, 4, 5)})
    assert grid.dims == ("epsilon", "seed")
    assert grid.shape == (2, 3)
    assert len(grid) == 6
    assert [(r["model.epsilon"], r["seed"]) for r in grid.runs()] == [
        (e, s) for e in (0.1, 0.2) for s in (3, 4, 5)
    ]


def test_no_axis_is_one_run_that_sets_nothing():
    grid = make_grid(LEAVES, {})
    assert (grid.dims, grid.shape, len(grid), grid.runs()) == ((), (), 1, [{}])


def test_axes_keep_the_order_in_which_they_are_given():
    for names in (["seed", "width"], ["width", "seed"]):
        assert make_grid(LEAVES, {n: (1, 2) for n in names}).dims == tuple(names)


def test_a_single_value_is_an_axis_of_length_one():
    assert make_grid(LEAVES, {"seed": 3}).runs() == [{"seed": 3}]


def test_values_are_held_in_the_type_of_their_setting():
    (run,) = make_grid(LEAVES, {"epsilon": (1,), "width": (4.0,)}).runs()
    assert run == {"model.epsilon": 1.0, "model.width": 4}
    assert type(run["model.epsilon"]) is float and type(run["model.width"]) is int


def test_zipped_axes_move_together_as_one_dimension():
    grid = make_grid(
        LEAVES,
        {"train_size": (5, 6), "seed": (0, 1), "steps": (10, 20)},
        ["train_size+steps"],
    )
    assert grid.dims == ("train_size", "seed")
    assert [
        (r["task.train_size"], r["train.steps"], r["seed"]) for r in grid.runs()
    ] == [(5, 10, 0), (5, 10, 1), (6, 20, 0), (6, 20, 1)]
    assert grid.coordinates() == {
        "train_size": ("train_size", [5, 6]),
        "steps": ("train_size", [10, 20]),
        "seed": ("seed", [0, 1]),
    }


def test_zipped_axes_may_repeat_a_value_but_not_a_pair():
    sweep = {"epsilon": (0.5, 0.5, 1.0), "width": (1, 2, 2)}
    assert len(make_grid(LEAVES, sweep, ["epsilon+width"])) == 3
    sweep = {"epsilon": (0.5, 0.5, 1.0), "width": (1, 1, 2)}
    with pytest.raises(SettingError, match=r"axis epsilon\+width holds a value"):
        make_grid(LEAVES, sweep, ["epsilon + width"])


def test_a_setting_is_named_by_its_path_or_by_a_unique_ending():
    assert resolve("model.width", LEAVES) == "model.width"
    assert resolve("width", LEAVES) == "model.width"
    assert resolve("seed", LEAVES) == "seed"
    assert short_name("model.width") == "width"


def test_axes_of_one_short_name_take_their_full_names():
    grid = make_grid(LEAVES, {"model.degree": (2, 3), "task.degree": (4, 5)})
    assert grid.dims == ("model_degree", "task_degree")
    assert list(grid.coordinates()) == ["model_degree", "task_degree"]


@pytest.mark.parametrize(
    ("sweep", "zips", "sentence"),
    [
        (
            {"epsilom": (1,)},
            (),
            "There is no setting to sweep 'epsilom'; nearest: model.epsilon.",
        ),
        (
            {"degree": (1,)},
            (),
            "The setting to sweep 'degree' could be model.degree or task.degree; "
            "write the full path.",
        ),
        ({"seed": ()}, (), "The swept axis seed is empty; give it a value."),
        ({"width": (3, 0)}, (), "sweep.width is 0; it must be >= 1."),
        ({"width": (3, "x")}, (), "sweep.width must be of type int, not 'x'."),
        ({"seed": (1, 2, 1)}, (), "The swept axis seed holds a value twice."),
        ({"epsilon": (1, 1.0)}, (), "The swept axis epsilon holds a value twice."),
        (
            {"width": (1,), "model.width": (2,)},
            (),
            "The setting model.width is swept twice.",
        ),
        (
            {"seed": (1, 2), "width": (1, 2, 3)},
            ("seed+width",),
            "Zipped axes need equal lengths: seed (2), width (3).",
        ),
        (
            {"seed": (1, 2)},
            ("seed+widht",),
            "There is no swept axis 'widht'; known: seed.",
        ),
        (
            {"seed": (1, 2), "width": (1, 2), "steps": (1, 2)},
            ("seed+width", "width+steps"),
            "The axis model.width is zipped more than once.",
        ),
        (
            {"seed": (1, 2)},
            ("seed",),
            "zip names seed alone; write the axes that move together as a+b.",
        ),
    ],
)
def test_each_kind_of_bad_axis_has_its_own_sentence(sweep, zips, sentence):
    with pytest.raises(SettingError) as error:
        make_grid(LEAVES, sweep, zips)
    assert str(error.value) == sentence


def test_a_hand_made_grid_counts_as_the_product_of_its_axes():
    grid = Grid((Axis("a", ("seed",), ((0,), (1,))), Axis("b", ("model.width",), ())))
    assert len(grid) == math.prod(grid.shape) == 0


def test_a_value_that_is_no_number_is_a_text_in_the_results():
    leaves = {"optimizer.rate_drops": Leaf(object, ())}
    grid = make_grid(leaves, {"rate_drops": ((), (100,), (100, 200))})
    assert grid.coordinates() == {
        "rate_drops": ("rate_drops", ["()", "(100,)", "(100, 200)"])
    }
