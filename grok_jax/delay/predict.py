"""When will a run of one's own generalise: quantiles of t_test at the step at which it
has fitted its train set, from the runs of the tournament.

    results = grok_jax.run(page)  # with observe=dict(evidence=dict(name=evidence))
    predict(results)

How far such a prediction is right is in the documentation ("Which theory predicts the
delay"): it was tested on tasks that were left out.
"""

import numpy as np
import xarray as xr

from grok_jax.delay import judges, table, theories

COLUMNS = "anywhere"
"""What is known of a run on any task (`theories.columns`)."""
INSIDE = (0.005, 0.995)
"""Numbers outside these quantiles of the table's are extrapolated."""
MODEL = "Cox"


def predict(results: xr.Dataset, known: xr.Dataset) -> xr.Dataset:
    """For each run [run] of a sweep that observed `evidence`: `t_train`; `t_test`
    [run, quantile], the steps by which it will have generalised with these chances,
    infinite where the table's runs did not get so far; `outside`, the number of its
    statistics and settings that lie outside those of the table; and `strange`, their
    names. NaN for a run that has not fitted its train set.

    Args:
      results: of a finished run, or of one that goes on.
      known: the table of runs.

    Raises:
      SettingError: the results lack a statistic.
    """
    rows = table.rows(results, "", None)
    return of_rows(rows, known)


def of_rows(rows: xr.Dataset, known: xr.Dataset) -> xr.Dataset:
    """The same for rows of a table."""
    known = theories.fitted(known)
    x, new = (theories.matrix(_whole(t), COLUMNS, "fitted") for t in (known, rows))
    model = judges.fit(MODEL, x, *theories.target(known))
    fitted = np.isfinite(rows.t_train.values)
    start = np.where(fitted, np.maximum(rows.t_train.values, 1), np.nan)
    predicted = model(new)
    times = [predicted.quantile(level) * start for level in judges.QUANTILES]
    low, high = (np.nanquantile(x, q, axis=0) for q in INSIDE)
    beyond = ((new < low) | (new > high)) & fitted[:, None]
    names = np.array([*theories.columns(COLUMNS, "fitted")])
    return xr.Dataset(
        {
            "t_train": ("run", rows.t_train.values),
            "t_test": (("run", "quantile"), np.stack(times, axis=1)),
            "outside": ("run", beyond.sum(1)),
            "strange": ("run", [", ".join(names[row]) for row in beyond]),
        },
        {"quantile": list(judges.QUANTILES)},
    )


def _whole(rows: xr.Dataset) -> xr.Dataset:
    """The rows with every column that `theories` reads; NaN or "" where there is
    none."""
    blank = np.full(rows.sizes["run"], np.nan)
    words = np.full(rows.sizes["run"], "")
    missing = {
        name: ("run", words if name in ("method", "operation") else blank)
        for name in table.SETTINGS
        if name not in rows
    }
    return rows.assign(missing)
