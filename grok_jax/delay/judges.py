"""How well the numbers of a theory predict the delay of runs that it has not seen.

Survival analysis of t_test / t_train: a run that had not generalised at the horizon is
censored there. The models are those of scikit-survival (pip install 'grok_jax[delay]').
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from grok_jax.delay import theories
from grok_jax.delay.table import MOMENTS

INSTALL = "pip install 'grok_jax[delay]'"
QUANTILES = (0.1, 0.5, 0.9)
TASK, REGION = "task: ", "region: "
"""How what is left out begins."""
RESAMPLES = 400


class Judged(NamedTuple):
    """How well one model of one theory predicted the runs that were left out."""

    theory: str
    moment: str  # what was known: "start" or "fitted"
    model: str  # "number", "monotone", "Cox" or "boosted"
    left_out: str
    concordance: float
    draws: np.ndarray
    """Uno's concordance, and the same of `RESAMPLES` draws of the runs with
    replacement, which are the same draws for every theory, and vary the runs that are
    judged, not those that were learned from."""
    error: float
    """Mean |log10(predicted / seen)| over the runs that generalised; NaN: no time."""
    far: float
    """The share of them that it is wrong for by more than a factor of ten."""
    below: tuple[float, ...]
    """The share of runs that generalised before each of `QUANTILES` of the times that
    were predicted for them, which should be equal to it."""
    runs: int
    censored: float  # share of the runs that did not generalise


# --- models ---------------------------------------------------------------------------


class Scaled(NamedTuple):
    """Columns brought to median 0 and unit deviation; what is missing is 0."""

    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Scaled":
        known = np.isfinite(x).any(0)
        filled = np.where(np.isfinite(x), x, np.nan)
        middle = np.where(known, np.nanmedian(np.where(known, filled, 0), axis=0), 0)
        spread = np.nanstd(np.where(known, filled, 0), axis=0)
        return cls(middle, np.where(spread > 0, spread, 1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        scaled = (np.where(np.isfinite(x), x, self.middle) - self.middle) / self.spread
        return np.clip(scaled, -5, 5)


class Prediction(NamedTuple):
    """What is predicted of runs: who is sooner, and the chance of each to be late."""

    risk: np.ndarray  # [n], more of it is sooner
    grid: np.ndarray = np.zeros(0)  # [m], times; none: the runs are only ranked
    survival: np.ndarray = np.zeros((0, 0))
    """[n, m], the chance not to have generalised by each time of the grid"""

    def quantile(self, level: float, after: np.ndarray | None = None) -> np.ndarray:
        """The first time of the grid by which each run [n] has generalised with this
        chance, given that it had not at the time `after` [n]; infinite if there is
        none."""
        left = 1 if after is None else 1 - self.chance(after)[:, None]
        late = self.survival <= (1 - level) * left
        if after is not None:
            late &= self.grid[None, :] > after[:, None]
        return np.where(late.any(1), self.grid[np.argmax(late, axis=1)], np.inf)

    def chance(self, times: np.ndarray, before: bool = False) -> np.ndarray:
        """The chance of each run [n] to have generalised by its own time [n], or before
        it."""
        side = "left" if before else "right"
        place = np.searchsorted(self.grid, times, side=side) - 1
        after = self.survival[np.arange(len(times)), np.maximum(place, 0)]
        return 1 - np.where(place < 0, 1, after)

    def position(self, times: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Where each time [n] lies in what was predicted for it, from 0 to 1; drawn at
        random between the chances before and at a time that many runs have, such as
        that of a run which generalises as it fits."""
        low, high = self.chance(times, before=True), self.chance(times)
        place = np.random.default_rng(0).uniform(size=len(times))
        return np.where(seen, low + place * (high - low), high)


def fit(
    model: str, x: np.ndarray, times: np.ndarray, seen: np.ndarray
) -> Callable[[np.ndarray], Prediction]:
    """Fits "Cox" (proportional hazards with a ridge) or "boosted" (gradient-boosted
    trees of the same likelihood) to columns [n, k]; what it predicts from others."""
    scaled = Scaled.of(x)
    estimator = _estimator(model)
    estimator.fit(scaled(x), _survival(times, seen))

    def predict(x: np.ndarray) -> Prediction:
        x = scaled(x)
        survival = estimator.predict_survival_function(x, return_array=True)
        return Prediction(estimator.predict(x), estimator.unique_times_, survival)

    return predict


