"""Sweeps that several modules ask for their bits."""

import numpy as np

GRID = dict(
    sweep=dict(output_scale=(0.5, 1.0, 2.0), seed=(3, 0)),
    observe=dict(norms={}, population_risk=dict(every=2)),
)
"""Six runs on two data sets."""

STOPS = dict(
    optimizer=dict(learning_rate=1.0),
    stop=dict(metric="train_loss"),
    sweep=dict(threshold=(0.5, 0.0, 0.06, 0.02, 0.04), seed=(0, 1)),
    train=dict(steps=60, records=30, spacing="linear"),
)


def same_runs(actual, expected, assert_identical):
    """Every variable of the runs, bit by bit; attributes may differ."""
    expected, actual = (
        r.drop_vars(set(r.coords) - {"step"}) for r in (expected, actual)
    )
    assert_identical(actual.data_vars, expected.data_vars)
    np.testing.assert_array_equal(actual.step, expected.step)
