"""What the pages of experiments are made of: presets, tested claims and figures.

    get_config = presets(dict(name="K1", ...), smoke=dict(...), paper=dict(...))

    def claims(results):
        risk = results.sel(arm="network").population_risk
        return [
            tested("K1a", "1b", "the test loss rises, then falls",
                every("peak / start", rise(risk), ">", 1.02),
                every("end / peak", left(risk), "<=", 0.25)),
        ]

    def figure(results):
        return grid(results, "arm", "{}", plot.losses)

Results have named axes: (arm, output_scale, seed, step), say. A time that a run never
came to is NaN, and so is a curve from where its run has stopped.
"""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from grok_jax import claims, measures, plot
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.plot import words

Drawer = Callable[[Axes, xr.Dataset], None]
"""Draws runs on an axis, as the functions of `plot` do."""
MOST = 12
"""Panels of a figure, and values that a claim lists."""


def presets(
    base: Mapping[str, Any],
    *,
    smoke: Mapping[str, Any],
    cpu: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any],
    **more: Mapping[str, Any],
) -> Callable[..., ConfigDict]:
    """A page's `get_config(preset="cpu")`: `base` with the settings of a preset on top;
    a preset that there is not is a SettingError that names those there are."""
    layers = {"smoke": smoke, "cpu": cpu or {}, "paper": paper, **more}

    def get_config(preset: str = "cpu") -> ConfigDict:
        return make_config(base, choose_preset(preset, **layers))

    return get_config


def along(
    dim: str, measure: Callable[..., Any], *curves: xr.DataArray, **options: Any
) -> Any:
    """What one of `measures` finds along the axis `dim`: measure(x, *curves, **options)
    with x the coordinates of the axis; every array of it has the curves' other axes.

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
    """Peak over start of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.value / peak.first


