"""The account of the tournament: its figures, and its numbers as tables and words.

    figures(runs, totals)       name -> figure; `python -m grok_jax.delay --draw=TOTALS`
    said(name, totals)          what stands in the documentation under this name

`totals` is the JSON that `python -m grok_jax.delay --totals` prints.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax.delay import contest, judges, theories, verdict
from grok_jax.delay.judges import REGION, TASK
from grok_jax.pages import sheet
from grok_jax.report import markdown_table

Totals = Mapping[str, Any]
Row = Mapping[str, Any]

THEORIES = (*theories.NUMBER, "theories", "settings", "together", "train time")
DECIDES = dict(model=verdict.MODEL, moment=verdict.MOMENT)


def rows(totals: Totals, **wanted: str) -> list[Row]:
    """The verdicts whose entries are as wanted."""
    return [
        row
        for row in totals["judged"]
        if all(row[key] == value for key, value in wanted.items())
    ]


def of_theory(totals: Totals, theory: str, **wanted: str) -> list[Row]:
    """Its verdicts by the model that decides, or as wanted; the floor has one model."""
    if theory == "floor":
        return rows(totals, theory=theory)
    return rows(totals, theory=theory, **{**DECIDES, **wanted})


def left_out(found: Sequence[Row], begins: str = TASK) -> list[Row]:
    """The verdicts on tasks (or regions) that were left out."""
    return [row for row in found if row["left_out"].startswith(begins)]


def mean(found: Sequence[Row], what: str, begins: str = TASK) -> float:
    """The mean of a number over the tasks (or regions) that were left out in turn."""
    return float(np.mean([row[what] for row in left_out(found, begins)]))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _mean(values: Sequence[float | None]) -> float:
    """The mean of those that are known."""
    known = [each for each in map(_number, values) if np.isfinite(each)]
    return float(np.mean(known)) if known else np.nan


# --- figures --------------------------------------------------------------------------


def figures(runs: xr.Dataset, totals: Totals) -> dict[str, Figure]:
    """name -> figure, as the account shows them."""
    drawn = dict(runs=runs, totals=totals)
    return {
        "runs": _sheet(drawn, ("how the runs end", _ends), ("their delays", _delays)),
        "theories": _sheet(
            drawn,
            ("a task left out", partial(_concordances, begins=TASK)),
            ("a region of settings left out", partial(_concordances, begins=REGION)),
        ),
        "tasks": _sheet(drawn, ("concordance, all numbers at t_train", _heat)),
        "times": _sheet(
            drawn,
            ("all theories and settings", partial(_times, theory="together")),
            ("shares before the quantiles", _calibration),
        ),
    }


def _sheet(drawn: Any, *parts: tuple[str, Callable]) -> Figure:
    return sheet(*((title, draw, drawn) for title, draw in parts))


def _ends(axis: Axes, drawn: Any) -> None:
    """The shares of the ways to end, task by task."""
    runs = drawn["runs"]
    tasks = list(dict.fromkeys(runs.task.values.tolist()))
    before = np.zeros(len(tasks))
    ends = [contest.ends(runs.isel(run=runs.task.values == task)) for task in tasks]
    for way, (_, color) in contest.MARKS.items():
        part = [float(each[way].mean()) for each in ends]
        axis.barh(tasks, part, left=before, color=color, label=way)
        before += part
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of the runs")
    axis.legend(fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _delays(axis: Axes, drawn: Any) -> None:
    """The share of the runs that fitted and have generalised by t_test / t_train, by
    Kaplan-Meier."""
    from sksurv.nonparametric import kaplan_meier_estimator

    runs = theories.that_fitted(drawn["runs"])
    for task in dict.fromkeys(runs.task.values.tolist()):
        times, seen = theories.target(runs.isel(run=runs.task.values == task))
        grid, survival = kaplan_meier_estimator(seen, times)[:2]
        axis.step(grid, 1 - survival, where="post", label=task)
    axis.axvline(contest.DELAYED, color="0.6", lw=0.8)
    axis.set_xscale("log")
    axis.set_ylim(0, 1)
    axis.set_xlabel("t_test / t_train")
    axis.set_ylabel("share that has generalised")
    axis.legend(fontsize=6)


def _concordances(axis: Axes, drawn: Any, begins: str) -> None:
    """Each theory's concordance, a point for each that was left out and the mean, at
    both moments."""
    names = [*THEORIES, "floor"]
    for place, name in enumerate(names):
        once = name in ("floor", "train time")
        moments = ("fitted",) if once else ("start", "fitted")
        for shift, moment in enumerate(moments):
            wanted = {} if name == "floor" else dict(moment=moment)
            found = left_out(of_theory(drawn["totals"], name, **wanted), begins)
            x = [row["concordance"] for row in found]
            y = np.full(len(x), place + 0.25 * (shift - 0.5))
            color = "0.5" if once else f"C{1 - shift}"
            axis.plot(x, y, ".", ms=3, color=color, alpha=0.6)
            label = {"start": "at step 0", "fitted": "at t_train"}[moment]
            axis.plot(
                np.mean(x), y[0], "d", ms=6, color=color, label=None if place else label
            )
    axis.axvline(0.5, color="0.6", lw=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("Uno's concordance (1/2: by chance)")
    axis.legend(fontsize=7)


def _heat(axis: Axes, drawn: Any) -> None:
    """The concordance of each theory, for each task and region that was left out."""
    names = (*THEORIES, "floor")
    table = [of_theory(drawn["totals"], name) for name in names]
    values = np.array([[row["concordance"] for row in line] for line in table])
    labels = [row["left_out"].partition(": ")[2] for row in table[0]]
    axis.imshow(values.T, vmin=0.2, vmax=1, cmap="RdYlBu", aspect="auto")
    for (y, x), value in np.ndenumerate(values.T):
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6)
    slanted: dict[str, Any] = dict(rotation=35, ha="right", rotation_mode="anchor")
    axis.set_xticks(range(len(names)), names, fontsize=7, **slanted)
    axis.set_yticks(range(len(labels)), labels, fontsize=7)
    axis.grid(False)


def predictions(
    runs: xr.Dataset, theory: str
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(task, the median that was predicted [n], the time [n], whether it was seen [n])
    of the runs that fitted, each task predicted from the others."""
    runs, found = theories.that_fitted(runs), []
    for label, inside in judges.splits(runs):
        if not label.startswith(TASK):
            continue
        known, new = runs.isel(run=~inside), runs.isel(run=inside)
        x, x_new = (theories.matrix(t, theory, verdict.MOMENT) for t in (known, new))
        model = judges.fit(verdict.MODEL, x, *theories.target(known))
        times, seen = theories.target(new)
        middle = model(x_new).quantile(0.5)
        found.append((label.removeprefix(TASK), middle, times, seen))
    return found


