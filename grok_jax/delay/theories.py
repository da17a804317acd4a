"""What each theory predicts from: columns of numbers made from the table of runs.

A theory has one number that it stands for (`NUMBER`, with the sign that it gives it)
and all its numbers together (`columns`); both at step 0 ("start") and at t_train
("fitted"). Numbers over several decades enter as logarithms.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr

Column = Callable[[xr.Dataset, str], np.ndarray]
"""(table, moment) -> a number for each run [n]; NaN where there is none."""

LONGEST = 1e6
"""Predicted times above so many times t_train count as that: "never"."""


def target(table: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(times [n], seen [n]): t_test / t_train, at least 1, of each run that fitted, or
    horizon / t_train where it was not seen to generalise.

    Step 0 counts as step 1. Runs that never fitted must have been left out.
    """
    start = np.maximum(table.t_train.values, 1)
    seen = np.isfinite(table.t_test.values)
    end = np.where(seen, table.t_test.values, table.horizon.values)
    return np.maximum(end / start, 1), seen


def that_fitted(table: xr.Dataset) -> xr.Dataset:
    """The runs that fitted their train set, the only ones that are predicted."""
    return table.isel(run=np.isfinite(table.t_train.values))


def norm_ratio(table: xr.Dataset, moment: str) -> np.ndarray:
    """log(w / w_c)."""
    return np.log(table[f"{moment}_weight_norm"].values / table.critical_norm.values)


def decay(table: xr.Dataset) -> np.ndarray:
    """The share of the weights that decays in a step, learning rate x weight decay; a
    run without such a setting has no decay."""
    return table.learning_rate.values * np.nan_to_num(table.weight_decay.values)


def norm_time(table: xr.Dataset, moment: str) -> np.ndarray:
    """log(1 + T), T = ln(w / w_c) / (learning rate x weight decay), the steps in which
    the norm shrinks to w_c (Liu et al. 2023, Sec. 3), from t_train on over t_train;
    without decay it never does, and below w_c it has."""
    above = np.maximum(norm_ratio(table, moment), 0)
    rate = decay(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(above > 0, np.where(rate > 0, above / rate, np.inf), above)
    unit = np.maximum(table.t_train.values, 1) if moment == "fitted" else 1
    return np.log1p(np.minimum(steps / unit, LONGEST))


def _log_decay(table: xr.Dataset, moment: str) -> np.ndarray:
    rate = decay(table)
    return np.log(np.where(rate > 0, rate, 1e-8))


def _no_decay(table: xr.Dataset, moment: str) -> np.ndarray:
    return (decay(table) == 0).astype(float)


def _plain(name: str) -> Column:
    return lambda table, moment: table[f"{moment}_{name}"].values


def _log(name: str) -> Column:
    def column(table: xr.Dataset, moment: str) -> np.ndarray:
        return np.log(np.maximum(np.abs(_plain(name)(table, moment)), 1e-12))

    return column


def _setting(name: str, log: bool = False) -> Column:
    def column(table: xr.Dataset, moment: str) -> np.ndarray:
        values = table[name].values
        return np.log(values) if log else values

    return column


def _is(name: str, value: str) -> Column:
    return lambda table, moment: (table[name].values == value).astype(float)


def _train_time(table: xr.Dataset, moment: str) -> np.ndarray:
    return np.log(np.maximum(table.t_train.values, 1))


def _sharpness(table: xr.Dataset, moment: str) -> np.ndarray:
    curvature = np.abs(table[f"{moment}_curvature"].values)
    return np.log(np.maximum(curvature * table.learning_rate.values, 1e-12))


SETTINGS: dict[str, Column] = {
    "log output scale": _setting("output_scale", log=True),
    "log init scale": _setting("init_scale", log=True),
    "log learning rate": _setting("learning_rate", log=True),
    "log decay per step": _log_decay,
    "no decay": _no_decay,
    "train fraction": _setting("train_fraction"),
    "log width": _setting("width", log=True),
    "layers": _setting("layers"),
    "log embedding": _setting("embedding", log=True),
    "log MLP width": _setting("mlp_width", log=True),
    "momentum": _is("method", "momentum"),
    "multiplication": _is("operation", "multiplication"),
}
NORM: dict[str, Column] = {
    "time to shrink": norm_time,
    "log of norm over critical": norm_ratio,
    "log decay per step": _log_decay,
    "no decay": _no_decay,
}
KERNEL: dict[str, Column] = {
    "alignment": _plain("kernel_alignment"),
    "left out": _plain("kernel_left_out"),
    "log laziness": _log("laziness"),
}
KERNEL_FITTED: dict[str, Column] = {
    "distance": _plain("kernel_distance"),
    "linear share": _plain("linear_share"),
    "speed": _plain("kernel_speed"),
}
EMBEDDING: dict[str, Column] = {
    "overlap": _plain("embedding_overlap"),
    "alignment": _plain("embedding_alignment"),
    "rank": _plain("embedding_rank"),
    "Fourier": _plain("embedding_fourier"),
}
LOSS: dict[str, Column] = {
    "log sharpness": _sharpness,
    "log gradient norm": _log("gradient_norm"),
}
LOSS_FITTED: dict[str, Column] = {"oscillation": _plain("oscillation")}

TRAIN_TIME: dict[str, Column] = {"train time": _train_time}

THEORIES: dict[str, dict[str, dict[str, Column]]] = {
    "norm": {"start": NORM, "fitted": NORM},
    "kernel": {"start": KERNEL, "fitted": KERNEL | KERNEL_FITTED},
    "embedding": {"start": EMBEDDING, "fitted": EMBEDDING},
    "loss": {"start": LOSS, "fitted": LOSS | LOSS_FITTED},
    "settings": {"start": SETTINGS, "fitted": SETTINGS | TRAIN_TIME},
    "train time": {"start": {}, "fitted": TRAIN_TIME},
}
NUMBER: dict[str, tuple[str, int]] = {
    "norm": ("time to shrink", +1),
    "kernel": ("alignment", -1),
    "embedding": ("overlap", -1),
    "loss": ("log sharpness", -1),
}
"""theory -> the number it stands for, and whether more of it means later (+1)."""


ELSEWHERE = (
    "norm: time to shrink",
    "norm: log of norm over critical",
    "embedding: overlap",
    "embedding: Fourier",
)
"""What needs a landscape, a weak network or tokens."""


def columns(theory: str, moment: str) -> dict[str, Column]:
    """The columns of a theory. "theories" has those of all four; "together" the
    settings as well; "anywhere" those that any run has, on any task: not w_c nor a weak
    network."""
    if theory in THEORIES:
        return THEORIES[theory][moment]
    names = [*NUMBER, *([] if theory == "theories" else ["settings"])]
    every = {
        f"{name}: {column}": make
        for name in names
        for column, make in THEORIES[name][moment].items()
    }
    if theory != "anywhere":
        return every
    return {name: make for name, make in every.items() if name not in ELSEWHERE}


def matrix(table: xr.Dataset, theory: str, moment: str) -> np.ndarray:
    """The numbers of a theory [n, k]; NaN where a run has none."""
    made = [make(table, moment) for make in columns(theory, moment).values()]
    return np.stack([np.asarray(column, float) for column in made], axis=1)


def number(table: xr.Dataset, theory: str, moment: str) -> np.ndarray:
    """The one number of a theory [n], with the sign by which more means later."""
    name, sign = NUMBER[theory]
    return sign * columns(theory, moment)[name](table, moment)
