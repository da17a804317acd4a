"""Shows the progress of a sweep: a bar with curves or a line, progress.json, and with
--log TensorBoard or Weights & Biases.

    segment -> records on the host -> Watch.records  -> curves, a Log for each --log
            -> progress            -> Watch.show     -> bar or line, progress.json, Logs

Each run of the grid is logged as a run of its own, so that seeds stay apart and nothing
is averaged; one more, `progress`, is over the steps of all runs. Only curves are shown
(one number per record); results.nc holds everything. Logging changes no result: a log
that fails is reported once and turned off, and the sweep goes on.
"""

import hashlib
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from grok_jax.engine import charts, live, measured, programs, remote, runner, workdirs
from grok_jax.engine.grid import label, short_name
from grok_jax.settings import SettingError, first_line, nearest

LINE_SECONDS = 15.0
"""Between two lines of progress, where there is no bar."""
DRAWN_SECONDS = 1.0
"""Between two drawings of the curves above a bar."""


class Shown(NamedTuple):
    """One run as it appears in a log."""

    name: str  # its place in the grid, usable as a folder name
    settings: dict[str, Any]


class Sink(Protocol):
    """The destination of a log."""

    most: int  # number of runs that it can show

    def put(self, run: Shown, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of one record; the steps of a run increase."""

    def flush(self) -> None:
        """Returns when all numbers put so far can be read."""

    def close(self) -> None:
        """Closes the destination."""


class TensorBoard:
    """A folder of event files for each run, in WORKDIR/tensorboard."""

    most = 256  # each keeps a file open

    def __init__(self, folder: Path, told: Mapping[str, int]):
        self._folder, self._logged = folder, dict(told)
        self._x = importlib.import_module("tensorboardX")
        self._proto = importlib.import_module("tensorboardX.proto.summary_pb2")
        self._writers: dict[str, Any] = {}

    def put(self, run: Shown, step: int, values: Mapping[str, float]) -> None:
        """Writes one event with all the numbers, seven times as fast as one each."""
        if run.name not in self._writers:
            new = self._logged.get(run.name, -1) + 1  # a killed launch may have gone on
            path = str(self._folder / run.name)
            # a restart within the same second also gets its own file, sorted after
            self._writers[run.name] = self._x.SummaryWriter(
                path, purge_step=new, filename_suffix=f".{new:012d}"
            )
        value = self._proto.Summary.Value
        pairs = [value(tag=tag, simple_value=v) for tag, v in values.items()]
        self._writers[run.name].file_writer.add_summary(
            self._proto.Summary(value=pairs), step
        )

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class WandB:
    """A W&B run for each run, grouped by the workdir's name; files in WORKDIR/wandb.

    W&B's environment variables set the project, the entity and offline mode. A resumed
    run keeps its id; offline, `wandb sync --append` joins its parts.
    """

    most = 64  # opening one takes a tenth of a second or more

    def __init__(self, folder: Path, told: Mapping[str, int]):
        del told
        self._folder, self._runs = folder, {}
        self._wandb = importlib.import_module("wandb")
        about = workdirs.read_json(folder.parent / "config.json")  # a resume keeps it
        self._hash = hashlib.sha256(json.dumps(about).encode())

    def put(self, run: Shown, step: int, values: Mapping[str, float]) -> None:
        if run.name not in self._runs:
            digest = self._hash.copy()
            digest.update(run.name.encode())
            self._runs[run.name] = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "grok_jax"),
                group=self._folder.parent.name,
                id=digest.hexdigest()[:16],
                name=run.name,
                config=run.settings,
                dir=str(self._folder.parent),
                resume="allow",
                reinit="create_new",
                settings=self._wandb.Settings(silent=True, console="off"),
            )
        if step >= self._runs[run.name].step:  # else the server has it already
            self._runs[run.name].log(dict(values), step=step)

    def flush(self) -> None:
        """Does nothing: W&B sends from a process of its own."""

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()


class Kind(NamedTuple):
    """A kind of log; its name in `KINDS` is also that of the extra and the folder."""

    library: str
    sink: Callable[[Path, Mapping[str, int]], Sink]


KINDS = {
    "tensorboard": Kind("tensorboardX", TensorBoard),
    "wandb": Kind("wandb", WandB),
}


def check(text: str, workdir: Path | str) -> list[str]:
    """The kinds of log that --log names, checked to be usable in `workdir`.

    Raises:
      SettingError: an unknown kind, a missing library, or W&B without a key.
    """
    kinds = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if kinds and remote.is_remote(workdir):
        raise SettingError(f"--log={text} needs a --workdir on a disk, not {workdir}.")
    for kind in kinds:
        if kind not in KINDS:
            raise SettingError(f"--log knows no {kind!r}; {nearest(kind, KINDS)}.")
        try:
            library = importlib.import_module(KINDS[kind].library)
        except ImportError as error:
            raise SettingError(
                f"--log={kind} needs {KINDS[kind].library}: "
                f"pip install 'grok_jax[{kind}]'."
            ) from error
        if kind == "wandb":
            _check_key(library)
    return kinds


def _check_key(wandb: Any) -> None:
    """Asks for a key now, while the user is at the terminal, rather than later."""
    try:
        known = wandb.setup().settings.mode != "online" or wandb.login()
    except wandb.errors.UsageError:
        known = False
    except Exception as error:  # it rejects one of its environment variables
        raise SettingError(f"--log=wandb cannot start: {first_line(error)}.") from error
    if not known:
        raise SettingError(
            "--log=wandb finds no key; run `wandb login`, or set WANDB_MODE=offline."
        )


def shown(plan: programs.Plan) -> list[Shown]:
    """The runs of a grid with unique names such as "epsilon=0.25,seed=1"."""
    runs = plan.grid.runs()
    names = [_name(run) for run in runs]
    if len(set(names)) < len(names) or max(map(len, names)) > 150:
        names = [f"{number:05d}_{name[:120]}" for number, name in enumerate(names)]
    settings = plan.settings_of_runs()
    return [Shown(*pair) for pair in zip(names, settings, strict=True)]


def _name(run: Mapping[str, Any]) -> str:
    text = ",".join(f"{short_name(path)}={label(v)}" for path, v in run.items())
    return re.sub(r"[^\w.=,+-]", "_", text) or "run"


class Log:
    """One kind of log of a workdir.

    `logged.json` in its folder stores the last logged step of each run: a resume starts
    from an older checkpoint and logs nothing twice.
    """

    def __init__(
        self, kind: str, workdir: workdirs.Workdir, plan: programs.Plan, say: Any
    ):
        self._kind, self._say = kind, say
        self._workdir, self._path = workdir, workdir.path / kind / "logged.json"
        self._logged: dict[str, int] = {}
        self._runs = shown(plan)
        self._sink: Sink | None = None
        self._safely(self._open)
        if self._sink and len(self._runs) > self._sink.most:
            say(
                f"--log={kind} shows the first {self._sink.most} of "
                f"{len(self._runs):,} runs; results.nc will hold all."
            )

    def _open(self) -> None:
        self._workdir.make(self._kind)
        if self._path.exists():
            self._logged = workdirs.read_json(self._path)
        self._sink = KINDS[self._kind].sink(self._path.parent, self._logged)

    def _safely(self, call: Callable[..., None], *arguments: Any) -> None:
        """Calls a function; if it fails, turns the log off."""
        try:
            call(*arguments)
        except Exception as error:  # a foreign library may raise anything
            self._sink = None
            self._say(
                f"--log={self._kind} failed and is turned off ({first_line(error)}); "
                "the sweep goes on."
            )

    def records(self, new: measured.Records) -> None:
        """Logs those records that are new."""
        self._safely(self._records, new)

    def progress(self, progress: runner.Progress) -> None:
        """Logs the progress of the sweep, over the steps of all its runs."""
        self._safely(self._progress, progress)

    def close(self) -> None:
        """Closes the log."""
        if self._sink:
            self._safely(self._sink.close)

    def _records(self, new: measured.Records) -> None:
        if not self._sink:
            return
        for row, number in enumerate(new.runs):
            if number >= self._sink.most:
                continue
            curves = {name: values[row] for name, values in new.curves.items()}
            for column, step in enumerate(new.steps):
                pairs = ((name, float(curve[column])) for name, curve in curves.items())
                self._put(self._runs[number], int(step), dict(pairs))
        self._save_logged()

    def _progress(self, progress: runner.Progress) -> None:
        names = ("rate", "memorised", "generalised", "diverged")
        values = {name: float(getattr(progress, name)) for name in names}
        self._put(Shown("progress", {}), progress.run_steps, values)
        self._save_logged()

    def _put(self, run: Shown, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if np.isfinite(value)}
        if self._sink and finite and step > self._logged.get(run.name, -1):
            self._sink.put(run, step, finite)
            self._logged[run.name] = step

    def _save_logged(self) -> None:
        """Flushes the log and stores how far it is."""
        if self._sink:
            self._sink.flush()
            workdirs.write_json(self._path, self._logged)


class Display(Progress):
    """A bar with something above it."""

    above: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.above is not None:
            yield self.above
        yield from super().get_renderables()


class Bar:
    """A progress bar over the run-steps of a sweep, below its curves where the console
    has room for them."""

    def __init__(self, console: Console):
        text = TextColumn("{task.description}", table_column=Column())  # may wrap
        columns = SpinnerColumn(), BarColumn(20), text
        self._display = Display(
            *columns, console=console, transient=True, refresh_per_second=4
        )
        self._task = self._display.add_task("compiling ...", total=None)
        self._console, self._drawn = console, -1e9
        self._display.start()

    def update(self, share: float, text: str, curves: live.Curves | None) -> None:
        """Shows the share that is done, a text beside the bar, and the curves."""
        now, console = time.monotonic(), self._console
        if curves and charts.fits(console) and now - self._drawn >= DRAWN_SECONDS:
            self._drawn = now
            self._display.above = charts.charts(
                curves.runs(), console.width, charts.is_plain(console)
            )
        done = share or None  # unknown until the first step
        self._display.update(
            self._task, total=done and 1.0, completed=share, description=text
        )

    def stop(self) -> None:
        """Removes the bar and the curves."""
        self._display.stop()


def bar(console: Console) -> Bar | None:
    """A bar if a terminal or a notebook with widgets can show it, else None."""
    if console.is_jupyter:
        return Bar(console) if importlib.util.find_spec("ipywidgets") else None
    return Bar(console) if console.is_terminal else None


class Watch:
    """Shows progress as a bar with curves (or as a line now and then), in progress.json
    and curves.json if there is a workdir, and in the logs."""

    curves: live.Curves | None = None

    def __init__(
        self,
        workdir: workdirs.Workdir | None,
        say: Callable[[str], None],
        bar: Bar | None = None,
        logs: Sequence[Log] = (),
    ):
        self._workdir, self.say, self._bar = workdir, say, bar
        self.logs, self._said = logs, -1e9
        # a store is slow, and takes at most one write per second of an object
        slow = workdir is not None and remote.is_remote(workdir.path)
        self._pause, self._wrote = 10.0 if slow else 0.0, -1e9
        self._unwritten: dict[str, Any] | None = None

    def follow(self, plan: programs.Plan) -> None:
        """Keeps the curves of this plan's runs from now on."""
        self.curves = live.Curves(self._workdir, plan, self.say)

    def records(self, new: measured.Records) -> None:
        """Passes records to the curves and the logs."""
        if self.curves:
            self.curves.add(new)
        for log in self.logs:
            log.records(new)

    def show(self, progress: runner.Progress) -> None:
        """Updates progress.json, the logs, and the bar or line."""
        if self._workdir is not None:
            self._workdir.check_lock()
            about = {"eta": progress.eta, "at": time.time()}
            self._unwritten = {**progress.__dict__, **about}
            if time.monotonic() - self._wrote >= self._pause:
                self._write()
        for log in self.logs:
            log.progress(progress)
        text = progress_text(progress)
        if self._bar:
            self._bar.update(progress.share, text, self.curves)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.say(text)

    def close(self) -> None:
        """Removes the bar, closes the logs and writes the last curves and progress."""
        if self._bar:
            self._bar.stop()
        if self.curves:
            self.curves.write()
        for log in self.logs:
            log.close()
        self._write()

    def _write(self) -> None:
        """Writes progress.json, unless it is up to date."""
        if self._workdir is not None and self._unwritten is not None:
            self._workdir.check_lock()
            workdirs.write_json(self._workdir.progress, self._unwritten)
            self._wrote, self._unwritten = time.monotonic(), None


def progress_text(progress: runner.Progress) -> str:
    """One line: progress, time, speed, and what the runs have reached."""
    eta = clock(progress.eta) if progress.eta == progress.eta else "?"
    return (
        f"{progress.share:4.0%}  {clock(progress.seconds)} gone, {eta} of "
        f"training left  {progress.rate:,.0f} run-steps/s  of {progress.runs} runs: "
        f"{progress.memorised} memorised, {progress.generalised} generalised, "
        f"{progress.diverged} diverged"
    )


def clock(seconds: float) -> str:
    """Seconds as [hours:]minutes:seconds.

    >>> clock(75.2), clock(7300)
    ('1:15', '2:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