def _times(axis: Axes, drawn: Any, theory: str) -> None:
    """The time that was predicted for each run, its task left out, and that seen."""
    top = 0.0
    for place, (task, middle, times, seen) in enumerate(
        predictions(drawn["runs"], theory)
    ):
        longest = times.max()
        x = np.minimum(middle, longest)[seen]
        axis.plot(x, times[seen], ".", ms=2, alpha=0.5, color=f"C{place}", label=task)
        top = max(top, longest)
    axis.plot([1, top], [1, top], color="0.4", lw=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("predicted t_test / t_train (median)")
    axis.set_ylabel("seen")
    axis.legend(fontsize=6, markerscale=3, ncols=2, loc="upper right", framealpha=1)
    axis.set_ylim(top=30 * top)


def _calibration(axis: Axes, drawn: Any) -> None:
    """How many runs generalised before the predicted quantiles, over tasks left out."""
    names = (*THEORIES, "anywhere", "floor")
    for place, name in enumerate(names):
        found = left_out(of_theory(drawn["totals"], name))
        levels = [float(level) for level in found[0]["below"]]
        for number, level in enumerate(levels):
            shares = [_number(row["below"][str(level)]) for row in found]
            y, color = np.full(len(shares), place), f"C{number}"
            axis.plot(shares, y, ".", ms=3, color=color, alpha=0.6)
            axis.plot(_mean(shares), place, "d", ms=6, color=color)
    for place, level in enumerate(levels):
        axis.axvline(level, color=f"C{place}", lw=0.8, label=f"{level:.0%}")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of runs before the quantile")
    axis.legend(fontsize=6, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))


# --- words ----------------------------------------------------------------------------


def said(name: str, totals: Totals) -> str:
    """A table or a sentence of the account, as Markdown.

    Raises: KeyError for a name that there is none of.
    """
    return SAID[name](totals)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown_table(head, lines))


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def _said_runs(totals: Totals) -> str:
    ends = totals["ends"]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in ends.items())
    return f"{totals['runs']:,} runs. Of those that fit: {shares} (of all)."


def _said_cost(totals: Totals) -> str:
    shares = totals["cost"].values()
    return (
        "Both looks together take as long as "
        f"{min(shares):.0%} to {max(shares):.0%} of a run's steps, task by task."
    )


def _said_winner(totals: Totals) -> str:
    winner, beaten = totals["winner"], totals["beats_settings"]
    first = (
        "**No theory wins**: none beats the three others."
        if winner == "none"
        else f"**{winner.capitalize()} wins**: it beats the three others."
    )
    names = ", ".join(beaten) or "none"
    over = [n for n in theories.NUMBER if _beats(totals, n, "floor")]
    best = max(theories.NUMBER, key=lambda n: mean(of_theory(totals, n), "concordance"))
    gain = totals["differences"][f"theories - {best}"]
    shown = "the causes complement one another" if gain["low"] > 0 else "not shown"
    rest = [n for n in theories.NUMBER if _beats(totals, n, "train time")]
    calibrated = ", ".join(totals["calibrated"]) or "none"
    return (
        f"{first} More than the settings explain: {names}. More than the floor: "
        f"{', '.join(over) or 'none'}; more than t_train alone: "
        f"{', '.join(rest) or 'none'}. The four theories together against the best of "
        f"them ({best}): {_interval(gain)}, {shown}. Calibrated: {calibrated}."
    )


