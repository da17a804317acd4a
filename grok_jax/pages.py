"""Building blocks of experiment pages: presets, tested claims and figures.

    get_config = presets(dict(name="K1", ...), smoke=dict(...), paper=dict(...))

    def claims(results):
        risk = results.sel(arm="network").population_risk
        return [
            tested("K1a", "Fig. 1b", "the test loss rises, then falls",
                every("peak / start", rise(risk), ">", 1.02),
                every("end / peak", left(risk), "<=", 0.25)),
        ]

    def figure(results):
        return grid(results, "arm", "{}", plot.losses)

Results have named axes, for example (arm, output_scale, seed, step). A time that a run
never reached is NaN, and so is a curve after its run has stopped.
"""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from grok_jax import claims, measures, plot
from grok_jax.claims import OURS as OURS
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.settings import lookup, words

Drawer = Callable[[Axes, xr.Dataset], None]
"""(axes, runs) -> None: draws the runs, as the functions of `plot` do."""
MOST = 12
"""The most panels in a figure, and the most values that a claim lists."""


def presets(
    base: Mapping[str, Any],
    *,
    smoke: Mapping[str, Any],
    cpu: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any],
    **more: Mapping[str, Any],
) -> Callable[..., ConfigDict]:
    """A page's `get_config(preset="cpu")`: `base` updated with a preset's settings. An
    unknown preset raises a SettingError that names the known ones."""
    layers = {"smoke": smoke, "cpu": cpu or {}, "paper": paper, **more}

    def get_config(preset: str = "cpu") -> ConfigDict:
        return make_config(base, choose_preset(preset, **layers))

    return get_config


def along(
    dim: str, measure: Callable[..., Any], *curves: xr.DataArray, **options: Any
) -> Any:
    """Applies a function of `measures` along the axis `dim`: measure(x, *curves,
    **options) with x the coordinates of `dim`; its arrays keep the curves' other axes.

    >>> loss = xr.DataArray([3.0, 1.0, 2.0], {"step": [0, 10, 20]}, "step")
    >>> along("step", measures.first_step_falling, loss, threshold=1.5).item()
    10.0
    """
    lines = [curve.transpose(..., dim) for curve in xr.broadcast(*curves)]
    like = lines[0].isel({dim: 0}, drop=True)

    def named(values: Any) -> xr.DataArray:
        return like.copy(data=np.asarray(values))

    found = measure(lines[0][dim].values, *(line.values for line in lines), **options)
    if isinstance(found, tuple):
        return getattr(found, "_make", tuple)(named(values) for values in found)
    return named(found)


def rise(curve: xr.DataArray) -> xr.DataArray:
    """Peak divided by start of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.value / peak.first


def left(curve: xr.DataArray) -> xr.DataArray:
    """End divided by peak of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.last / peak.value


def change(curve: xr.DataArray) -> xr.DataArray:
    """End divided by start of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.last / peak.first


def last(curve: xr.DataArray) -> xr.DataArray:
    """The last finite value of each run, diverged or not: [..., step] -> [...]."""
    return along("step", measures.peak, curve).last


def at(curve: xr.DataArray, step: xr.DataArray) -> xr.DataArray:
    """The curve [..., step] at a recorded step [...] of each run; NaN for step NaN."""
    first = curve.step.values[0]
    found = curve.sel(step=step.fillna(first).astype(curve.step.dtype))
    return found.where(step.notnull()).drop_vars("step")


def share(results: xr.Dataset, *names: str) -> xr.Dataset:
    """The results with the named curves divided by each run's initial value."""
    starts = {name: along("step", measures.peak, results[name]).first for name in names}
    return results.assign({name: results[name] / starts[name] for name in names})


def by_loss(results: xr.Dataset, test: str = "test_loss") -> xr.Dataset:
    """The results with t_train and t_test of grokking measured on the loss
    (`measures.grokking_times`); `test` names the test loss."""
    losses = (results.train_loss, results[test])
    t_train, t_test = along("step", measures.grokking_times, *losses)
    return results.assign(t_train=t_train, t_test=t_test)


