"""python experiments/gallery.py --workdirs=DIR --out=DIR [--preset=cpu] [--only=G1,...]

Runs every page of experiments/ one after the other, each with a line of
grok_jax.launch in a process of its own, and writes one report (grok_jax.report) of all
that is finished: OUT/index.html, and the Markdown at --summary=FILE.md if that is
given. --only names pages (`k1_grokking`) or all that begin so (`G1`).

The same line again goes on: what is complete is only drawn again, what was stopped
resumes. A page whose data are not here is named as left out. A page that fails does
not stop the others. Workdirs of another commit are refused, unless --mixed says that
the report may list several.

Exit status: 0 done; 1 a page failed; 2 wrong usage; 75 stopped after saving.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from grok_jax import launch, report
from grok_jax.engine import command_line, config, programs, session, workdirs
from grok_jax.settings import SettingError, nearest
from grok_jax.tasks.reading import DataError

DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, launch.WRONG_USAGE, launch.STOPPED
ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("smoke", "cpu", "paper")
PAPERS = ("lazy_to_rich", "omnigrok", "groktransfer")


def pages() -> list[Path]:
    """Every page of every paper, in the order of the gallery."""
    return [
        path
        for paper in PAPERS
        for path in sorted((ROOT / "experiments" / paper).glob("*.py"), key=_natural)
    ]


def _natural(path: Path) -> tuple[bool, str, int, str]:
    """K2 before K10, and what has no number at the end."""
    letter, number, rest = re.fullmatch(r"([a-z]?)(\d*)(.*)", path.stem).groups()
    return not number, letter, int(number or 0), rest


def chosen(text: str) -> list[Path]:
    """The pages that --only names; all where it names none.

    Raises:
      SettingError: no page begins so.
    """
    found = pages()
    words = [word.strip().lower().replace(" ", "_") for word in text.split(",")]
    words = [word for word in words if word]
    for word in words:
        if not any(_begins(path.stem, word) for path in found):
            stems = [path.stem for path in found]
            known = [*stems, *(stem.split("_")[0] for stem in stems)]
            close = nearest(word, dict.fromkeys(known))
            raise SettingError(f"--only: there is no page {word!r}; {close}.")
    named = (path for path in found if any(_begins(path.stem, w) for w in words))
    return list(named) if words else found


def _begins(stem: str, word: str) -> bool:
    return f"{stem}_".startswith(f"{word}_")


def missing_data(page: Path, preset: str, workdir: workdirs.Workdir) -> str:
    """Why a page cannot be run here; "" where its data are found or not needed."""
    if workdir.results.exists():
        return ""
    try:
        experiment, _ = launch.load_experiment(str(page))
        programs.check_data(config.resolve(session.get_config(experiment, preset)).plan)
    except DataError as error:
        return str(error)
    except SettingError:  # the launcher says it
        pass
    return ""


def of_other_commits(folders: Sequence[workdirs.Workdir]) -> list[str]:
    """The run folders that the checkout as it is now did not begin: name (commit)."""
    present = workdirs.git_commit()
    started = [each for each in folders if each.config.exists()]
    commits = [workdirs.read_json(each.config).get("git_commit") for each in started]
    pairs = zip(started, commits, strict=True)
    return [f"{each.path.name} ({c})" for each, c in pairs if c != present]


class Pages:
    """Runs pages one at a time; SIGTERM and SIGINT reach the one that is running."""

    def __init__(self) -> None:
        self.stopped, self._running = False, None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _: Any) -> None:
        self.stopped = True
        if self._running:
            self._running.send_signal(number)

    def run(self, page: Path, preset: str, workdir: Path) -> int:
        """The exit status of the launcher on a page."""
        place = workdir.relative_to(ROOT) if workdir.is_relative_to(ROOT) else workdir
        line = [f"--config={page.relative_to(ROOT)}:{preset}", f"--workdir={place}"]
        print(f"\npython -m grok_jax.launch {' '.join(line)}", flush=True)
        self._running = subprocess.Popen(
            [sys.executable, "-m", "grok_jax.launch", *line], cwd=ROOT, process_group=0
        )
        status = self._running.wait()
        self._running = None
        return status


def run_all(named: Sequence[Path], preset: str, folder: Path) -> int:
    """Runs pages and says what became of them; the exit status."""
    runs, left_out, failed = Pages(), {}, {}
    for page in named:
        if runs.stopped:
            return STOPPED
        workdir = workdirs.Workdir(folder / page.stem)
        reason = missing_data(page, preset, workdir)
        if reason:
            left_out[page.stem] = reason
            continue
        status = runs.run(page, preset, workdir.path)
        if status == STOPPED or runs.stopped:  # also before it could save anything
            return STOPPED
        if status != DONE:
            failed[page.stem] = f"exit status {status}"
    print()
    for what, which in (("Left out", left_out), ("FAILED", failed)):
        for name, reason in which.items():
            print(f"{what}: {name}: {reason}", flush=True)
    return FAILED if failed else DONE


def write_report(finished: Sequence[Path], out: str, summary: str, only: bool) -> int:
    """Writes the report; where `only` some pages ran, the summary keeps the others."""
    folders = [str(path) for path in finished]
    if not summary:
        return report.main(["report", *folders, f"--out={out}"])
    place = f"--summary={summary}"
    if not only:
        return report.main(["report", *folders, f"--out={out}", place])
    status = report.main(["report", *folders, f"--out={out}"])
    return status or report.main(["report", *folders, place])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    jax.config.update("jax_platforms", "cpu")  # the accelerator is for the launcher
    try:
        options = _flags(list(sys.argv if argv is None else argv))
        if options.preset not in PRESETS:
            close = nearest(options.preset, PRESETS)
            raise SettingError(f"--preset: there is no {options.preset!r}; {close}.")
        named, folder = chosen(options.only), Path(options.workdirs).absolute()
        every = [workdirs.Workdir(folder / page.stem) for page in pages()]
        others = of_other_commits(every)
        if others and not options.mixed:
            raise SettingError(
                f"The checkout is at {workdirs.git_commit()}, but these are of another "
                f"commit: {', '.join(others)}; nothing was run. Give another "
                "--workdirs, or --mixed to report them together."
            )
        status = run_all(named, options.preset, folder)
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return WRONG_USAGE
    if status == STOPPED:
        print("Stopped; run the same line to go on.")
        return STOPPED
    if others:
        print(f"Of another commit: {', '.join(others)}")
    finished = [each.path for each in every if each.results.exists()]
    if not finished:
        print("Nothing is finished; there is no report.")
        return status
    written = write_report(finished, options.out, options.summary, bool(options.only))
    return written or status


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    for name, default, says in (
        ("workdirs", "runs/gallery", "Folder for the run folders."),
        ("out", "gallery", "Folder for the report."),
        ("preset", "cpu", "Preset of every page."),
        ("only", "", "Pages, or how they begin; all by default."),
        ("summary", "", "Path of the Markdown."),
    ):
        flags.DEFINE_string(name, default, says, flag_values=values)
    flags.DEFINE_bool("mixed", False, "Report several commits.", flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