def _beats(totals: Totals, one: str, other: str) -> bool:
    return totals["differences"][f"{one} - {other}"]["low"] > 0


def _said_theories(totals: Totals) -> str:
    lines = []
    for name in (*THEORIES, "anywhere", "floor"):
        found = of_theory(totals, name)
        one = rows(totals, theory=name, model="monotone", moment=verdict.MOMENT)
        start = [] if name == "floor" else of_theory(totals, name, moment="start")
        trees = rows(totals, theory=name, model="boosted", moment=verdict.MOMENT)
        wrong = 10 ** mean(found, "error_log10")
        shares = [
            _mean([row["below"][level] for row in left_out(found)])
            for level in found[0]["below"]
        ]
        lines.append(
            [
                name,
                f"{mean(one, 'concordance'):.2f}" if one else "",
                f"{mean(start, 'concordance'):.2f}" if start else "",
                f"**{mean(found, 'concordance'):.2f}**",
                f"{mean(trees, 'concordance'):.2f}" if trees else "",
                f"{mean(found, 'concordance', REGION):.2f}",
                f"{mean(trees, 'concordance', REGION):.2f}" if trees else "",
                f"{wrong:.1f}",
                ", ".join(f"{s:.2f}" if np.isfinite(s) else "-" for s in shares),
            ]
        )
    head = (
        "theory",
        "its one number",
        "all, at step 0",
        "all, at t_train",
        "by trees",
        "regions",
        "by trees",
        "times wrong by",
        "before 10%, 50%, 90%",
    )
    return _table(head, lines)


def _said_differences(totals: Totals) -> str:
    names = (*theories.NUMBER, "theories", "together")
    others = (*theories.NUMBER, "settings", "train time", "floor")
    lines = [
        [
            f"**{one}**",
            *(
                _interval(totals["differences"][f"{one} - {other}"])
                if one != other
                else ""
                for other in others
            ),
        ]
        for one in names
    ]
    return _table(("less", *others), lines)


def _said_remedies(totals: Totals) -> str:
    """Where each theory foretells that a remedy helps."""
    lines = []
    for arm, found in totals["remedies"].items():
        cells = [
            "" if mid is None else f"{mid:+.2f} ({low:+.2f} to {high:+.2f})"
            for mid, low, high in found.values()
        ]
        lines.append([arm, *cells])
    return _table(("remedy", *theories.NUMBER), lines)


def _said_unexplained(totals: Totals) -> str:
    """Where no theory is better than chance, and how often all together are far off."""
    by_chance = []
    for row in left_out(of_theory(totals, "floor")):
        tried = [
            each
            for name in theories.NUMBER
            for each in of_theory(totals, name)
            if each["left_out"] == row["left_out"]
        ]
        if all(each["low"] <= 0.5 for each in tried):
            by_chance.append(row["left_out"].removeprefix(TASK))
    found = left_out(of_theory(totals, "together"))
    worst = max(found, key=lambda row: row["far_off"])
    none = ", ".join(by_chance)
    chance = (
        f"No theory alone is better than chance on {none}."
        if none
        else "On every task some theory alone is better than chance."
    )
    return (
        f"{chance} With everything together, "
        f"{mean(found, 'far_off'):.0%} of the runs that generalise do so more than ten "
        f"times sooner or later than predicted ({worst['far_off']:.0%} on "
        f"{worst['left_out'].removeprefix(TASK)})."
    )


def _said_coverage(totals: Totals) -> str:
    """How far `predict` is right."""
    found = left_out(of_theory(totals, "anywhere"))
    inside = [
        _number(row["below"]["0.9"]) - _number(row["below"]["0.1"]) for row in found
    ]
    inside = [share for share in inside if np.isfinite(share)]
    wrong = 10 ** mean(found, "error_log10")
    return (
        f"On a task that it was not learned from, {np.mean(inside):.0%} of the runs "
        f"generalise within the 80% range ({min(inside):.0%} to {max(inside):.0%}, "
        f"task by task), the median is wrong by a factor of {wrong:.1f} in the mean, "
        f"and of two runs the one predicted to be sooner is so in "
        f"{mean(found, 'concordance'):.0%}."
    )


SAID: dict[str, Callable[[Totals], str]] = {
    "runs": _said_runs,
    "cost": _said_cost,
    "winner": _said_winner,
    "theories": _said_theories,
    "differences": _said_differences,
    "remedies": _said_remedies,
    "unexplained": _said_unexplained,
    "coverage": _said_coverage,
}