def delay(results: xr.Dataset) -> xr.DataArray:
    """t_test - t_train of each run: infinite if it never generalised, NaN if it never
    fitted (`measures.delay`)."""
    t_train, t_test = xr.broadcast(results.t_train, results.t_test)
    gap = measures.delay(t_train.values, t_test.values)
    return t_train.copy(data=np.asarray(gap)).rename("delay")


def late(times: xr.DataArray) -> xr.DataArray:
    """The times with infinity for a run that never got there: later than any other."""
    return times.fillna(np.inf)


def relative(times: xr.DataArray, to: xr.DataArray) -> xr.DataArray:
    """Times or delays as multiples of others of the same runs, both with NaN or
    infinity for never: 1 if neither came, infinite if only `times` never did or there
    is nothing to compare with (`to` is not positive), 0 if only `to` never did.

    >>> times, to = (5, np.nan, 5, np.nan), (50, 50, np.inf, np.nan)
    >>> relative(xr.DataArray([*times]), xr.DataArray([*to])).values.tolist()
    [0.1, inf, 0.0, 1.0]
    """
    own, other = late(times), late(to)
    ratio = (own / other.where(other > 0)).fillna(np.inf)
    return ratio.where(np.isfinite(own) | np.isfinite(other), 1.0)


def slopes(values: xr.DataArray, dim: str) -> xr.DataArray:
    """The slope of log values on log `dim`, by least squares over the coordinates where
    a run's value is known: [dim, ...] -> [...]; NaN where fewer than two are."""

    def slope(line: np.ndarray, x: np.ndarray) -> float:
        return float(measures.power_law(x, line).slope)

    return along(dim, lambda x, y: np.apply_along_axis(slope, -1, y, x), values)


def operations(results: xr.Dataset, steps: xr.DataArray) -> xr.DataArray:
    """FLOPs of `steps` steps of each run, including the training of its weak network;
    needs `train.count_flops`."""
    weak = results.weak_flops_per_step * results.weak_steps_taken.isel(step=0)
    return steps * results.flops_per_step + weak.fillna(0)


def median(values: xr.DataArray) -> xr.DataArray:
    """The median over seeds; NaN where any seed is NaN."""
    return values.median("seed", skipna=False)


def places(times: xr.DataArray) -> xr.DataArray:
    """The place of each setting of a search, 1 for the best: by the share of its seeds
    that got there, then by the median of the times of those; settings that are alike
    share a place, and NaN and infinity are never.

    >>> times = [[30.0, 30.0], [5.0, np.inf], [20.0, 10.0], [np.inf, np.inf]]
    >>> places(xr.DataArray(times, dims=("rate", "seed"))).values.tolist()
    [2, 3, 1, 4]
    """
    came = times.where(np.isfinite(times))
    missed = came.isnull().mean("seed")
    middle = late(came.median("seed"))
    pairs = np.stack([missed.values.ravel(), middle.values.ravel()], axis=-1)
    _, of = np.unique(pairs, axis=0, return_inverse=True)  # in lexicographic order
    above = np.cumsum([0, *np.bincount(of.ravel())])
    return missed.copy(data=(1 + above[of]).reshape(missed.shape))


class Check(NamedTuple):
    """A condition on some values, and whether it holds."""

    expected: str
    of: str  # "every seed", or empty for a single number
    measured: dict[str, Any]
    count: int  # number of values tested
    holds: bool


def tested(
    id: str, place: str, statement: str, *checks: Check, less: str = ""
) -> claims.Claim:
    """The claim that all checks hold, with what they expect and have measured.

    >>> end = every("end", [1.0, 3.0], ">", 2)
    >>> tested("K1", "Sec. 2, Fig. 1b", "it rises", end).expected
    'end > 2, every value'

    Args:
      place: where it stands in the page's paper, or `OURS`.
      statement: what stands there, in our words.
      less: what it says and the checks leave out.

    Raises:
      ValueError: nothing is tested, or one label has two different values.
    """
    measured: dict[str, Any] = {}
    for check in checks:
        for label, value in check.measured.items():
            if claims.format_value(
                measured.setdefault(label, value)
            ) != claims.format_value(value):
                raise ValueError(f"{id}: {label!r} labels two different values.")
    conditions = [check for check in checks if check.expected]
    if not conditions or not all(check.count for check in conditions):
        raise ValueError(f"{id} tests nothing: {statement}.")
    expected = (
        ", ".join(filter(None, [*(check.expected for check in group), of]))
        for of, group in groupby(conditions, lambda check: check.of)
    )
    holds = all(check.holds for check in conditions)
    expects = "; ".join(expected)
    return claims.Claim(id, place, statement, expects, measured, holds, less)


