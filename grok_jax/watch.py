"""grok-jax watch DIR [--select=AXIS=VALUE,...] [--once] [--seconds=2]

Follows a run from another terminal, or says how a finished one ended: its progress, and
its train and test curves as the median over runs. DIR is a workdir here or in an object
store (gs://BUCKET/FOLDER). Nothing is written, and Ctrl-C ends the watching alone.

Examples:
  grok-jax watch runs/k3_laziness
  grok-jax watch runs/k3_laziness --select=output_scale=1,epsilon=0.25
  grok-jax watch gs://BUCKET/k1 --seconds=30
  grok-jax watch runs/k3_laziness --once > now.txt

--select takes the runs at one value of an axis; while a run goes on, curves of up to 40
runs spread over the grid are at hand. --once says it once and ends. --seconds is the
time between two looks; a bucket is looked at every 10 seconds at most. Where runs
observe `grok_jax.delay.evidence` and scikit-survival is installed, it says when those
that have fitted are expected to generalise.

Exit status: 0 the run is complete, or was left with Ctrl-C or --once; 2 wrong usage.
"""

import importlib.util
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from grok_jax.engine import (
    charts,
    command_line,
    live,
    remote,
    runner,
    workdirs,
)
from grok_jax.engine.watch import clock, progress_text
from grok_jax.settings import SettingError, nearest

DONE, WRONG_USAGE = 0, 2
QUIET_SECONDS = 60.0
"""A run that has said nothing for so long may have been stopped."""


class Look(NamedTuple):
    """What one look at a workdir finds."""

    title: str
    lines: list[str]
    runs: list[live.Run]
    finished: bool


def look(workdir: workdirs.Workdir, select: Mapping[str, str]) -> Look:
    """Reads how far a run is, and its curves.

    Raises:
      workdirs.WorkdirError: no such folder, not a run folder, or a damaged file in it.
      SettingError: `select` names no axis, or no run.
    """
    with workdirs.reachable(workdir.path):
        return _look(workdir, select)


def _look(workdir: workdirs.Workdir, select: Mapping[str, str]) -> Look:
    about = workdir.about()
    title = f"{about.get('name') or workdir.path.name}: {about.get('description', '')}"
    told, share = _progress(workdir)
    finished = workdir.results.exists() and share >= 1
    if finished:
        runs = live.of_results(workdirs.read_results(workdir.results))
        count = len(runs)
        told = [*told[:1], _ending(workdir)]
    else:
        count, runs = live.read(workdir)
    chosen = chosen_runs(runs, select) if runs else []
    if not runs:
        told.append("No curves are on the disk yet; they follow with the first steps.")
    else:
        of_all = "" if len(chosen) == count else f" of {count:,}"
        told.append(f"median of {len(chosen):,}{of_all} runs{_said(select)}")
        told += _foretold(chosen, about.get("config", {}))
    return Look(title.strip().removesuffix(":"), told, chosen, finished)


def _foretold(runs: Sequence[live.Run], config: Mapping[str, Any]) -> list[str]:
    """When runs that observe `delay.evidence` are expected to generalise; nothing where
    the table of runs is missing."""
    if "laziness" not in runs[0].curves:
        return []
    from grok_jax.delay import foretell  # a second, for those runs alone

    known = foretell.known_runs()
    if not known.is_file():
        return []
    if importlib.util.find_spec("sksurv") is None:
        return [f"When they generalise can be foretold with {foretell.judges.INSTALL}."]
    said = foretell.of_curves(runs, config, workdirs.read_results(known))
    return [said] if said else []


def _progress(workdir: workdirs.Workdir) -> tuple[list[str], float]:
    """(lines, share of the steps that are done) from progress.json."""
    if not workdir.progress.exists():
        done = 1.0 if workdir.results.exists() else 0.0
        return ["No step yet: data, compilation."], done
    content = workdirs.read_json(workdir.progress)
    try:
        fields = {name: content[name] for name in runner.Progress.__dataclass_fields__}
        quiet = time.time() - content["at"]
    except (KeyError, TypeError) as error:
        raise workdirs.WorkdirError(
            f"{workdir.progress} was not written by this version of grok_jax."
        ) from error
    progress = runner.Progress(**fields)
    lines = [progress_text(progress)]
    if quiet > QUIET_SECONDS:
        lines.append(
            f"No news for {clock(quiet)}: a long segment, or it was stopped; the line "
            "that started it goes on."
        )
    return lines, progress.share


