"""Stored kernels -> measures: each against its definition."""

import numpy as np
import pytest

from grok_jax.kernel_history import kernel_history


def kernels(count=3, size=6):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(count, size, size + 2))
    return factors @ factors.transpose(0, 2, 1), rng.normal(size=(count, size))


def test_every_measure_is_its_definition():
    k, y = kernels()
    history = kernel_history(k, y, top=2)
    last, norm = k[-1], np.linalg.norm
    cosine = np.sum(last * k[0]) / (norm(last) * norm(k[0]))
    values, vectors = np.linalg.eigh(last)
    power = (vectors.T @ y[-1]) ** 2
    for measured, expected in (
        (history.distance[-1], 1 - cosine),
        (history.velocity[-1], norm(last - k[1]) / norm(k[1])),
        (history.effective_rank[-1], np.trace(last) ** 2 / np.trace(last @ last)),
        (history.top_power[-1], power[-2:].sum() / power.sum()),
        (history.difficulty[-1], y[-1] @ np.linalg.solve(last, y[-1])),
        (history.smallest[-1], values[0] / values[-1]),
    ):
        np.testing.assert_allclose(measured, expected, rtol=1e-10)


def test_the_first_kernel_has_neither_distance_nor_velocity():
    history = kernel_history(*kernels())
    np.testing.assert_allclose(
        [history.distance[0], history.velocity[0]], 0, atol=1e-12
    )


def test_a_kernel_that_only_grows_moves_without_turning():
    k, y = kernels(1)
    history = kernel_history(np.concatenate([k, 2 * k]), np.concatenate([y, y]))
    np.testing.assert_allclose(history.distance, 0, atol=1e-12)
    np.testing.assert_allclose(history.velocity, [0, 1])
    np.testing.assert_allclose(history.difficulty[1], history.difficulty[0] / 2)


def test_records_without_a_kernel_are_passed_over():
    k, y = kernels(3)
    gap = np.full_like(k[:1], np.nan)
    spread = np.concatenate([k[:1], gap, k[1:2], gap, k[2:]])
    targets = np.repeat(y, 2, axis=0)[:5]
    targets[[0, 2, 4]] = y
    dense, sparse = kernel_history(k, y), kernel_history(spread, targets)
    for a, b in zip(dense, sparse, strict=True):
        np.testing.assert_array_equal(b[[0, 2, 4]], a)
        assert np.isnan(b[[1, 3]]).all()


def test_runs_and_outputs_are_kept_apart():
    k, y = kernels()
    both = kernel_history(np.stack([k, k[::-1]]), np.stack([y, y[::-1]]))
    alone = kernel_history(k[::-1], y[::-1, :, None])
    for a, b in zip(both, alone, strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-12)


def test_targets_may_be_those_of_all_kernels():
    k, y = kernels()
    same = kernel_history(k, y[0])
    for one, other in zip(same, kernel_history(k, np.stack([y[0]] * 3)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shapes_that_do_not_go_together_are_a_sentence():
    k, y = kernels()
    with pytest.raises(
        ValueError, match=r"\[3, 6, 6\] need targets \[3, 6\].*\[2, 6\]"
    ):
        kernel_history(k, y[:2])