Times = tuple[float, str, xr.DataArray]
"""(factor, label, values): a quantity that is multiplied by the factor."""


def times(factor: float, label: str, values: xr.DataArray) -> Times:
    """The bound of a check that is `factor` times another quantity of the same run."""
    return factor, label, values


_RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": lambda value, bound: np.isfinite(value) & (value < bound),
    "<=": lambda value, bound: np.isfinite(value) & (value <= bound),
    ">": np.greater,
    ">=": np.greater_equal,
}


def every(label: str, values: Any, relation: str, bound: float | Times) -> Check:
    """The check that every value is <, <=, > or >= the bound: a number, or `times` a
    quantity of the same run. NaN always fails and infinity is never below the bound: a
    run that never got there is not a success.

    >>> run = xr.Dataset({"t_train": ("seed", [2.0, 3]), "t_test": ("seed", [9.0, 8])})
    >>> check = every("t_test", run.t_test, ">=", times(3, "t_train", run.t_train))
    >>> check.expected, check.of, check.holds
    ('t_test >= 3 x t_train', 'every seed', False)
    """
    return most(label, values, relation, bound, share=1)


def most(
    label: str, values: Any, relation: str, bound: float | Times, *, share: float
) -> Check:
    """As `every`, for at least this share of the values."""
    values, bound_shown = _array(values), {}
    if isinstance(bound, tuple):
        factor, name, quantity = bound[0], bound[1], _array(bound[2])
        limit, bound_shown = factor * quantity, _shown(name, quantity)
        bound_text = name if factor == 1 else f"{factor:g} x {name}"
    else:
        real = np.issubdtype(values.dtype, np.floating)  # 0.95 in the values' precision
        limit = _array(np.asarray(bound, values.dtype if real else float))
        bound_text = f"{bound:g}"
    with xr.set_options(arithmetic_join="exact"):
        met = _array(_RELATIONS[relation](values, limit))
    if met.size > max(values.size, limit.size):
        raise ValueError(f"{label} and {bound_text} have different axes.")
    return Check(
        f"{label} {relation} {bound_text}",
        _of(met.dims) if share == 1 else f"at least {share:.0%} of them",
        {**_shown(label, values), **bound_shown},
        met.size,
        bool(met.sum() >= share * met.size),
    )


def typical(label: str, values: Any, relation: str, bound: float) -> Check:
    """The check of the median over all seeds, with an interval of the median: between
    order statistics that hold it with 95%, or all values if there are fewer than six.
    Give censored times as `late`, whose infinity is shown as "never". NaN is unknown:
    the check must hold whatever value it stands for.

    >>> check = typical("slope", [-1.2, -1.0, -0.9], "<", -0.8)
    >>> check.expected, check.measured, check.holds
    ('median slope < -0.8', {'slope': 'median -1 (-1.2 to -0.9 of 3)'}, True)
    >>> typical("delay", [3.0, np.inf, np.inf], ">", 1.0).measured
    {'delay': 'median never (3 to never of 3)'}
    >>> check = typical("slope", [-1.2, np.nan, -0.9], "<", -0.8)
    >>> check.measured, check.holds
    ({'slope': 'median -1.2 to -0.9 (-1.2 to -0.9 of 3, 1 unknown)'}, True)
    """
    values = np.asarray(_array(values), float).ravel()
    holds = all(_RELATIONS[relation](end, bound) for end in _medians(values))
    measured = {label: f"median {_interval(values)}"}
    return Check(
        f"median {label} {relation} {bound:g}", "", measured, len(values), holds
    )


