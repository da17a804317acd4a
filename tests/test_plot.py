"""Figures show the numbers of the results: read back from the axes."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

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


def test_panels_are_a_grid_of_axes_whatever_its_size():
    for rows, columns in ((1, 1), (2, 3)):
        assert plot.panels(rows, columns)[1].shape == (rows, columns)


def test_panels_leave_the_global_style_alone():
    before = dict(plt.rcParams)
    plot.panels(1, 2)
    assert dict(plt.rcParams) == before


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


def test_the_median_ends_where_the_first_run_ends(axis):
    plot.curves(axis, results([[1, 2, 3, 4], [3, 2, NAN, NAN]]), "loss")
    assert drawn(axis)[1].tolist() == [2, 2]


def heat(axis, values, **options):
    rows, columns = values.shape
    plot.heat_map(
        axis.figure, axis, values, range(columns), range(rows), label="", **options
    )
    return {
        (round(t.get_position()[1] - 0.5), round(t.get_position()[0] - 0.5)): (
            t.get_text()
        )
        for t in axis.texts
    }


def test_a_heat_map_writes_each_number_in_its_cell_and_hatches_what_never_was(axis):
    values = np.array([[1000.0, NAN, 20.0], [0.0, 5.0, NAN]])
    said = heat(axis, values, never="too slow")
    assert said == {(0, 0): "1,000", (0, 2): "20", (1, 0): "0", (1, 1): "5"}
    hatched = {tuple(p.get_xy()) for p in axis.patches if p.get_hatch()}
    assert hatched == {(1, 0), (2, 1)}
    assert "too slow" in axis.get_title()


@pytest.mark.parametrize("value", [NAN, 0.0, 7.0])
def test_a_heat_map_of_one_value_everywhere_can_be_drawn(axis, value, tmp_path):
    heat(axis, np.full((2, 2), value))
    plot.save(axis.figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_no_figure_is_held_by_pyplot():
    plot.panels(1, 1)
    assert not plt.get_fignums()


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