def _ending(workdir: workdirs.Workdir) -> str:
    """How a complete run ended, in a line."""
    if not workdir.claims.exists():
        return "Complete; its claims are not tested (yet)."
    claims = workdirs.read_json(workdir.claims)
    held = sum(bool(claim["holds"]) for claim in claims)
    counted = f"{held} of {len(claims)} claims hold" if claims else "no claims"
    return f"Complete; {counted}. Figures: {workdir.figures}"


def chosen_runs(runs: Sequence[live.Run], select: Mapping[str, str]) -> list[live.Run]:
    """The runs at the selected values of the axes.

    Raises: SettingError if an axis is unknown or no run has the value.
    """
    axes = list(runs[0].place)
    for axis in select:
        if axis not in axes:
            raise SettingError(f"--select: no axis {axis!r}; {nearest(axis, axes)}.")
    found = [
        run
        for run in runs
        if all(_same(run.place[axis], value) for axis, value in select.items())
    ]
    if not found:
        known = {
            axis: ", ".join(dict.fromkeys(str(run.place[axis]) for run in runs))
            for axis in select
        }
        listed = "; ".join(f"{axis}: {values[:200]}" for axis, values in known.items())
        raise SettingError(f"--select: no run with curves is there; known: {listed}.")
    return found


def _same(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text


def _said(select: Mapping[str, str]) -> str:
    words = ", ".join(f"{axis} {value}" for axis, value in select.items())
    return f" at {words}" if words else ""


def view(seen: Look, width: int, plain: bool = False) -> RenderableType:
    """A look as something that rich shows, in at most `width` columns."""
    lines = Text(seen.title, "bold"), *map(Text, seen.lines)
    drawn = charts.charts(seen.runs, width, plain)
    return Group(*lines, *([drawn] if drawn else []))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options, place = _flags(list(sys.argv if argv is None else argv))
        workdir, select = workdirs.Workdir(place), selected(options.select)
        console = Console(highlight=False, soft_wrap=True, markup=False)
        first = look(workdir, select)
        pause = max(options.seconds, 10.0 if remote.is_remote(place) else 0.0)
        try:
            if options.once or first.finished:
                console.print(view(first, console.width, charts.is_plain(console)))
                return DONE
            follow = _live if console.is_terminal else _lines
            return follow(console, _looks(workdir, select, first, pause))
        except KeyboardInterrupt:
            return DONE
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE


def _looks(
    workdir: workdirs.Workdir, select: Mapping[str, str], seen: Look, pause: float
) -> Iterator[Look]:
    """This look and those that follow, until the run is complete; while the folder
    cannot be read, the last one with the reason as its line."""
    yield seen
    while not seen.finished:
        time.sleep(pause)
        try:
            seen = look(workdir, select)
        except workdirs.WorkdirError as error:  # a store may answer again
            seen = seen._replace(lines=[str(error)])
        yield seen


def _lines(console: Console, looks: Iterable[Look]) -> int:
    """Prints a line whenever it is another one, and the curves at the end."""
    said = ""
    for seen in looks:
        if seen.finished:
            console.print(view(seen, console.width, charts.is_plain(console)))
        elif seen.lines[0] != said:
            said = seen.lines[0]
            console.print(said)
    return DONE


def _live(console: Console, looks: Iterable[Look]) -> int:
    """Shows the curves in place until the run is complete."""
    plain = charts.is_plain(console)
    with Live(console=console) as screen:
        for seen in looks:
            screen.update(view(seen, console.width, plain), refresh=True)
    return DONE


def selected(text: str) -> dict[str, str]:
    """The axes and values of --select.

    >>> selected("output_scale=1,seed=0")
    {'output_scale': '1', 'seed': '0'}
    """
    found = {}
    for word in filter(None, map(str.strip, text.split(","))):
        axis, equals, value = word.partition("=")
        if not (axis and equals and value):
            raise SettingError(f"--select takes AXIS=VALUE,...; {word!r} is none.")
        found[axis] = value
    return found


def _flags(argv: Sequence[str]) -> tuple[Any, Path]:
    values = flags.FlagValues()
    flags.DEFINE_string("select", "", "AXIS=VALUE,...", flag_values=values)
    flags.DEFINE_bool("once", False, "Say it once.", flag_values=values)
    flags.DEFINE_float(
        "seconds", 2.0, "Between two looks.", lower_bound=0.1, flag_values=values
    )
    options, words = command_line.parse(values, argv, __doc__, takes_words=True)
    if len(words) != 1:
        raise SettingError("Name one run folder: grok-jax watch DIR.")
    return options, remote.path(words[0])


if __name__ == "__main__":
    sys.exit(main())