def typically(
    check: Callable[..., Check], label: str, values: xr.DataArray, *more: Any
) -> Check:
    """`check(label, values, *more)` of the medians over seeds, each shown with its
    interval as by `typical`; a median is NaN where any of its seeds is.

    >>> gap = [[1.0, 2.0, 3.0], [2.0, 3.0, 9.0]]
    >>> gap = xr.DataArray(gap, {"output_scale": [1, 2]}, ("output_scale", "seed"))
    >>> check = typically(ordered, "gap", gap, "output_scale", "rises")
    >>> check.expected, check.measured["median gap, output scale 2"].item(), check.holds
    ('median gap rises with output scale', '3 (2 to 9 of 3)', True)
    """
    label, middle = f"median {label}", median(values)
    made = check(label, middle, *more)
    if middle.size > MOST:
        return made
    texts = xr.apply_ufunc(
        *(_interval, values),
        input_core_dims=[["seed"]],
        vectorize=True,
        output_dtypes=[object],
    )
    return made._replace(measured={**made.measured, **_shown(label, texts)})


def _medians(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest that the median can be, whatever NaN stands for."""

    def median_with(unknown: float) -> float:
        runs = np.sort(np.where(np.isnan(values), unknown, values))
        low, high = runs[(len(runs) - 1) // 2], runs[len(runs) // 2]
        return low if low == -np.inf else (low + high) / 2

    return median_with(-np.inf), median_with(np.inf)


def _interval(values: np.ndarray) -> str:
    """The median of some runs and its interval, in words: "3 (2 to 9 of 3)"."""

    def text(*ends: float) -> str:
        return " to ".join(
            "never" if end == np.inf else claims.format_value(end) for end in ends
        )

    known, count = np.sort(values[~np.isnan(values)]), len(values)
    unknown = count - len(known)
    least, largest = _medians(values)
    if least == -np.inf:
        return f"unknown (of {count}, {unknown} unknown)"
    middle = text(least) if least == largest else text(least, largest)
    out = max(int(scipy.stats.binom.ppf(0.025, count, 0.5)) - 1, 0) if count > 5 else 0
    out = max(out - unknown, 0)
    ends = text(known[out], known[-1 - out])
    return f"{middle} ({ends} of {count}{f', {unknown} unknown' if unknown else ''})"


_ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "rises": np.greater,
    "falls": np.less,
    "never falls": np.greater_equal,
    "never rises": np.less_equal,
}


def ordered(label: str, values: xr.DataArray, dim: str, order: str) -> Check:
    """The check that the values rise, fall, never fall or never rise from each
    coordinate of the axis `dim` to the next, for every point of the other axes.

    >>> gap = xr.DataArray([1.0, 3.0, 2.0], {"output_scale": [1, 2, 4]}, "output_scale")
    >>> check = ordered("gap", gap, "output_scale", "rises")
    >>> check.expected, check.measured["gap, output scale 4"].item(), check.holds
    ('gap rises with output scale', 2.0, False)
    """
    lines = values.transpose(dim, ...)
    met = lookup(_ORDERS, order, "order")(lines.values[1:], lines.values[:-1])
    expected, of = f"{label} {order} with {words(dim)}", _of(lines.dims[1:])
    return Check(expected, of, _shown(label, values), met.size, bool(met.all()))


def power_law(
    label: str, values: xr.DataArray, dim: str, *, exponent: float, within: float
) -> Check:
    """The check that the values follow a power law in the coordinate `dim`
    (`measures.power_law` over all runs), and that none of them is missing."""
    x, y = xr.broadcast(values[dim], values)
    fit = measures.power_law(x.values, y.values)
    slope, margin, missing = float(fit.slope), float(fit.slope_margin), fit.censored
    law = f"slope of log {label} on log {words(dim)} = {exponent:g} +- {within:g}"
    measured = {"slope": slope, "95% margin": margin, "missing": int(missing)}
    holds = bool(abs(slope - exponent) <= within and missing == 0)
    return Check(f"{law}, none missing", "", measured, y.size, holds)


def among_the_best(
    id: str, what: str, times: xr.DataArray, used: Mapping[str, float]
) -> claims.Claim:
    """The claim, ours, that the setting that other pages use is among the best quarter
    of those searched (`places`), and that most of its seeds get there; with the best
    setting. `times` has a dimension for each setting, and seeds."""
    place, came = places(times), late(times) < np.inf
    best = place[place.argmin(...)]
    at = {name: best[name].item() for name in used}
    values = ", ".join(f"{words(name)} {value:g}" for name, value in at.items())
    middle = late(times.sel(at)).median("seed").item()
    return tested(
        *(id, OURS, f"{what}: the setting used is among the best quarter searched"),
        every("place of the one used", place.sel(used), "<=", place.size / 4),
        every("share of its seeds that get there", came.sel(used).mean(), ">", 0.5),
        shown("searched", place.size),
        shown("best", f"{middle:,.4g} with {values}"),
        shown("the one used", late(times.sel(used)).median("seed")),
    )


def shown(label: str, values: Any) -> Check:
    """Values listed beside those that are tested; nothing is expected of them."""
    return Check("", "", _shown(label, _array(values)), 0, True)


def _array(values: Any) -> xr.DataArray:
    named = isinstance(values, xr.DataArray)
    return values if named else xr.DataArray(np.asarray(values))


def _of(dims: tuple[Any, ...]) -> str:
    """The axes in words: "every arm and seed"."""
    names = " and ".join(map(words, dims))
    if names.startswith("dim "):  # xarray's default names
        names = "value"
    return f"every {names}" if names else ""


def _shown(label: str, values: xr.DataArray) -> dict[str, Any]:
    """The values by label: one entry per coordinate if there is one axis beside the
    seeds, or else one; only the minimum and maximum if there are more than `MOST`."""
    others = [dim for dim in values.dims if dim != "seed" and dim in values.coords]
    if len(others) == 1 and values.sizes[others[0]] <= MOST:
        lines = values.transpose(others[0], ...)
        return {f"{label}, {_place(line, others[0])}": line.values for line in lines}
    return {label: values.values if values.size <= MOST else claims.min_max(values)}


def _place(values: xr.DataArray, dim: Any) -> str:
    """The coordinate of the values in words: "output scale 0.5", or an arm's name."""
    place = values[dim].item()
    return place if isinstance(place, str) else f"{words(dim)} {place:g}"


Panel = tuple[str, Drawer, xr.Dataset]
"""(title, drawer, the runs that it draws)."""


def panels(
    results: xr.Dataset, dim: str, title: str, draw: Drawer, most: int = 8
) -> list[Panel]:
    """A panel for each value of the axis `dim`, or for `most` evenly spaced ones.
    `title` formats the value and other coordinates: "P = {}, D = {input_dim}"."""
    count = results.sizes[dim]
    places = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    out = []
    for runs in (results.isel({dim: place}) for place in places):
        scalars = {str(n): c.item() for n, c in runs.coords.items() if not c.ndim}
        out.append((title.format(runs[dim].item(), **scalars), draw, runs))
    return out


def sheet(*parts: Panel, columns: int | None = None) -> Figure:
    """A figure of the panels, in rows of at most four unless `columns` is given.

    Raises:
      ValueError: more than 12 panels.
    """
    if len(parts) > MOST:
        raise ValueError(f"{len(parts)} panels are more than {MOST}.")
    rows = -(-len(parts) // (columns or 4))
    columns = columns or -(-len(parts) // rows)
    figure, axes = plot.panels(rows, columns)
    with plot.house_style():
        for axis, (title, draw, runs) in zip(axes.flat, parts, strict=False):
            draw(axis, runs)
            if title:
                axis.set_title(title)
    for axis in axes.flat[len(parts) :]:
        axis.remove()
    return figure


def grid(results: xr.Dataset, dim: str, title: str, *drawers: Drawer) -> Figure:
    """A figure with a column for each value of the axis `dim` and a row for each
    drawer, titled as in `panels`; the panels of a single drawer, and those of more than
    four values, wrap after four and are all titled."""
    first, *others = drawers
    top = panels(results, dim, title, first, MOST // len(drawers))
    rows = others and len(top) <= 4
    below = [("" if rows else t, draw, runs) for draw in others for t, _, runs in top]
    return sheet(*top, *below, columns=len(top) if rows else None)
