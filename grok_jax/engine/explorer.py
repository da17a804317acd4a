"""The interactive page of one finished sweep: its runs as a map or a line, the curves
of the runs at a place of it, and the claims.

    results.nc -> explore -> page -> one HTML file that needs nothing beside itself

The page is plain SVG and JavaScript (explorer.html, .css, .js): no library, so that it
weighs little more than its data, which are at most `MOST` numbers.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from grok_jax import claims as claims_lib
from grok_jax.settings import words

MOST = 1_100_000
"""Numbers in a page: even of noise they take less than 5 MB."""
FEWEST = 12
"""Records of a curve that is worth drawing; with room for fewer it is left out."""
EXACT, DRAWN = 7, 4
"""Significant digits of a quantity of a run, and of a point of a curve."""

_TIMES = ("t_test", "t_train", "diverged_at", "stop_met_at")  # NaN is never
_FIRST = ("loss", "accuracy", "population_risk")


class Curve(NamedTuple):
    """A variable with a value for each run and record."""

    name: str
    panel: str  # curves of one panel are drawn over each other
    split: str  # "train", "test" or ""
    values: xr.DataArray  # [runs..., step], at the records that it has


def explore(
    results: xr.Dataset,
    *,
    claims: Sequence[Mapping[str, Any]] = (),
    most: int = MOST,
    **about: Any,
) -> dict[str, Any]:
    """What the page shows of a sweep, as JSON: axes, quantities (a number for each run,
    axes in row-major order), curves (a number for each run and record) and claims. NaN
    is None, and infinities are "inf" and "-inf".

    Where there are more numbers than `most`, curves have fewer records, evenly thinned,
    and then the last of the curves are left out, as are quantities for which half the
    room is too little; `left_out` says so.

    Args:
      claims: as in claims.json.
      about: what else the page says: name, description, facts, ...
    """
    dims = results["t_test"].dims
    runs = results["t_test"].size
    curves, quantities, left_out = _curves(results), [], []
    for quantity in _quantities(results, curves):
        if (len(quantities) + 1) * runs > most // 2:
            left_out.append(f"{quantity['label']} (no room)")
            continue
        values = quantity["values"].broadcast_like(results["t_test"])
        flat = values.transpose(*dims).values.ravel()
        quantities.append({**quantity, "values": _plain(flat, EXACT)})
    room = most - len(quantities) * runs
    while curves and room < runs * sum(min(FEWEST, c.values.step.size) for c in curves):
        left_out.append(f"curves of {words(curves.pop().name)} (no room)")
    records = max((c.values.step.size for c in curves), default=0)
    shown = min(records, room // max(runs * len(curves), 1))
    if shown < records:
        left_out.append(f"{records - shown} of {records} records of the curves")
    left_out += [
        f"{words(name)} (several numbers for each run or record)"
        for name, variable in results.data_vars.items()
        if set(variable.dims) - {*dims, "step"}
    ]
    return {
        **about,
        "axes": [_axis(results, str(dim)) for dim in dims],
        "quantities": quantities,
        "curves": [_drawn(curve, results["t_test"], shown) for curve in curves],
        "claims": [_claim(claim) for claim in claims],
        "left_out": left_out,
    }


def page(explored: Mapping[str, Any]) -> str:
    """The HTML page of what `explore` returns, without any reference to the outside."""
    files = resources.files("grok_jax.engine")
    text = {
        kind: (files / f"explorer.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    }
    plain = json.dumps(explored, separators=(",", ":"), allow_nan=False).encode()
    packed = base64.b64encode(gzip.compress(plain, mtime=0)).decode()
    return Template(text["html"]).substitute(
        title=escape(str(explored.get("name", "")) or "runs"),
        style=text["css"],
        script=text["js"],
        data=packed,
    )


def _axis(results: xr.Dataset, dim: str) -> dict[str, Any]:
    """A swept axis: its values if they are numbers, and what to call each of them."""
    values = results[dim].values
    together = [
        str(name) for name, c in results.coords.items() if c.dims == (dim,) != (name,)
    ]

    def label(place: int) -> str:
        others = [f"{words(n)} {_name(results[n].values[place])}" for n in together]
        return ", ".join([_name(values[place]), *others])

    return {
        "name": dim,
        "label": words(dim),
        "values": values.tolist() if values.dtype.kind in "fiu" else None,
        "labels": [label(place) for place in range(len(values))],
    }


def _name(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)


def _curves(results: xr.Dataset) -> list[Curve]:
    """The recorded curves, losses and accuracies first; those never recorded not."""
    dims = {*results["t_test"].dims, "step"}
    found = []
    for name, variable in results.data_vars.items():
        if "step" not in variable.dims or set(variable.dims) - dims:
            continue
        recorded = variable.astype(float).dropna("step", how="all")
        if recorded.step.size:
            found.append(Curve(str(name), *_panel(str(name)), recorded))
    return sorted(found, key=lambda c: (_rank(c.panel), c.panel, c.split != "train"))


def _panel(name: str) -> tuple[str, str]:
    """(panel, split) of a curve.

    >>> _panel("train_loss"), _panel("cka_centered_test"), _panel("weight_norm")
    (('loss', 'train'), ('cka_centered', 'test'), ('weight_norm', ''))
    """
    parts = name.split("_")
    split = next((part for part in parts if part in ("train", "test")), "")
    return "_".join(part for part in parts if part != split) or name, split


def _rank(panel: str) -> int:
    return _FIRST.index(panel) if panel in _FIRST else len(_FIRST)


def _quantities(
    results: xr.Dataset, curves: Sequence[Curve]
) -> Iterable[dict[str, Any]]:
    """What a run is coloured by, most wanted first."""
    t_train, t_test = (results[name].astype(float) for name in ("t_train", "t_test"))
    # as `measures.delay`, without JAX: a report must not take a device from a sweep
    delay = t_test.fillna(np.inf) - t_train
    yield _quantity("delay", "delay (t test - t train)", "times", delay)
    for name in _TIMES[:2]:
        yield _quantity(name, words(name), "times", results[name].astype(float))
    for curve in curves:
        known = curve.values.where(np.isfinite(curve.values))
        end = known.step.where(known.notnull()).max("step")
        last = known.where(known.step == end).max("step")
        yield _quantity(f"last {curve.name}", words(curve.name), "last value", last)
    for name, variable in results.data_vars.items():
        number = variable.dtype.kind in "fiub" and {*variable.dims} <= {*t_test.dims}
        if number and name not in _TIMES[:2]:
            group = "times" if name in _TIMES else "other"
            yield _quantity(str(name), words(name), group, variable.astype(float))
    for group in ("least", "largest"):
        for curve in curves:
            known = curve.values.where(np.isfinite(curve.values))
            value = known.min("step") if group == "least" else known.max("step")
            name = f"{group} {curve.name}"
            yield _quantity(name, words(curve.name), f"{group} value", value)


def _quantity(name: str, label: str, group: str, values: xr.DataArray):
    return {"name": name, "label": label, "group": group, "values": values}


def _drawn(curve: Curve, like: xr.DataArray, most: int) -> dict[str, Any]:
    """A curve as JSON, at `most` of its records, the first and the last among them."""
    steps = curve.values.step.size
    kept = np.linspace(0, steps - 1, min(steps, most)).round().astype(int)
    values = curve.values.isel(step=kept)
    whole = values.broadcast_like(like).transpose(*like.dims, "step")
    return {
        "name": curve.name,
        "label": words(curve.name),
        "panel": words(curve.panel),
        "split": curve.split,
        "steps": values.step.values.tolist(),
        "values": _plain(whole.values.ravel(), DRAWN),
    }


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    """A claim in words."""
    kept = ("id", "place", "statement", "expected", "holds", "less")
    return {
        **{name: claim[name] for name in kept},
        "measured": claims_lib.lines_of(claim["measured"]),
    }


def _plain(values: np.ndarray, digits: int) -> list[Any]:
    """Numbers of so many significant digits.

    >>> _plain(np.array([0.123456, 43241.0, np.nan, -np.inf]), 4)
    [0.1235, 43240, None, '-inf']
    """

    def plain(value: float) -> Any:
        if not math.isfinite(value):
            return None if value != value else str(value)
        rounded = float(f"{value:.{digits}g}")
        return int(rounded) if rounded.is_integer() else rounded

    return [plain(value) for value in values.tolist()]
