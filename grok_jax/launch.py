"""python -m grok_jax.launch --config=FILE.py[:PRESET] --workdir=DIR [--config.a.b=v]

FILE.py may also be the name of a page that comes with the package (k3_laziness:smoke),
or a YAML file of settings. `grok-jax run PAGE` is the same with a default folder.

Runs an experiment: checks the configuration, runs the whole sweep, tests the claims
and draws the figures. Running the same line again resumes a stopped sweep, or redraws
the figures of a complete one. --log=tensorboard,wandb logs every run of the sweep while
it trains (either one may be given alone; the results do not change).

On several hosts, run this line in every process: the sweep is spread over all their
devices, and only process 0 writes. SLURM and TPU pods that set environment variables
are detected; otherwise --distributed asks the cluster, or give each process its place
with --coordinator=HOST:PORT --num_processes=N --process_id=I.

DIR may be in an object store: gs://BUCKET/FOLDER, with pip install 'grok_jax[gcs]'.

--dry_run prints what would run, the memory it needs and how long it takes on this
machine. With --target=tpu:v5e:2x4, gpu:h100, gpu:h100:8 or similar, it compiles every
group with that machine's compiler and prints what the compiler reports; this needs
pip install 'grok_jax[tpu]' or '[cuda12]', but neither such a machine nor data files.

Exit status: 0 done (also when a claim does not hold); 1 the results are complete, but
the page's claims or figure function raised an error; 2 wrong usage; 70 an unforeseen
error, whose traceback is printed; 74 a write failed (disk full); 75 stopped by SIGTERM
or SIGINT (during training after saving; before and after it at once, since nothing is
lost then).
"""

import os
import signal
import sys

if __name__ == "__main__":  # a stop during the slow imports below also exits with 75
    for _number in (signal.SIGTERM, signal.SIGINT):  # at once, without any cleanup
        signal.signal(_number, lambda *_: os._exit(75))

import dataclasses
import io
import shlex
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger
from types import ModuleType
from typing import Any, NoReturn

import xarray as xr
from absl import flags, logging
from matplotlib.figure import Figure
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from grok_jax import claims as claims_lib
from grok_jax import plot
from grok_jax.engine import (
    checkpoint,
    command_line,
    dry_run,
    extend,
    hosts,
    machine,
    planning,
    programs,
    runner,
    session,
    workdirs,
)
from grok_jax.engine import config as config_lib
from grok_jax.engine import watch as watch_lib
from grok_jax.engine.override import apply_overrides
from grok_jax.settings import SettingError, first_line
from grok_jax.tasks.reading import DataError

DONE, PAGE_FAILED, WRONG_USAGE, CRASHED, WRITE_FAILED, STOPPED = 0, 1, 2, 70, 74, 75

