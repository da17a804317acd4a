"""Times, gaps and fits computed from curves.

A time that is never reached is NaN (right-censored): it is neither dropped nor clamped
to the last step. Curves have the step axis last; leading axes are kept.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def first_step_reaching(
    steps: ArrayLike, curve: ArrayLike, threshold: ArrayLike, hold: int = 1
) -> Array:
    """The first recorded step from which `curve` stays at or above `threshold` for
    `hold` records in a row; NaN if it never does.

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
    """Like `first_step_reaching`, for a curve that falls to `threshold` or below.

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
    NaN if either never does."""
    return first_step_reaching(steps, test_accuracy, threshold) - first_step_reaching(
        steps, train_accuracy, threshold
    )


def delay(t_train: ArrayLike, t_test: ArrayLike) -> Array:
    """t_test - t_train: inf for a run that fitted but never generalised, NaN (unknown)
    for one that never fitted.

    >>> delay([10.0, 10.0, jnp.nan], [30.0, jnp.nan, jnp.nan]).tolist()
    [20.0, inf, nan]
    """
    t_test = jnp.asarray(t_test)
    return jnp.where(jnp.isnan(t_test), jnp.inf, t_test) - jnp.asarray(t_train)


def grokking_times(
    steps: ArrayLike,
    train_loss: ArrayLike,
    test_loss: ArrayLike,
    *,
    train_share: float = 0.05,
    test_share: float = 0.1,
) -> tuple[Array, Array]:
    """(t_train, t_test) of grokking in loss, [...] each; NaN if never reached.

    t_train: train loss at or below `train_share` of its first value. t_test: test loss
    at or below `test_share` of its peak, at or after the peak. Test losses that are not
    finite are skipped.
    """
    train_loss, test_loss = jnp.asarray(train_loss), jnp.asarray(test_loss)
    t_train = first_step_falling(steps, train_loss, train_share * train_loss[..., 0])
    finite = jnp.isfinite(test_loss)
    top = jnp.argmax(jnp.where(finite, test_loss, -jnp.inf), axis=-1)
    places = jnp.broadcast_to(jnp.arange(test_loss.shape[-1]), test_loss.shape)
    after = finite & (places >= top[..., None])
    low = test_loss <= test_share * _at(test_loss, top)[..., None]
    return t_train, _first_true(steps, low & after, 1)


def half_way(steps: ArrayLike, curve: ArrayLike) -> Array:
    """The first recorded step at which `curve` is at least half way from its first to
    its last finite value; [...], NaN if the two are equal.

    half_way(statistic) - t_test is its lag behind generalisation (negative: its lead).

    >>> half_way([0, 1, 2, 3], [0.0, 0.1, 0.6, 1.0]).item()
    2.0
    """
    curve = jnp.asarray(curve)
    first = last_recorded(curve[..., ::-1])
    way = last_recorded(curve) - first
    covered = curve - first[..., None]
    covered /= jnp.where(way == 0, jnp.nan, way)[..., None]
    return _first_true(steps, covered >= 0.5, 1)


def last_recorded(curve: ArrayLike) -> Array:
    """The last finite value of curve [..., S]; runs may end at different records.

    >>> last_recorded([[1.0, 2.0, 3.0], [1.0, 0.5, float("nan")]]).tolist()
    [3.0, 0.5]
    """
    curve = jnp.asarray(curve)
    back = jnp.argmax(jnp.isfinite(curve)[..., ::-1], axis=-1)
    return _at(curve, curve.shape[-1] - 1 - back)


class Peak(NamedTuple):
    """The maximum of a curve and its first and last finite values; [...] each."""

    step: Array
    value: Array
    first: Array
    last: Array


def peak(steps: ArrayLike, curve: ArrayLike) -> Peak:
    """The maximum of curve [..., S] over its finite records; the first if tied.

    A weight norm that rises, peaks and ends below its start (Omnigrok, Fig. 7a) has
    value > first > last.

    >>> peak([0, 10, 20], [42.0, 60.0, 33.0]).step.item()
    10.0
    """
    curve, steps = jnp.asarray(curve), jnp.asarray(steps, jnp.result_type(float))
    finite = jnp.isfinite(curve)
    top = jnp.argmax(jnp.where(finite, curve, -jnp.inf), axis=-1)
    return Peak(
        step=jnp.where(finite.any(axis=-1), steps[top], jnp.nan),
        value=_at(curve, top),
        first=last_recorded(curve[..., ::-1]),
        last=last_recorded(curve),
    )


