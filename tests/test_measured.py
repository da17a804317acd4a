"""What a sweep has measured: every number in its own place of the grid."""

import numpy as np

from grok_jax.engine import measured, workdirs
from grok_jax.engine.grid import Axis, Grid

WIDTH = Axis("width", ("model.width",), ((3,), (5,)))
SEED = Axis("seed", ("seed",), ((7,), (8,), (9,)))
GRID = Grid((WIDTH, SEED))


def assembled():
    """Two groups with steps, names and kinds of variables of their own."""
    loss = np.arange(9, dtype=np.float32).reshape(3, 3)
    return measured.assemble(
        GRID,
        members=[(0, 1, 2), (3, 4, 5)],
        steps=[np.array([0, 1, 4]), np.array([0, 4, 9, 10])],
        records=[
            {"loss": loss, "ended": np.array([1.0, np.nan, 3.0])},
            {
                "loss": 100 + np.arange(12, dtype=np.float32).reshape(3, 4),
                "ended": np.array([4.0, 5.0, 6.0]),
                "kernel": np.arange(24.0).reshape(3, 4, 2),
                "spectrum": np.arange(6.0).reshape(3, 2),
            },
        ],
        per_step=[{"loss"}, {"loss", "kernel"}],
    )


def test_groups_with_other_steps_meet_on_their_union_with_nan_in_between():
    results = assembled()
    assert results.step.values.tolist() == [0, 1, 4, 9, 10]
    assert results.loss.dims == ("width", "seed", "step")
    np.testing.assert_array_equal(
        results.loss.sel(width=3, seed=8), [3, 4, 5, np.nan, np.nan]
    )
    np.testing.assert_array_equal(
        results.loss.sel(width=5, seed=7), [100, np.nan, 101, 102, 103]
    )


def test_every_run_lands_in_its_own_place_of_the_grid():
    results = assembled()
    np.testing.assert_array_equal(results.ended, [[1, np.nan, 3], [4, 5, 6]])
    for place, run in enumerate(GRID.runs()):
        at = results.sel(width=run["model.width"], seed=run["seed"])
        assert int(at.loss.sel(step=0)) == [0, 3, 6, 100, 104, 108][place]


def test_what_a_group_did_not_record_is_nan_and_arrays_keep_their_axes():
    results = assembled()
    assert results.kernel.dims == ("width", "seed", "step", "kernel_0")
    assert results.kernel.sel(width=3).isnull().all()
    np.testing.assert_array_equal(
        results.kernel.sel(width=5, seed=9, step=10), [22.0, 23.0]
    )
    assert results.spectrum.dims == ("width", "seed", "spectrum_0")
    np.testing.assert_array_equal(results.spectrum.sel(width=5, seed=8), [2.0, 3.0])


def test_arrays_of_other_lengths_are_filled_up_with_nan():
    long, short = np.arange(12.0).reshape(3, 2, 2), np.arange(3.0).reshape(3, 1)
    results = measured.assemble(
        GRID,
        members=[(0, 1, 2), (3, 4, 5)],
        steps=[np.array([0, 4]), np.array([0, 4])],
        records=[{"a": long[..., :1], "b": short}, {"a": long, "b": short}],
        per_step=[{"a"}, {"a"}],
    )
    assert results.a.dims == ("width", "seed", "step", "a_0")
    np.testing.assert_array_equal(results.a.sel(width=5), long)
    np.testing.assert_array_equal(results.a.sel(width=3, a_0=0), long[..., 0])
    assert results.a.sel(width=3, a_0=1).isnull().all()
    np.testing.assert_array_equal(results.b.sel(width=3), short)


def test_dtypes_are_kept():
    results = assembled()
    assert (results.loss.dtype, results.ended.dtype) == (np.float32, np.float64)


def test_a_single_run_has_no_dimension_but_step():
    results = measured.assemble(
        Grid(()),
        members=[(0,)],
        steps=[np.array([0, 5])],
        records=[{"loss": np.array([[1.0, 2.0]]), "ended": np.array([3.0])}],
        per_step=[{"loss"}],
    )
    assert results.loss.dims == ("step",) and results.loss.values.tolist() == [1, 2]
    assert results.ended.dims == () and float(results.ended) == 3


def test_zipped_settings_are_coordinates_of_their_common_axis(tmp_path):
    both = Axis("size", ("task.size", "train.steps"), ((1, 10), (2, 10)))
    results = measured.assemble(
        Grid((both,)), [(0, 1)], [np.array([0])], [{"a": np.zeros((2, 1))}], [{"a"}]
    )
    workdirs.write_results(tmp_path / "results.nc", results)
    back = workdirs.read_results(tmp_path / "results.nc")
    assert back.steps.dims == ("size",) and back.steps.values.tolist() == [10, 10]
    assert float(back.a.sel(size=2, step=0)) == 0