WIDE, SHOWN = 120, 4
"""Columns from which on claims are printed as a table; below, how many of the values
that a claim measured are shown."""
console = Console(soft_wrap=True, highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    argv = list(sys.argv if argv is None else argv)
    logging.set_verbosity(logging.FATAL)  # orbax logs tracebacks of errors it raises
    getLogger("asyncio").setLevel("CRITICAL")  # and so do its asyncio tasks
    try:
        plain, overrides = split_overrides(argv)
        options = _flags(plain)
        hosts.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            distributed=options.distributed,
        )
        with Stopper(at_once=not hosts.joined()) as stopper:
            return _run(options, overrides, argv, stopper)
    except Stopped:
        print("grok_jax: Stopped; run the same line to go on.", file=sys.stderr)
        return STOPPED
    except (workdirs.WriteError, checkpoint.WriteError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRITE_FAILED
    except (
        SettingError,
        DataError,
        workdirs.WorkdirError,
        checkpoint.CheckpointError,
    ) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    except Exception:  # a status of its own, and `end` for what waits for this process
        traceback.print_exc()
        return CRASHED


def _run(
    options: Any, overrides: Sequence[str], argv: Sequence[str], stopper: "Stopper"
) -> int:
    """Runs the launch that the flags ask for; returns the exit status."""
    with ExitStack() as stack:
        with hosts.together():
            target = dry_run.target_of(options)
            experiment, preset = load_experiment(options.config)
            config = session.get_config(experiment, preset)
            resolved = config_lib.resolve(apply_overrides(config, overrides))
            if not (options.workdir or options.dry_run):
                raise SettingError("Give --workdir=DIR, the folder for the results.")
            workdir = workdirs.Workdir(options.workdir) if options.workdir else None
            more = session.prepare(workdir, resolved) if workdir else None
            engine = machine.set_up_jax(resolved.engine)
            console.quiet = not hosts.is_writer()
            logs = (
                watch_lib.check(options.log, options.workdir or "")
                if hosts.is_writer()
                else []
            )
            if not target and (more or not (workdir and workdir.results.exists())):
                programs.check_data(resolved.plan)
        if workdir is None or options.dry_run:
            if target:
                engine = dataclasses.replace(engine, devices=target.devices)
            print_start(resolved, engine, workdir)
            stopper.let_go()  # there is nothing to save, and compilers do not listen
            dry_run.show(console, resolved.plan, engine, target)
            where = f"; results would go to {workdir.path}" if workdir else ""
            console.print(f"Nothing was written{where}.")
            return DONE
        words = ["python -m grok_jax.launch", *(shlex.quote(word) for word in argv[1:])]
        about = session.about_run(resolved, engine, " ".join(words), preset or "cpu")
        with hosts.together():
            if hosts.is_writer():
                workdir.create()
                stack.enter_context(workdir.locked(console.print))
                session.begin(workdir, about)
        with hosts.together():  # before the lock, another launch may have ended
            more = session.prepare(workdir, resolved)
        return launch(experiment, resolved, engine, workdir, about, stopper, logs, more)


def launch(
    experiment: ModuleType,
    resolved: config_lib.Resolved,
    engine: planning.Engine,
    workdir: workdirs.Workdir,
    about: dict[str, Any],
    stopper: "Stopper",
    logs: Sequence[str] = (),
    more: extend.Extension | None = None,
) -> int:
    """Runs or resumes the sweep in `workdir`, or redraws a complete one; `logs` are the
    `watch` logs to write, `more` is the part that a finished sweep lacks."""
    results = None
    if hosts.is_writer() and not more:
        results = session.complete(workdir, console.print)
    if hosts.agree(results is not None)[0]:
        console.print(f"{workdir.path} is complete; drawing it again.")
        if results is None:
            return DONE
        return finish(experiment, results, workdir, about["preset"])
    print_start(resolved, engine, workdir)
    if more:
        groups = more.plan.groups()
        runs = sum(len(group.members) for group in groups)
        since = f" from step {more.plan.after:,}" if more.plan.after else ""
        console.print(f"Extending the results in the folder: {runs} runs{since}.")
    open_logs = [
        watch_lib.Log(kind, workdir, resolved.plan, console.print) for kind in logs
    ]
    bar = watch_lib.bar(console)
    watch = watch_lib.Watch(workdir, console.print, bar, open_logs)
    try:
        with stopper.waiting():
            results = session.sweep(
                resolved, engine, workdir, about, watch, stopper.requested, more
            )
    except runner.Interrupted:
        console.print(
            f"Stopped and saved in {workdir.path}; run the same line to go on."
        )
        return STOPPED
    if not hosts.is_writer():
        return DONE
    return finish(experiment, results, workdir, about["preset"])


def finish(
    experiment: ModuleType,
    results: xr.Dataset,
    workdir: workdirs.Workdir,
    preset: str = "",
) -> int:
    """Tests the claims and draws the figures of complete results.

    If the page's code fails (for example, because the command line removed grid points
    that it selects), the results are kept and the failing line of the page is printed.
    """
    try:
        tested, figures = _made(experiment, results)
    except Exception as error:  # raised by the page's code
        said = f"{type(error).__name__}: {first_line(error)}"
        console.print(
            f"The results are in {workdir.results}. The claims and figures of this "
            f"experiment cannot be made from them ({said})"
            f"{_line_of(experiment, error)}\n"
            "Correct the page and run the same line: nothing is trained again."
        )
        return PAGE_FAILED
    commit = {"git_commit": workdirs.git_commit()}  # whose page tested them
    workdirs.write_json(workdir.claims, [claim.as_json() | commit for claim in tested])
    for name, figure in figures.items():
        content = io.BytesIO()
        plot.save(figure, content)
        workdirs.write_bytes(workdir.figures / f"{name}.png", content.getvalue())
    if tested:
        print_claims(tested, preset)
    console.print(
        f"Figures: {workdir.figures}" if figures else f"Results: {workdir.results}"
    )
    return DONE


def _made(
    experiment: ModuleType, results: xr.Dataset
) -> tuple[list[claims_lib.Claim], dict[str, Figure]]:
    """The claims and the figures by name that a page makes of results.

    Raises: TypeError if it returns something else.
    """
    tested = getattr(experiment, "claims", lambda _: [])(results)
    if tested is None:
        raise TypeError("claims(results) of the page returns nothing")
    tested = list(tested)
    drawn = getattr(experiment, "figure", lambda _: {})(results)
    figures = drawn if isinstance(drawn, dict) else {"figure": drawn}
    for found, kind in ((tested, claims_lib.Claim), (figures.values(), Figure)):
        for each in found:
            if not isinstance(each, kind):
                name = kind.__name__.lower()
                raise TypeError(
                    f"a {name} of the page is of type {type(each).__name__}"
                )
    return tested, figures


def _line_of(page: ModuleType, error: Exception) -> str:
    """The last line of the page in the error's traceback, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    of_page = [frame for frame in frames if frame.filename == page.__file__]
    if not of_page:
        return "."
    return f", at {of_page[-1].filename}:{of_page[-1].lineno}:\n    {of_page[-1].line}"


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words for the flags, "path=value" of each --config.path=value) in argv."""
    plain, overrides, words = [], [], iter(argv)
    for word in words:
        stripped = word.lstrip("-")
        if word.startswith("-") and stripped.startswith("config."):
            text = stripped.removeprefix("config.")
            if "=" not in text:
                text = f"{text}={next(words, '')}"
            overrides.append(text)
        else:
            plain.append(word)
    return plain, overrides


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "FILE.py[:PRESET]", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder for results.", flag_values=values)
    flags.DEFINE_bool(
        "dry_run", False, "Print what would run; write nothing.", flag_values=values
    )
    flags.DEFINE_string("log", "", "tensorboard, wandb", flag_values=values)
    flags.DEFINE_bool(
        "distributed", False, "One process of several.", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0.", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "Process count.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Process index.", flag_values=values)
    flags.DEFINE_string(
        "target", None, "tpu:v5e:2x4, gpu:h100: with --dry_run.", flag_values=values
    )
    options, _ = command_line.parse(values, argv, __doc__)
    if not options.config:
        raise SettingError("Give --config=FILE.py[:PRESET].")
    return options


def load_experiment(spec: str) -> tuple[ModuleType, str | None]:
    """(module, preset or None) of an experiment (`session.load_page`); the module must
    define get_config, while claims and figure are optional."""
    module, preset = session.load_page(spec)
    if not hasattr(module, "get_config"):
        raise SettingError(f"{module.__file__} defines no get_config().")
    return module, preset


class Stopped(KeyboardInterrupt):
    """Raised on SIGTERM or SIGINT when there is nothing to save."""


class Stopper:
    """Handles SIGTERM and SIGINT: they stop the launch at once or, within `waiting`,
    after the current segment is saved; a second SIGINT always stops it at once."""

    def __init__(self, at_once: bool = True) -> None:
        """`at_once` is for a single process: other processes would wait for it."""
        self._event = threading.Event()
        self._before: dict[int, Any] = {}
        self._at_once = at_once

    def requested(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Only records a stop while it is open (see `requested`); raises `Stopped` on
        leaving it normally if a stop was requested."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True
        if self.requested():
            raise Stopped

    def let_go(self) -> None:
        """From here on a signal ends the process as if nothing handled it."""
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)

    def _note(self, number: int, _: Any) -> None:
        again = self._event.is_set()
        self._event.set()  # in case the exception is swallowed, as in a destructor
        if self._at_once:
            self._at_once = False  # raise only once
            raise Stopped
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        print("Stopping after this segment ...", file=sys.stderr, flush=True)

    def __enter__(self) -> "Stopper":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def print_start(
    resolved: config_lib.Resolved,
    engine: planning.Engine,
    workdir: workdirs.Workdir | None,
) -> None:
    """Prints what will run: the grid, the compile groups, the devices, the workdir."""
    grid = resolved.plan.grid
    axes = " x ".join(f"{n} ({k})" for n, k in zip(grid.dims, grid.shape, strict=True))
    title = ": ".join(filter(None, (resolved.name, resolved.description)))
    if title:
        console.print(title)
    console.print(
        f"{len(grid)} runs: {axes or 'one'}; {len(resolved.plan.groups())} compile "
        f"group(s); {machine.device_text(engine.devices)}; float"
        f"{64 if resolved.engine['x64'] else 32}, matmul precision "
        f"{resolved.engine['precision']}"
        + (f"; results in {workdir.path}" if workdir else "")
    )


def print_claims(tested: Sequence[claims_lib.Claim], preset: str = "") -> None:
    """Prints the tested claims and how many hold at a preset: as a table, or one below
    the other where a table of so many columns would be thin and long."""
    holds = {True: Text("yes", "green"), False: Text("NO", "red")}
    if console.width >= WIDE:
        table = Table("claim", "source", "statement", "expected", "measured", "holds")
        for claim in tested:
            table.add_row(
                claim.id,
                claim.place,
                claim.statement,
                claim.expected,
                claims_lib.format_value(claim.measured),
                holds[bool(claim.holds)],
            )
        console.print(table)
    else:
        for claim in tested:
            head = Text(f"{claim.id} ({claim.place}) ", "bold")
            console.print(head + holds[bool(claim.holds)])
            for line in (
                claim.statement,
                f"expected: {claim.expected}",
                f"measured: {_in_short(claim.measured)}",
            ):
                padded = Padding(Text(line), (0, 0, 0, 2), expand=False)
                console.print(padded, soft_wrap=False)
    holding = sum(bool(claim.holds) for claim in tested)
    small = " (smoke is too small to decide them)" if preset == "smoke" else ""
    console.print(f"{holding} of {len(tested)} claims hold{small}.")


def _in_short(measured: Any) -> str:
    """The first `SHOWN` entries of what was measured."""
    lines = claims_lib.lines_of(measured)
    more = len(lines) - SHOWN
    rest = [f"{more} more in claims.json"] if more > 0 else []
    return "; ".join([*lines[:SHOWN], *rest])


def end(status: int) -> NoReturn:
    """Ends the process. One of several processes that failed exits without waiting for
    the others, which would wait for it."""
    if not hosts.several():  # everything is done: a signal must not change the status
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if status in (DONE, STOPPED) or not hosts.several():
        sys.exit(status)
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    end(main())