def loss_spikes(curve: ArrayLike, factor: float = 10.0, floor: float = 0.0) -> Array:
    """The number of spikes of curve [..., S] above its lowest value so far.

    A record is high if it is above `factor` times the lowest record before it. A spike
    begins at a high record if the finite record just before is not high, so a spike of
    many records counts once, and so does a loss that never recovers. Records below
    `floor` count as `floor`, so that rounding makes no spikes; non-finite records are
    skipped. Adaptive optimisers cause such spikes late in training (Thilak et al. 2022,
    arXiv 2206.04817); the threshold is our definition.

    >>> loss_spikes([1.0, 0.1, 2.0, 3.0, 0.1, 0.01, 0.2]).item()
    2
    """
    if factor <= 1:
        raise ValueError(f"factor must be above 1, not {factor}.")
    curve = jnp.maximum(jnp.asarray(curve), floor)

    def look(carry, value):
        lowest, above = carry
        seen = jnp.isfinite(value)
        now = jnp.where(seen, value > factor * lowest, above)
        lowest = jnp.where(seen, jnp.minimum(lowest, value), lowest)
        return (lowest, now), now & ~above

    start = jnp.full_like(curve[..., 0], jnp.inf)
    _, begins = jax.lax.scan(look, (start, start < 0), jnp.moveaxis(curve, -1, 0))
    return jnp.sum(begins, axis=0)


def descents(curve: ArrayLike, drop: float = 0.2, floor: float = 0.0) -> Array:
    """The number of separate descents of a positive curve [..., S]: 1 is ordinary, 2 is
    double descent, more is the multiple descent of Omnigrok, Fig. 6c.

    A descent begins where the curve has fallen by more than the fraction `drop` of its
    highest value since the previous descent, and ends where it has risen again by as
    much: value > lowest / (1 - drop). Records below `floor` count as `floor`;
    non-finite records are skipped.

    >>> descents([1.0, 0.5, 0.1, 0.4, 0.39, 0.01]).item()
    2
    """
    if not 0 < drop < 1:
        raise ValueError(f"drop must be between 0 and 1, not {drop}.")
    curve = jnp.maximum(jnp.asarray(curve), floor)

    def look(carry, value):
        extreme, falling = carry  # lowest while falling, highest while rising
        seen, kept = jnp.isfinite(value), 1 - drop
        turned = jnp.where(falling, kept * value > extreme, value < kept * extreme)
        further = jnp.where(falling, value < extreme, value > extreme)
        turned, further = seen & turned, seen & further
        extreme = jnp.where(turned | further, value, extreme)
        return (extreme, falling ^ turned), turned & ~falling

    start = jnp.full_like(curve[..., 0], -jnp.inf)
    _, begins = jax.lax.scan(look, (start, start > 0), jnp.moveaxis(curve, -1, 0))
    return jnp.sum(begins, axis=0)


class Goldilocks(NamedTuple):
    """The bottom of the U: its norm w_c and test loss."""

    norm: Array
    loss: Array


def goldilocks(norms: ArrayLike, losses: ArrayLike) -> Goldilocks:
    """The norm of lowest test loss (Omnigrok, Sec. 2): the vertex of the parabola of
    log loss over log norm through the lowest point and its two neighbours.

    Args: norms [n] in any order; losses [..., n]; points that are not finite and
    positive are left out. If the lowest point is the first or last, the minimum may lie
    outside: the norm is NaN and the loss is that of the point.

    >>> norms = jnp.array([1.0, 2.0, 4.0, 8.0])
    >>> best = goldilocks(norms, 3 * jnp.exp(jnp.log(norms / 3) ** 2))
    >>> round(best.norm.item(), 4), round(best.loss.item(), 4)
    (3.0, 3.0)
    """
    x, y = _log_points(norms, losses)
    lowest = jnp.argmin(y, axis=-1)
    known = jnp.sum(jnp.isfinite(x), axis=-1)
    inside = (lowest > 0) & (lowest < known - 1)
    x0, y0 = _at(x, lowest), _at(y, lowest)
    left, right = _at(x, lowest - 1) - x0, _at(x, lowest + 1) - x0
    to_left = (_at(y, lowest - 1) - y0) / left
    to_right = (_at(y, lowest + 1) - y0) / right
    bend = (to_right - to_left) / (right - left)
    slope = to_left - bend * left
    curved = inside & (bend > 0)  # otherwise the three losses are equal
    shift = jnp.where(curved, -slope / (2 * jnp.where(curved, bend, 1)), 0)
    return Goldilocks(
        norm=jnp.where(inside, jnp.exp(x0 + shift), jnp.nan),
        loss=jnp.where(
            known > 0, jnp.exp(y0 + jnp.where(curved, slope * shift / 2, 0)), jnp.nan
        ),
    )


