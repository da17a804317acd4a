"""The LU mechanism and the reduced dynamics of Omnigrok (Liu et al. 2023).

A landscape is a table of reduced losses l(w, m): the loss at the minimum of the train
loss over all directions of weights of norm w (eq. 1), at representation messiness m
(eqs. 4, 5). The reduced dynamics (eq. 6) move only these two numbers. Everything runs
on the host in float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from scipy.interpolate import RectBivariateSpline

EDGE = 1e-6
"""Distance from an edge (in log w and in m) within which a path that moves towards it
slows down to a stop."""


def norm_decay(
    w0: ArrayLike, gamma: ArrayLike, learning_rate: ArrayLike, steps: ArrayLike
) -> np.ndarray:
    """The norm under weight decay alone, w0 exp(-gamma learning_rate steps).

    Sec. 2; valid once the gradient of the train loss is negligible. The exponent of
    AdamW's (1 - gamma lr)^steps differs by a relative gamma lr / 2.
    """
    rate = np.asarray(gamma) * np.asarray(learning_rate)
    return np.asarray(w0) * np.exp(-rate * np.asarray(steps))


def time_to_goldilocks(
    w0: ArrayLike, wc: ArrayLike, gamma: ArrayLike, learning_rate: ArrayLike
) -> np.ndarray:
    """Steps until weight decay reduces the norm from w0 to wc, ln(w0 / wc) / (gamma lr)
    (Sec. 2): 0 if w0 <= wc, inf without decay.

    >>> round(float(time_to_goldilocks(20.0, 10.0, gamma=0.03, learning_rate=3e-4)))
    77016
    """
    distance = np.maximum(np.log(np.asarray(w0) / np.asarray(wc)), 0)
    rate = np.asarray(gamma) * np.asarray(learning_rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance > 0, distance / rate, 0.0)


class Surface(NamedTuple):
    """A loss as a function of norm w and messiness m."""

    value: Callable[[ArrayLike, ArrayLike], np.ndarray]
    """(w, m) -> l."""
    slopes: Callable[[ArrayLike, ArrayLike], tuple[np.ndarray, np.ndarray]]
    """(w, m) -> (dl/dw, dl/dm)."""
    norms: tuple[float, float]
    """The smallest and largest norm at which the loss is known."""
    messiness: tuple[float, float]


def interpolate(
    norms: ArrayLike, messiness: ArrayLike, losses: ArrayLike, floor: float = 1e-12
) -> Surface:
    """The surface through measured losses [W, M]: a bicubic spline of log l over
    (log w, m), which is positive over many decades.

    Losses below `floor` are set to `floor`: below it, a loss counts as fitted.

    Args: norms [W] > 0 and messiness [M], both increasing, at least four of each.
    Raises: ValueError where that does not hold or a loss is not finite.
    """
    w, m = np.asarray(norms, float), np.asarray(messiness, float)
    table = np.asarray(losses, float)
    if table.shape != (len(w), len(m)):
        raise ValueError(
            f"{len(w)} norms and {len(m)} messinesses need losses of that shape, not "
            f"{table.shape}."
        )
    if min(table.shape) < 4:
        raise ValueError(f"A bicubic surface needs 4 x 4 losses, not {table.shape}.")
    if w[0] <= 0 or (np.diff(w) <= 0).any() or (np.diff(m) <= 0).any():
        raise ValueError("norms and messiness must rise, and norms be above 0.")
    if not np.isfinite(table).all():
        raise ValueError(f"{np.sum(~np.isfinite(table))} losses are not finite.")
    spline = RectBivariateSpline(np.log(w), m, np.log(np.maximum(table, floor)))

    def value(w: ArrayLike, m: ArrayLike) -> np.ndarray:
        return np.exp(spline.ev(np.log(w), m))

    def slopes(w: ArrayLike, m: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        loss, log_w = value(w, m), np.log(w)
        by_w = loss * spline.ev(log_w, m, dx=1) / np.asarray(w)
        return by_w, loss * spline.ev(log_w, m, dy=1)

    return Surface(value, slopes, (w[0], w[-1]), (m[0], m[-1]))


class Path(NamedTuple):
    """A path of the reduced dynamics; [T] each."""

    time: np.ndarray
    norm: np.ndarray
    messiness: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray


def reduced_path(
    train: Surface,
    test: Surface,
    w0: float,
    m0: float,
    time: ArrayLike,
    *,
    gamma: float,
    decoder_rate: float = 1.0,
    representation_rate: float = 1.0,
    tolerance: float = 1e-8,
) -> Path:
    """Gradient flow on the reduced train loss with weight decay (eq. 6, Fig. 6),

        dw/dt = -eta_D (dl/dw + gamma w),    dm/dt = -eta_R dl/dm,

    from (w0, m0), with the rates eta_D of the decoder and eta_R of the representation.
    A path that reaches the edge of the train surface moves along it, since the loss is
    unknown beyond and m stays between 0 and 1. `measures.descents` counts how often the
    test loss falls along a path (multiple descent, Fig. 6c).

    Args: time [T], increasing; the path starts at time[0].
    Raises: ValueError for a start outside the train surface; RuntimeError if the
      integration fails.
    """
    time = np.asarray(time, float)
    low = np.array([np.log(train.norms[0]), train.messiness[0]])
    high = np.array([np.log(train.norms[1]), train.messiness[1]])
    start = np.array([np.log(w0), m0])
    if not ((low <= start) & (start <= high)).all():
        raise ValueError(
            f"The start w = {w0}, m = {m0} lies outside the landscape: w in "
            f"{train.norms}, m in {train.messiness}."
        )

    def flow(_, place: np.ndarray) -> np.ndarray:
        log_w, m = np.clip(place, low, high)
        by_w, by_m = train.slopes(np.exp(log_w), m)
        speed = -np.array(
            [decoder_rate * (by_w / np.exp(log_w) + gamma), representation_rate * by_m]
        )
        # A speed that dropped to zero abruptly at an edge would stall the solver.
        room = np.where(speed < 0, place - low, high - place)
        return speed * np.clip(room / EDGE, 0, 1)

    solved = solve_ivp(
        flow,
        (time[0], time[-1]),
        start,
        method="LSODA",
        t_eval=time,
        rtol=tolerance,
        atol=tolerance,
    )
    if not (solved.success and np.isfinite(solved.y).all()):
        raise RuntimeError(f"The reduced dynamics failed: {solved.message}")
    log_w, m = np.clip(solved.y, low[:, None], high[:, None])
    w = np.exp(log_w)
    return Path(time, w, m, train.value(w, m), test.value(w, m))


def contour(norms: ArrayLike, losses: ArrayLike, level: float) -> np.ndarray:
    """The smallest norm at which each column of losses [W, M] is at most `level`; [M].

    For the train loss it is the boundary of Fig. 6(d, e) between small norms, where
    training is fast, and large ones, where only weight decay moves the weights (the
    paper draws it at 0.05 and 0.02). Log loss is interpolated linearly in log norm. NaN
    where the loss never falls to `level` or is already there at the smallest norm.

    Args: norms [W], increasing.
    """
    w, table = np.log(np.asarray(norms, float)), np.asarray(losses, float)
    reached = table <= level
    first = np.argmax(reached, axis=0)
    crosses = reached.any(axis=0) & (first > 0)
    before, columns = np.maximum(first - 1, 0), np.arange(table.shape[1])
    y = np.log(np.maximum(table, np.finfo(float).tiny))
    above, below = y[before, columns], y[first, columns]
    share = (above - np.log(level)) / np.where(crosses, above - below, 1.0)
    log_w = w[before] + share * (w[first] - w[before])
    return np.where(crosses, np.exp(log_w), np.nan)


def contour_angle(messiness: ArrayLike, boundary: ArrayLike) -> float:
    """The angle theta between a contour w(m) [M] and the log w axis, in (0, pi):
    tan theta = dm / d log w of the least-squares line of log w on m.

    Weight decay moves log w at the speed v = eta_D gamma, and the speed along the
    boundary is v cos theta, so generalisation takes (L + h tan theta) / (eta_D gamma)
    (Sec. 5.1, Fig. 6f: distances L in log w and h in m). Theta grows as the data set
    shrinks (Fig. 6e); at and above pi / 2 the boundary no longer leads to small m.
    Columns without a boundary (NaN) are left out; NaN if fewer than two remain.

    >>> m = np.array([0.0, 0.5, 1.0])
    >>> round(contour_angle(m, np.exp(m)) / np.pi, 4)
    0.25
    """
    m, log_w = np.asarray(messiness, float), np.log(np.asarray(boundary, float))
    known = np.isfinite(log_w)
    if known.sum() < 2:
        return float("nan")
    return float(np.arctan2(1.0, np.polyfit(m[known], log_w[known], 1)[0]))