def left(curve: xr.DataArray) -> xr.DataArray:
    """End over peak of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.last / peak.value


def change(curve: xr.DataArray) -> xr.DataArray:
    """End over start of each run: [..., step] -> [...]."""
    peak = along("step", measures.peak, curve)
    return peak.last / peak.first


def last(curve: xr.DataArray) -> xr.DataArray:
    """The last finite value of each run, diverged or not: [..., step] -> [...]."""
    return along("step", measures.peak, curve).last


def at(curve: xr.DataArray, step: xr.DataArray) -> xr.DataArray:
    """The curve [..., step] at a recorded step [...] of each run; NaN for no step."""
    first = curve.step.values[0]
    found = curve.sel(step=step.fillna(first).astype(curve.step.dtype))
    return found.where(step.notnull()).drop_vars("step")


def share(results: xr.Dataset, *names: str) -> xr.Dataset:
    """The results with the named curves over what each run began with."""
    starts = {name: along("step", measures.peak, results[name]).first for name in names}
    return results.assign({name: results[name] / starts[name] for name in names})


def by_loss(results: xr.Dataset, test: str = "test_loss") -> xr.Dataset:
    """The results with the t_train and t_test of grokking in the loss, of which `test`
    is the test loss (`measures.grokking_times`)."""
    losses = (results.train_loss, results[test])
    t_train, t_test = along("step", measures.grokking_times, *losses)
    return results.assign(t_train=t_train, t_test=t_test)


def delay(results: xr.Dataset) -> xr.DataArray:
    """t_test - t_train of each run: infinite if it never generalised, NaN if it never
    fitted (`measures.delay`)."""
    t_train, t_test = xr.broadcast(results.t_train, results.t_test)
    return t_train.copy(data=np.asarray(measures.delay(t_train.values, t_test.values)))


def operations(results: xr.Dataset, steps: xr.DataArray) -> xr.DataArray:
    """Operations of so many `steps` of each run and of training its weak networks;
    needs `train.count_flops`."""
    weak = results.weak_flops_per_step * results.weak_steps_taken.isel(step=0)
    return steps * results.flops_per_step + weak.fillna(0)


def median(values: xr.DataArray) -> xr.DataArray:
    """The median over seeds; NaN where one of them is, which is not left out."""
    return values.median("seed", skipna=False)


class Check(NamedTuple):
    """What is expected of some values, and whether it is so."""

    expected: str
    of: str  # "every seed", or nothing for a single number
    measured: dict[str, Any]
    count: int  # of the values that were judged
    holds: bool


def tested(id: str, figure: str, statement: str, *checks: Check) -> claims.Claim:
    """The claim that all checks hold; what is expected and measured is theirs.

    >>> tested("K1", "1", "it rises", every("end", [1.0, 3.0], ">", 2)).expected
    'end > 2, every value'

    Raises:
      ValueError: nothing to judge, or two different things under one label.
    """
    measured: dict[str, Any] = {}
    for check in checks:
        for label, value in check.measured.items():
            if claims.format_value(
                measured.setdefault(label, value)
            ) != claims.format_value(value):
                raise ValueError(f"{id}: {label!r} stands for two different things.")
    judged = [check for check in checks if check.expected]
    if not judged or not all(check.count for check in judged):
        raise ValueError(f"{id} has nothing to judge: {statement}.")
    expected = (
        ", ".join(filter(None, [*(check.expected for check in some), of]))
        for of, some in groupby(judged, lambda check: check.of)
    )
    holds = all(check.holds for check in judged)
    return claims.Claim(id, figure, statement, "; ".join(expected), measured, holds)


Times = tuple[float, str, xr.DataArray]
"""A factor, and the label and the values of what it multiplies."""


def times(factor: float, label: str, values: xr.DataArray) -> Times:
    """As the bound of a check: so many times another quantity of the same run."""
    return factor, label, values


_RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": lambda value, bound: np.isfinite(value) & (value < bound),
    "<=": lambda value, bound: np.isfinite(value) & (value <= bound),
    ">": np.greater,
    ">=": np.greater_equal,
}


def every(label: str, values: Any, relation: str, bound: float | Times) -> Check:
    """That each value is <, <=, > or >= the bound, a number or `times` a quantity of
    the same run. NaN is none of these, and what is infinite is never below: a run that
    did not get there is no success.

    >>> run = xr.Dataset({"t_train": ("seed", [2.0, 3]), "t_test": ("seed", [9.0, 8])})
    >>> check = every("t_test", run.t_test, ">=", times(3, "t_train", run.t_train))
    >>> check.expected, check.of, check.holds
    ('t_test >= 3 x t_train', 'every seed', False)
    """
    return most(label, values, relation, bound, share=1)


def most(
    label: str, values: Any, relation: str, bound: float | Times, *, share: float
) -> Check:
    """As `every`, of at least this share of the values."""
    values, seen = _array(values), {}
    if isinstance(bound, tuple):
        factor, name, others = bound[0], bound[1], _array(bound[2])
        limit, seen = factor * others, _shown(name, others)
        said = name if factor == 1 else f"{factor:g} x {name}"
    else:
        real = np.issubdtype(values.dtype, np.floating)  # 0.95 in the values' precision
        limit = _array(np.asarray(bound, values.dtype if real else float))
        said = f"{bound:g}"
    with xr.set_options(arithmetic_join="exact"):
        met = _array(_RELATIONS[relation](values, limit))
    if met.size > max(values.size, limit.size):
        raise ValueError(f"{label} and {said} have different axes.")
    return Check(
        f"{label} {relation} {said}",
        _of(met.dims) if share == 1 else f"at least {share:.0%} of them",
        {**_shown(label, values), **seen},
        met.size,
        bool(met.sum() >= share * met.size),
    )


_ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "rises": np.greater,
    "falls": np.less,
    "never falls": np.greater_equal,
    "never rises": np.less_equal,
}


def ordered(label: str, values: xr.DataArray, dim: str, order: str) -> Check:
    """That the values rise, fall, never fall or never rise from each coordinate of the
    axis `dim` to the next, along every line of the other axes.

    >>> gap = xr.DataArray([1.0, 3.0, 2.0], {"output_scale": [1, 2, 4]}, "output_scale")
    >>> check = ordered("gap", gap, "output_scale", "rises")
    >>> check.expected, check.measured["gap, output scale 4"].item(), check.holds
    ('gap rises with output scale', 2.0, False)
    """
    lines = values.transpose(dim, ...)
    met = _ORDERS[order](lines.values[1:], lines.values[:-1])
    said, of = f"{label} {order} with {words(dim)}", _of(lines.dims[1:])
    return Check(said, of, _shown(label, values), met.size, bool(met.all()))


def power_law(
    label: str, values: xr.DataArray, dim: str, *, exponent: float, within: float
) -> Check:
    """That the values go as a power of the coordinates of `dim` (`measures.power_law`
    over all runs), and that none of them is missing."""
    x, y = xr.broadcast(values[dim], values)
    fit = measures.power_law(x.values, y.values)
    slope, margin, missing = float(fit.slope), float(fit.slope_margin), fit.censored
    said = f"slope of log {label} on log {words(dim)} = {exponent:g} +- {within:g}"
    seen = {"slope": slope, "95% margin": margin, "missing": int(missing)}
    holds = bool(abs(slope - exponent) <= within and missing == 0)
    return Check(f"{said}, none missing", "", seen, y.size, holds)


def shown(label: str, values: Any) -> Check:
    """No check: values to be seen beside what is tested."""
    return Check("", "", _shown(label, _array(values)), 0, True)


def _array(values: Any) -> xr.DataArray:
    named = isinstance(values, xr.DataArray)
    return values if named else xr.DataArray(np.asarray(values))


def _of(dims: tuple[Any, ...]) -> str:
    """The axes in words: "every arm and seed"."""
    names = " and ".join(map(words, dims))
    if names.startswith("dim "):  # xarray's names where there are none
        names = "value"
    return f"every {names}" if names else ""


def _shown(label: str, values: xr.DataArray) -> dict[str, Any]:
    """The values, an entry for each coordinate of an axis beside the seeds; the least
    and the largest where they are too many."""
    others = [dim for dim in values.dims if dim != "seed" and dim in values.coords]
    if len(others) == 1 and values.sizes[others[0]] <= MOST:
        lines = values.transpose(others[0], ...)
        return {f"{label}, {_place(line, others[0])}": line.values for line in lines}
    return {label: values.values if values.size <= MOST else claims.min_max(values)}


def _place(values: xr.DataArray, dim: Any) -> str:
    """Where on an axis the values lie: "output scale 0.5", or the name of an arm."""
    place = values[dim].item()
    return place if isinstance(place, str) else f"{words(dim)} {place:g}"


Panel = tuple[str, Drawer, xr.Dataset]
"""A title, a drawer and the runs that it draws."""


def panels(
    results: xr.Dataset, dim: str, title: str, draw: Drawer, most: int = 8
) -> list[Panel]:
    """A panel for each value of the axis `dim`, or for so many of them, evenly. `title`
    is a format of the value and of the other coordinates: "P = {}, D = {input_dim}"."""
    count = results.sizes[dim]
    places = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    out = []
    for runs in (results.isel({dim: place}) for place in places):
        scalars = {str(n): c.item() for n, c in runs.coords.items() if not c.ndim}
        out.append((title.format(runs[dim].item(), **scalars), draw, runs))
    return out


def sheet(*parts: Panel, columns: int | None = None) -> Figure:
    """The figure of some panels, in rows of four at most unless told otherwise.

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
    """The figure with a column for each value of the axis `dim` and a row for each
    drawer, titles as in `panels`; one drawer's go on in the next row after four."""
    first, *others = drawers
    top = panels(results, dim, title, first, MOST // len(drawers))
    below = [("", draw, runs) for draw in others for _, _, runs in top]
    return sheet(*top, *below, columns=len(top) if others else None)
