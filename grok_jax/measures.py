"""Curves -> times, gaps and fits.

A time that was never reached is NaN (right-censored): it is neither dropped nor
clamped to the last step. Curves have the step axis last; any leading axes are kept.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array
from jax.typing import ArrayLike


def first_step_reaching(
    steps: ArrayLike, curve: ArrayLike, threshold: ArrayLike, hold: int = 1
) -> Array:
    """The first recorded step from which `curve` stays at or above `threshold` for
    `hold` records in a row; NaN where that never happens.

    Args: steps [S]; curve [..., S]; threshold scalar or [...].

    >>> first_step_reaching([0, 10, 20], [0.1, 0.96, 0.97], 0.95).item()
    10.0
    >>> first_step_reaching([0, 10, 20], [0.1, 0.96, 0.2], 0.95, hold=2).item()
    nan
    """
    curve = jnp.asarray(curve)
    threshold = jnp.broadcast_to(jnp.asarray(threshold), curve.shape[:-1])
    return _first_true(steps, curve >= threshold[..., None], hold)


def first_step_falling(
    steps: ArrayLike, curve: ArrayLike, threshold: ArrayLike, hold: int = 1
) -> Array:
    """As `first_step_reaching`, for a curve that falls to `threshold` or below.

    >>> first_step_falling([0, 10, 20], [1.0, 0.4, 0.1], 0.4).item()
    10.0
    """
    return first_step_reaching(
        steps, -jnp.asarray(curve), -jnp.asarray(threshold), hold
    )


def _first_true(steps: ArrayLike, holds: Array, hold: int) -> Array:
    if hold < 1:
        raise ValueError(f"hold must be at least 1 record, not {hold}.")
    steps = jnp.asarray(steps, dtype=jnp.result_type(float))
    if holds.shape[-1] != steps.shape[0]:
        raise ValueError(
            f"The curve has {holds.shape[-1]} records but there are "
            f"{steps.shape[0]} steps."
        )
    count = holds.shape[-1] - hold + 1
    if count < 1:
        return jnp.full(holds.shape[:-1], jnp.nan)
    kept = jnp.stack([holds[..., i : i + count] for i in range(hold)]).all(axis=0)
    return jnp.where(kept.any(axis=-1), steps[jnp.argmax(kept, axis=-1)], jnp.nan)


def time_gap(
    steps: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    threshold: ArrayLike = 0.95,
) -> Array:
    """Steps from train to test accuracy reaching `threshold` (GrokTransfer's Time Gap);
    NaN where either never does."""
    return first_step_reaching(steps, test_accuracy, threshold) - first_step_reaching(
        steps, train_accuracy, threshold
    )


def grokking_times(
    steps: ArrayLike,
    train_loss: ArrayLike,
    test_loss: ArrayLike,
    *,
    train_share: float = 0.05,
    test_share: float = 0.1,
) -> tuple[Array, Array]:
    """(t_train, t_test) of grokking in loss, [...] each, NaN where never.

    t_train: train loss at or below `train_share` of its first value. t_test: test loss
    at or below `test_share` of its peak, at or after the peak.
    """
    train_loss, test_loss = jnp.asarray(train_loss), jnp.asarray(test_loss)
    t_train = first_step_falling(steps, train_loss, train_share * train_loss[..., 0])
    peak = jnp.nanmax(test_loss, axis=-1)
    places = jnp.broadcast_to(jnp.arange(test_loss.shape[-1]), test_loss.shape)
    after = places >= jnp.nanargmax(test_loss, axis=-1)[..., None]
    low = test_loss <= test_share * peak[..., None]
    return t_train, _first_true(steps, low & after, 1)


def half_way(steps: ArrayLike, curve: ArrayLike) -> Array:
    """The first recorded step at which `curve` has covered half of its way from its
    first to its last finite value; [...], NaN for a curve that never moves.

    half_way(statistic) - t_test is its lag behind generalisation; negative, its lead.

    >>> half_way([0, 1, 2, 3], [0.0, 0.1, 0.6, 1.0]).item()
    2.0
    """
    curve = jnp.asarray(curve)
    finite = jnp.isfinite(curve)
    last = curve.shape[-1] - 1 - jnp.argmax(finite[..., ::-1], axis=-1)
    first = jnp.argmax(finite, axis=-1)

    def at(index: Array) -> Array:
        return jnp.take_along_axis(curve, index[..., None], axis=-1)

    way = at(last) - at(first)
    covered = (curve - at(first)) / jnp.where(way == 0, jnp.nan, way)
    return _first_true(steps, covered >= 0.5, 1)


def last_recorded(curve: ArrayLike) -> Array:
    """The last finite value of curve [..., S]; a run may end before its neighbours.

    >>> last_recorded([[1.0, 2.0, 3.0], [1.0, 0.5, float("nan")]]).tolist()
    [3.0, 0.5]
    """
    curve = jnp.asarray(curve)
    back = jnp.argmax(jnp.isfinite(curve)[..., ::-1], axis=-1)
    index = curve.shape[-1] - 1 - back
    return jnp.take_along_axis(curve, index[..., None], axis=-1)[..., 0]


class PowerLaw(NamedTuple):
    """y = prefactor x^slope with the half width of the slope's 95% interval (Student's
    t for so many points)."""

    slope: Array
    prefactor: Array
    slope_margin: Array


def power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Least squares of log y on log x over the finite positive pairs.

    NaN with fewer than two pairs; the margin is NaN with fewer than three.

    >>> fit = power_law([1.0, 2.0, 4.0], [3.0, 1.5, 0.75])
    >>> round(fit.slope.item(), 4), round(fit.prefactor.item(), 4)
    (-1.0, 3.0)
    """
    x, y = jnp.ravel(jnp.asarray(x, float)), jnp.ravel(jnp.asarray(y, float))
    keep = jnp.isfinite(x) & jnp.isfinite(y) & (x > 0) & (y > 0)
    log_x, log_y = (jnp.log(jnp.where(keep, v, 1.0)) for v in (x, y))
    count = jnp.sum(keep)

    def mean(v: Array) -> Array:
        return jnp.sum(jnp.where(keep, v, 0.0)) / count

    dx, dy = log_x - mean(log_x), log_y - mean(log_y)
    slope = mean(dx * dy) / mean(dx**2)
    residual = mean((dy - slope * dx) ** 2) * count / (count - 2)
    students = scipy.stats.t.ppf(0.975, np.arange(1, max(x.size - 1, 2)))
    quantile = jnp.asarray(students, x.dtype)[jnp.maximum(count - 3, 0)]
    margin = quantile * jnp.sqrt(residual / (count * mean(dx**2)))
    return PowerLaw(
        jnp.where(count >= 2, slope, jnp.nan),
        jnp.where(count >= 2, jnp.exp(mean(log_y) - slope * mean(log_x)), jnp.nan),
        jnp.where(count >= 3, margin, jnp.nan),
    )


def spearman(x: ArrayLike, y: ArrayLike) -> Array:
    """Rank correlation of x [n] and y [n] in [-1, 1]; equal values share a rank. NaN
    ranks above every number, as a right-censored time does.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 20.0, float("nan")]).item()
    1.0
    """

    def ranks(v: ArrayLike) -> Array:
        v = jnp.ravel(jnp.asarray(v, float))
        v = jnp.where(jnp.isnan(v), jnp.inf, v)
        below = jnp.sum(v[:, None] > v[None, :], axis=1)
        equal = jnp.sum(v[:, None] == v[None, :], axis=1)
        return below + (equal - v.size) / 2

    rank_x, rank_y = ranks(x), ranks(y)
    spread = jnp.sqrt(jnp.sum(rank_x**2) * jnp.sum(rank_y**2))
    return jnp.sum(rank_x * rank_y) / spread