def _log_points(norms: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    """(log norm, log loss) [..., n], sorted by norm; points that are not finite and
    positive come last, as inf."""
    losses = jnp.asarray(losses, float)
    norms = jnp.broadcast_to(jnp.asarray(norms, float), losses.shape)
    keep = jnp.isfinite(norms) & jnp.isfinite(losses) & (norms > 0) & (losses > 0)
    x, y = (jnp.where(keep, jnp.log(v), jnp.inf) for v in (norms, losses))
    order = jnp.argsort(x, axis=-1)
    return jnp.take_along_axis(x, order, -1), jnp.take_along_axis(y, order, -1)


def _at(values: Array, index: Array) -> Array:
    """values [..., n] at index [...], which is clipped to the valid range."""
    index = jnp.clip(index, 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def lu_mismatch(
    norms: ArrayLike, train: ArrayLike, test: ArrayLike, floor: float = 1e-6
) -> Array:
    """The mean mismatch of the U and the L on the large-norm side, in decades; [...].

    The mean of log10(test / train), minus its value at the norm of lowest test loss,
    over the measured norms above that norm. A train loss below `floor` is fitted and
    counts as `floor` (so does a test loss): on a flat L the mismatch is the mean rise
    of the U. 0 means that train and test loss rise together and norm alone causes no
    grokking. The mismatch shrinks with more data (Omnigrok, Figs. 3c, 4c, 5c).

    Args: norms [n]; train and test [..., n]; non-finite points are left out. NaN if no
    norm is above that of the lowest test loss.

    >>> lu_mismatch([1.0, 2.0, 4.0, 8.0], [1.0, 0, 0, 0], [1.0, 0.1, 1.0, 10.0]).item()
    1.5
    """
    train, test = jnp.asarray(train, float), jnp.asarray(test, float)
    norms = jnp.broadcast_to(jnp.asarray(norms, float), test.shape)
    keep = jnp.isfinite(norms) & jnp.isfinite(train) & jnp.isfinite(test)
    best = jnp.argmin(jnp.where(keep, test, jnp.inf), axis=-1)
    gap = jnp.log10(jnp.maximum(test, floor) / jnp.maximum(train, floor))
    beyond = keep & (norms > _at(norms, best)[..., None])
    total = jnp.sum(jnp.where(beyond, gap - _at(gap, best)[..., None], 0), axis=-1)
    return total / jnp.sum(beyond, axis=-1)


class PowerLaw(NamedTuple):
    """A fit y = prefactor x^slope, with the half-width of the slope's 95% interval
    (Student's t for the number of pairs) and the number of pairs left out."""

    slope: Array
    prefactor: Array
    slope_margin: Array
    censored: Array


def power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Least-squares fit of log y on log x over the finite positive pairs.

    NaN with fewer than two pairs; the margin is NaN with fewer than three. `censored`
    counts the pairs left out (NaN, infinite or not positive). If it is not 0 the fit is
    biased, because times that were never reached would all be late.

    >>> fit = power_law([1.0, 2.0, 4.0], [3.0, 1.5, 0.75])
    >>> round(fit.slope.item(), 4), round(fit.prefactor.item(), 4)
    (-1.0, 3.0)
    """
    import scipy.stats  # half a second, for the margin alone

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
        x.size - count,
    )


def spearman(x: ArrayLike, y: ArrayLike) -> Array:
    """Rank correlation of x [n] and y [n] in [-1, 1]; equal values share a rank. NaN, a
    right-censored time, ranks above every number.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 20.0, float("nan")]).item()
    1.0
    """

    def ranks(v: ArrayLike) -> Array:
        v = jnp.ravel(jnp.asarray(v, float))
        v = jnp.where(jnp.isnan(v), jnp.inf, v)
        return jax.scipy.stats.rankdata(v) - (v.size + 1) / 2

    rank_x, rank_y = ranks(x), ranks(y)
    spread = jnp.sqrt(jnp.sum(rank_x**2) * jnp.sum(rank_y**2))
    return jnp.sum(rank_x * rank_y) / spread