def _estimator(model: str) -> Any:
    try:
        from sksurv.ensemble import GradientBoostingSurvivalAnalysis
        from sksurv.linear_model import CoxPHSurvivalAnalysis
    except ImportError as error:
        raise ImportError(f"A prediction needs scikit-survival: {INSTALL}.") from error

    if model == "Cox":
        return CoxPHSurvivalAnalysis(alpha=1, ties="efron")
    return GradientBoostingSurvivalAnalysis(
        n_estimators=100, max_depth=3, subsample=0.5, random_state=0
    )


def _survival(times: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Times and whether they were seen, as scikit-survival takes them."""
    from sksurv.util import Surv

    return Surv.from_arrays(event=seen, time=times)


# --- measures -------------------------------------------------------------------------


class Pairs(NamedTuple):
    """Which pairs of runs are in the right order, and what each weighs.

    weight [n, n]: of pair (i, j), where i generalised first and within `limit`; order
    [n, n]: 1 where i was predicted to, 1/2 for a tie, 0.
    """

    weight: np.ndarray
    order: np.ndarray

    def concordance(self, count: ArrayLike | None = None) -> float:
        """Uno's concordance, with each run taken `count` [n] times."""
        one = np.ones(len(self.weight)) if count is None else np.asarray(count, float)
        total = one @ self.weight @ one
        return float(one @ (self.weight * self.order) @ one / total)


def pairs(
    times: np.ndarray, seen: np.ndarray, risk: np.ndarray, known: tuple, limit: float
) -> Pairs:
    """The pairs of Uno's concordance (Uno et al. 2011): each weighs 1 / G(t_i)^2, where
    G is the chance not to be censored before t.

    Args:
      known: (times, seen) of the runs that G is estimated from.
      limit: later times are not compared.
    """
    from sksurv.nonparametric import CensoringDistributionEstimator

    censoring = CensoringDistributionEstimator().fit(_survival(*known))
    counted = seen & (times < limit)
    chance = np.ones(len(times))
    chance[counted] = censoring.predict_proba(times[counted])
    first = counted[:, None] & (times[:, None] < times[None, :])
    # a run that was seen and one that was censored at the same time
    first |= counted[:, None] & (times[:, None] == times[None, :]) & ~seen[None, :]
    weight = np.where(first, 1 / chance[:, None] ** 2, 0)
    with np.errstate(invalid="ignore"):
        apart = risk[:, None] - risk[None, :]
    unknown = np.isnan(apart) | (np.abs(apart) < 1e-8)
    order = np.where(unknown, 0.5, apart > 0)
    return Pairs(weight, order)


def resampled(found: Pairs, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """The concordance of draws of the runs with replacement [resamples]; those in which
    no pair can be compared are NaN."""
    n, rng = len(found.weight), np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    weighted = found.weight * found.order
    top = np.einsum("bi,bi->b", counts @ weighted, counts)
    total = np.einsum("bi,bi->b", counts @ found.weight, counts)
    return top / np.where(total > 0, total, np.nan)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The 95% interval of what was drawn."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def errors(predicted: np.ndarray, times: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """|log10(predicted / seen)| of each time that was seen; a prediction of "never"
    counts as the longest time of all."""
    finite = np.minimum(predicted, np.max(times))
    return np.abs(np.log10(finite[seen] / times[seen]))


def below(chance: np.ndarray, seen: np.ndarray) -> tuple[float, ...]:
    """The share of runs that generalised while their predicted `chance` to have done so
    [n] was still below each of `QUANTILES`, by Kaplan-Meier: a run that was censored
    counts as one that might have gone on. NaN where no chance gets as far."""
    from sksurv.nonparametric import kaplan_meier_estimator

    grid, survival = kaplan_meier_estimator(seen, chance)[:2]
    place = np.searchsorted(grid, QUANTILES, side="right") - 1
    shares = 1 - np.where(place < 0, 1, survival[place])
    return tuple(np.where(np.max(chance) < QUANTILES, np.nan, shares).tolist())


# --- what is left out -----------------------------------------------------------------

REGIONS: dict[str, Callable[[xr.Dataset], np.ndarray]] = {
    "large output scales": lambda table: _beyond(table.output_scale.values, 0.75),
    "large inits": lambda table: _beyond(table.init_scale.values, 0.75),
    "small decay": lambda table: (
        theories.decay(table) <= np.quantile(theories.decay(table), 0.25)
    ),
    "small train sets": lambda table: ~_beyond(table.train_fraction.values, 0.25),
}


def _beyond(values: np.ndarray, quantile: float) -> np.ndarray:
    return values > np.quantile(values, quantile)


def splits(table: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """(what is left out, whether a run is in it [n]): each task, and a quarter of all
    runs at an end of each of four settings."""
    for task in dict.fromkeys(table.task.values.tolist()):
        yield f"{TASK}{task}", table.task.values == task
    for name, inside in REGIONS.items():
        yield f"{REGION}{name}", inside(table)


def limit_of(table: xr.Dataset) -> float:
    """Times from here on are not compared: by then the horizon alone would censor half
    of the runs, or no time is known. Later ones weigh too much: 1 / G^2."""
    ends = table.horizon.values / np.maximum(table.t_train.values, 1)
    times, _ = theories.target(table)
    return float(min(np.median(ends), np.max(times)))


# --- the verdict ----------------------------------------------------------------------


class Case(NamedTuple):
    """Runs to learn from and runs to predict, and what is left out of the first."""

    left_out: str
    train: xr.Dataset
    test: xr.Dataset

    def judged(
        self, theory: str, moment: str, model: str, predicted: Prediction
    ) -> Judged:
        times, seen = theories.target(self.test)
        limit = limit_of(self.test)
        found = pairs(times, seen, predicted.risk, (times, seen), limit)
        error = far = np.nan
        shares = (np.nan,) * len(QUANTILES)
        if len(predicted.grid):
            wrong = errors(predicted.quantile(0.5), times, seen)
            error, far = float(np.mean(wrong)), float(np.mean(wrong > 1))
            shares = below(predicted.position(times, seen), seen)
        return Judged(
            theory,
            moment,
            model,
            self.left_out,
            found.concordance(),
            resampled(found, seed=zlib.crc32(self.left_out.encode())),
            error,
            far,
            shares,
            self.test.sizes["run"],
            float(np.mean(~seen)),
        )

    def fitted(self, theory: str, moment: str, model: str, columns: Callable) -> Judged:
        """The verdict on a model of `columns(table, theory, moment)` [n, k]."""
        x, x_test = (columns(t, theory, moment) for t in (self.train, self.test))
        how = "Cox" if model == "monotone" else model
        predict = fit(how, x, *theories.target(self.train))
        return self.judged(theory, moment, model, predict(x_test))

    def floor(self) -> Judged:
        """The verdict on t_train times the ratio of the runs that are known, whatever
        the run (Kaplan-Meier)."""
        from sksurv.nonparametric import kaplan_meier_estimator

        times, seen = theories.target(self.train)
        grid, survival = kaplan_meier_estimator(seen, times)[:2]
        every = np.repeat(survival[None], self.test.sizes["run"], axis=0)
        same = Prediction(np.zeros(len(every)), grid, every)
        return self.judged("floor", "fitted", "median", same)


def judge(
    table: xr.Dataset, models: tuple[str, ...] = ("Cox", "boosted")
) -> list[Judged]:
    """The verdicts on every theory at both moments, for all that is left out.

    Models: "number", the theory's one number as it is, which only ranks; "monotone",
    Cox's model of it; and `models` of all its numbers.
    """
    table = theories.that_fitted(table)
    found = []
    for left_out, inside in splits(table):
        case = Case(left_out, table.isel(run=~inside), table.isel(run=inside))
        found.append(case.floor())
        for moment in MOMENTS:
            for theory in theories.NUMBER:
                later = theories.number(case.test, theory, moment)
                ranked = Prediction(-later)
                found += [
                    case.judged(theory, moment, "number", ranked),
                    case.fitted(theory, moment, "monotone", _one),
                ]
            for theory in (*theories.THEORIES, "theories", "together", "anywhere"):
                found += [
                    case.fitted(theory, moment, model, theories.matrix)
                    for model in models
                    if theories.columns(theory, moment)
                ]
    return found


def _one(table: xr.Dataset, theory: str, moment: str) -> np.ndarray:
    return theories.number(table, theory, moment)[:, None]
