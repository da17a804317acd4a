"""Figures show the numbers of the results: read back from the axes."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from grok_jax import plot

STEPS = [0, 1, 10, 100]
NAN = float("nan")


def results(values):
    return xr.Dataset(
        {"loss": (("seed", "step"), np.asarray(values, float))}, {"step": STEPS}
    )


@pytest.fixture
def axis():
    return plot.panels(1, 1)[1][0, 0]


def drawn(axis):
    (line,) = axis.lines
    return line.get_xdata(), line.get_ydata()


def heights(axis):
    """What the lines are at, by their label; those without one by their number."""
    return {
        line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axis.lines
    }


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def grids(**values):
    """Variables [width, seed, step] of values [width, seed, step] or [width, step]."""
    shaped = {name: np.asarray(v, float) for name, v in values.items()}
    return xr.Dataset(
        {
            name: (("width", "seed", "step"), v if v.ndim == 3 else v[:, None])
            for name, v in shaped.items()
        },
        {"width": [8, 16], "step": STEPS},
    )


def test_curves_over_another_axis_too_are_a_sentence(axis):
    both = grids(loss=np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="loss has the axis width too; choose"):
        plot.curves(axis, both, "loss")
    plot.curves(axis, both.sel(width=8), "loss")
    assert len(axis.lines) == 1


def test_panels_are_a_grid_of_axes_whatever_its_size():
    for rows, columns in ((1, 1), (2, 3)):
        assert plot.panels(rows, columns)[1].shape == (rows, columns)


def test_panels_leave_the_global_style_alone():
    before = dict(plt.rcParams)
    plot.panels(1, 2)
    assert dict(plt.rcParams) == before


def test_the_style_holds_for_what_is_drawn_in_it(axis):
    with plot.house_style():
        axis.set_title("title")
        bar = axis.figure.colorbar(axis.pcolormesh([[1, 2]]), label="steps").ax
    assert axis.title.get_fontsize() == plot.STYLE["axes.titlesize"] == 10
    assert bar.yaxis.label.get_fontsize() == plot.STYLE["font.size"] == 9
    assert mpl.rcParams["font.size"] == 10


def test_a_curve_is_the_median_over_seeds_with_the_range_as_a_band(axis):
    plot.curves(axis, results([[1, 2, 3, 4], [3, 2, 1, 0], [9, 9, 2, 5]]), "loss")
    x, y = drawn(axis)
    assert y.tolist() == [3, 2, 2, 4]
    assert x.tolist() == [0.7, 1, 10, 100]
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    for step, low, high in ((0.7, 1, 9), (100, 0, 5)):
        at = corners[np.isclose(corners[:, 0], step), 1]
        assert (at.min(), at.max()) == (low, high)


def test_a_curve_without_seeds_is_drawn_as_it_is(axis):
    plot.curves(axis, results([[1, 2, 3, 4]]).isel(seed=0), "loss")
    assert drawn(axis)[1].tolist() == [1, 2, 3, 4] and not axis.collections


def test_records_at_which_nothing_was_measured_are_left_out(axis):
    plot.curves(axis, results([[1, NAN, 3, NAN]]), "loss")
    x, y = drawn(axis)
    assert (x.tolist(), y.tolist()) == ([0.7, 10], [1, 3])


def test_a_held_curve_goes_on_only_after_its_end():
    curve = results([[2, NAN, 3, NAN], [1, 2, 3, np.inf], [NAN] * 4]).loss
    held = plot.held(curve)
    np.testing.assert_array_equal(held, [[2, NAN, 3, 3], [1, 2, 3, 3], [NAN] * 4])
    assert plot.held(curve.transpose("step", "seed")).transpose(*held.dims).equals(held)


def test_a_run_that_has_stopped_counts_with_its_last_value(axis):
    plot.curves(axis, results([[1, 2, 3, 4], [3, 2, NAN, NAN], [5, 6, 7, NAN]]), "loss")
    x, y = drawn(axis)
    assert (x.tolist(), y.tolist()) == ([0.7, 1, 10, 100], [3, 2, 3, 4])
    corners = axis.collections[0].get_paths()[0].vertices
    last = corners[corners[:, 0] == 100, 1]
    assert (last.min(), last.max()) == (2, 7)


def test_a_curve_ends_where_all_runs_have_ended(axis):
    plot.curves(axis, results([[1, 2, NAN, NAN], [3, NAN, NAN, NAN]]), "loss")
    assert drawn(axis)[1].tolist() == [2, 2.5]


def test_each_run_is_a_line_up_to_its_end_and_the_first_is_bold(axis):
    values = results([[1, 2, 3, 4], [4, 1, NAN, NAN]])
    plot.curves(axis, values, "loss", each=True, label="runs")
    bold, thin = axis.lines
    assert bold.get_ydata().tolist() == [1, 2, 3, 4] and bold.get_label() == "runs"
    assert thin.get_ydata().tolist() == [4, 1]
    assert bold.get_linewidth() > 2 * thin.get_linewidth()
    assert bold.get_color() == thin.get_color() and not axis.collections
    assert len(axis.get_legend_handles_labels()[0]) == 1


def test_a_share_is_of_each_runs_own_start(axis):
    plot.curves(axis, results([[2, 4, 8, 2], [1, 3, 5, 9]]), "loss", share=True)
    assert drawn(axis)[1].tolist() == [1, 2.5, 4.5, 5]


def test_a_band_has_the_colour_of_its_line(axis):
    for _ in range(2):
        plot.curves(axis, results([[1, 2, 3, 4], [3, 2, 1, 0]]), "loss")
    for line, band in zip(axis.lines, axis.collections, strict=True):
        np.testing.assert_allclose(
            band.get_facecolor()[0, :3], mpl.colors.to_rgb(line.get_color())
        )
    assert axis.lines[0].get_color() != axis.lines[1].get_color()


def test_a_family_is_of_test_and_dashed_train_curves(axis):
    runs = grids(
        train_accuracy=[[1, 1, 1, 1], [2, 2, 2, 2]],
        test_accuracy=[[3, 3, 3, 3], [4, 4, 4, 4]],
    )
    plot.family(axis, runs, "width", "N")
    dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
    solid = [line for line in axis.lines if line.get_linestyle() == "-"]
    assert [line.get_ydata()[0] for line in dashed] == [1, 2]
    assert [line.get_ydata()[0] for line in solid] == [3, 4]
    assert [line.get_color() for line in solid] == [line.get_color() for line in dashed]
    assert legend(axis) == ["N = 8", "N = 16"]
    assert axis.get_ylabel() == "accuracy (dashed: train)"
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")


def test_a_family_is_of_any_variable_as_a_share_and_on_a_log_axis(axis):
    runs = grids(weight_norm=[[2, 4, 6, 8], [1, 5, 7, 9]])
    plot.family(axis, runs, "width", "N", "weight_norm", share=True, log=True)
    assert heights(axis) == {"N = 8": [1, 2, 3, 4], "N = 16": [1, 5, 7, 9]}
    assert axis.get_ylabel() == "weight norm / start" and axis.get_yscale() == "log"


def test_a_family_is_of_any_two_variables_under_any_label(axis):
    runs = grids(train_loss=[[1] * 4, [2] * 4], population_risk=[[3] * 4, [4] * 4])
    how = dict(dashed="train_loss")
    plot.family(axis, runs, "width", "N", "population_risk", **how)
    assert [line.get_ydata()[0] for line in axis.lines] == [1, 3, 2, 4]
    assert [line.get_linestyle() for line in axis.lines] == ["--", "-"] * 2
    assert axis.get_ylabel() == "population risk (dashed: train)"
    plot.family(axis, runs, "width", "N", "population_risk", label="risk", **how)
    assert axis.get_ylabel() == "risk"


def test_a_family_of_each_run_has_one_entry_a_member(axis):
    runs = grids(loss=[[[1] * 4, [2] * 4], [[3] * 4, [4] * 4]])
    plot.family(axis, runs.rename(loss="risk"), "width", kind="risk", each=True)
    assert [line.get_ydata()[0] for line in axis.lines] == [1, 2, 3, 4]
    assert legend(axis) == ["8", "16"]


def test_a_family_may_be_of_names_and_of_equal_places(axis):
    runs = grids(risk=[[1] * 4, [2] * 4])
    for values in (["one-hot", "binary"], ["twice", "twice"]):
        own = runs.assign_coords(width=values)
        axis.clear()
        plot.family(axis, own, "width", kind="risk")
        assert [line.get_ydata()[0] for line in axis.lines] == [1, 2]
        assert legend(axis) == values


def test_losses_are_on_a_log_axis_where_told_so(axis):
    runs = xr.Dataset({name: results([[1, 2, 3, 4]]).loss for name in ("a", "b")})
    runs = runs.rename(a="train_loss", b="population_risk")
    plot.losses(axis, runs, test="population_risk")
    assert axis.get_yscale() == "linear" and set(heights(axis)) == {"train", "test"}
    plot.losses(axis, runs, test="population_risk", log=True)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")


def test_levels_are_the_values_that_there_are(axis):
    plot.levels(axis, xr.DataArray([[0.7, NAN], [0.8, 0.7]]), label="weak network")
    assert [line.get_ydata()[0] for line in axis.lines] == [0.7, 0.8]
    assert {line.get_linestyle() for line in axis.lines} == {":"}
    assert legend(axis) == ["weak network"]


def test_no_levels_are_no_lines_and_no_legend(axis):
    plot.levels(axis, xr.DataArray([NAN, NAN]), label="weak network")
    assert not axis.lines and axis.get_legend() is None


def swept(t_test, over=(1.0, 2.0, 4.0)):
    t_test = np.asarray(t_test, float)
    return xr.Dataset(
        {
            "t_train": (("decay", "seed"), np.ones_like(t_test)),
            "t_test": (("decay", "seed"), t_test),
        },
        {"decay": list(over), "step": STEPS},
    )


def test_times_are_dots_a_median_and_triangles_where_never(axis):
    plot.times(axis, swept([[80, 84], [40, 42], [20, NAN]]), "decay")
    assert heights(axis)["train"] == [1, 1, 1]
    np.testing.assert_array_equal(heights(axis)["test"], [82, 41, NAN])
    triangles = [line for line in axis.lines if line.get_marker() == "^"]
    seen = [
        (x, y)
        for line in triangles
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if np.isfinite(y)
    ]
    assert seen == [(4, 100)]
    assert not any(line.get_linestyle() == ":" for line in axis.lines)


@pytest.mark.parametrize(
    ("last", "expected"), [(20.0, [80, 40, 20]), (NAN, [75, 37.5, 18.75])]
)
def test_the_law_of_times_has_as_many_medians_above_as_below(axis, last, expected):
    plot.times(axis, swept([[90, 90], [20, 40], [20, last]]), "decay", law=-1)
    assert heights(axis)["slope -1"] == pytest.approx(expected)
    assert "slope -1" in legend(axis)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")


def test_a_slope_is_any_power_and_none_where_nothing_is_known(axis):
    values = swept([[1], [5], [32]]).t_test
    plot.slope(axis, values.transpose("seed", "decay"), "decay", 0.5)
    assert drawn(axis)[1].tolist() == pytest.approx([5 / np.sqrt(2), 5, 5 * np.sqrt(2)])
    plot.slope(axis, values * NAN, "decay", 0.5)
    assert len(axis.lines) == 1


def test_censored_values_are_dots_and_triangles_at_the_cap_in_a_row_each(axis):
    values = xr.DataArray(
        [[3.0, NAN, 5.0], [np.inf, np.inf, 7.0]],
        {"arm": ["scratch", "GrokTransfer"]},
        ("arm", "seed"),
    )
    plot.censored(axis, values.transpose(), 100, label="time gap")
    dots, triangles = axis.lines
    assert (dots.get_marker(), triangles.get_marker()) == ("o", "^")
    assert triangles.get_markerfacecolor() == "none"
    assert dots.get_xdata().tolist() == [3, 5, 7]
    assert dots.get_ydata().round().tolist() == [0, 0, 1]
    assert triangles.get_xdata().tolist() == [100] * 3
    assert triangles.get_ydata().round().tolist() == [0, 1, 1]
    assert len(set(triangles.get_ydata())) == 3
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["scratch", "GrokTransfer"]
    low, high = axis.get_ylim()
    assert low > high and axis.get_xlabel() == "time gap"
    plot.censored(axis, values.isel(seed=[0]), 100, log=True)
    assert axis.get_xscale() == "log" and axis.lines[-2].get_ydata().tolist() == [0]


def in_cells(axis):
    """What is written, and what is hatched, by (row, column)."""
    places = {text: text.get_position() for text in axis.texts}
    said = {(int(y), int(x)): text.get_text() for text, (x, y) in places.items()}
    hatched = {tuple(p.get_xy())[::-1] for p in axis.patches if p.get_hatch()}
    return said, hatched


TABLE = np.array([[1000.0, NAN, 20.0], [0.0, 5.0, NAN]])
SAID = {(0, 0): "1,000", (0, 2): "20", (1, 0): "0", (1, 1): "5"}


def test_cells_have_each_number_and_a_hatch_for_what_never_was(axis):
    values = xr.DataArray(
        TABLE, {"depth": ["a", "b"], "output_scale": [0.25, 0.5, 1.0]}
    )
    plot.cells(axis, values.T, "output_scale", "depth", label="delay", never="too slow")
    assert in_cells(axis) == (SAID, {(0, 1), (1, 2)})
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("output scale", "depth")
    ticks = [axis.get_xticklabels(), axis.get_yticklabels()]
    ticks = [[tick.get_text() for tick in labels] for labels in ticks]
    assert ticks == [["0.25", "0.5", "1"], ["a", "b"]]
    bar = axis.figure.axes[-1].get_ylabel()
    assert bar == "delay\nhatched: too slow" and not axis.get_title()


def heat(axis, values, **options):
    rows, columns = (range(size) for size in values.shape)
    named = xr.DataArray(values, {"y": rows, "x": columns}, ("y", "x"))
    plot.cells(axis, named, "x", "y", label="step", **options)


def test_cells_of_counts_are_coloured_from_zero_to_the_most(axis):
    table = [[0, 1], [2, 3]]
    counts = xr.DataArray(table, {"x": [1, 2], "y": [3, 4]}, ("y", "x"))
    plot.cells(axis, counts, "x", "y", norm=Normalize(0, 4))
    (mesh,) = axis.collections
    np.testing.assert_array_equal(mesh.get_array(), table)
    np.testing.assert_allclose(mesh.norm(mesh.get_array()), np.asarray(table) / 4)


def test_cells_that_all_have_values_need_no_word_on_hatches(axis):
    heat(axis, np.ones((2, 2)))
    assert axis.figure.axes[-1].get_ylabel() == "step"
    assert set(in_cells(axis)[0].values()) == {"1"}


def test_a_surface_has_its_axes_contours_and_letters(axis):
    x, y = np.geomspace(1, 8, 4), np.linspace(0, 1, 3)
    values = xr.DataArray(np.add.outer(x, y), {"norm": x, "mess": y})
    look = dict(levels=(4.0, 99.0), points={"A": (2.0, 0.5)}, log="x", label="loss")
    plot.heat_map(axis, values, "norm", "mess", **look)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    assert [text.get_text() for text in axis.texts if text.get_text() == "A"] == ["A"]
    (lines,) = [c for c in axis.collections if hasattr(c, "levels")]
    assert list(lines.levels) == [4.0]  # no line where the values do not go
    mesh = axis.collections[0]
    np.testing.assert_allclose(np.ravel(mesh.get_array()), np.ravel(values.T))
    assert axis.figure.axes[-1].get_ylabel() == "loss"


def test_an_error_is_drawn_on_a_linear_axis(axis):
    values = ("init_scale", "seed"), [[0.5, 0.5], [0.0, 0.2]]
    errors = {f"{split}_error": values for split in ("train", "test")}
    results = xr.Dataset(errors, {"init_scale": [0.1, 10.0]})
    plot.landscape(axis, results, kind="error")
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.5, 0.1])


@pytest.mark.parametrize("value", [NAN, 0.0, 7.0])
def test_a_heat_map_of_one_value_everywhere_can_be_drawn(axis, value, tmp_path):
    heat(axis, np.full((2, 2), value))
    plot.save(axis.figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_says_what_each_panel_shows_and_its_colours(tmp_path):
    figure, axes = plot.panels(1, 3)
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    heat(axes[0, 0], values)
    axes[0, 0].set_title("K9 (a)")
    axes[0, 1].plot([1, 2], label="α = 1")
    axes[0, 1].plot([2, 1])
    axes[0, 1].set(xlabel="step", ylabel="train\nloss")
    said = plot.description(figure)
    panel, line = said.split("; ")
    assert panel.startswith("K9 (a): ") and ", colour: " in panel
    assert line == "train loss against step (α = 1)"
    plot.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.info["Description"] == said


def test_no_figure_is_held_by_pyplot():
    before = plt.get_fignums()
    plot.panels(1, 1)
    assert plt.get_fignums() == before


def test_the_backend_of_a_notebook_stays():
    """And no figure needs one: `svg` is none of those that draw on a screen."""
    lines = (
        "import matplotlib; matplotlib.use('svg')",
        "from grok_jax import plot",
        "plot.save(plot.panels(1, 1)[0], sys.stdout.buffer)",
        "assert matplotlib.get_backend() == 'svg', matplotlib.get_backend()",
    )
    line = [sys.executable, "-c", "import sys; " + "; ".join(lines)]
    assert subprocess.check_output(line).startswith(b"\x89PNG")


def test_a_family_has_as_many_colours_as_members():
    colours = plot.family_colors(5)
    assert len({tuple(c) for c in colours}) == 5


def test_steps_are_on_a_log_axis(axis):
    plot.log_steps(axis, "steps")
    assert (axis.get_xscale(), axis.get_xlabel()) == ("log", "steps")


@pytest.mark.parametrize(
    ("lines", "named"), [(3, [0, 1, 2]), (13, [0, 2, 4, 6, 8, 10, 12])]
)
def test_the_legend_of_a_family_names_its_ends_and_not_too_many(lines, named):
    scales = np.arange(lines, dtype=float)
    runs = xr.Dataset(
        {"test_loss": (("scale", "seed", "step"), np.ones((lines, 1, 2)))},
        {"scale": scales, "seed": [0], "step": [1, 2]},
    )
    axis = Figure().add_subplot()
    plot.family(axis, runs, "scale", "s", kind="test_loss")
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == [f"s = {place}" for place in named]
