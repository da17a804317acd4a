"""The fault drill: breaks real runs in every way that a machine knows and shows that
they end in the bits of a run that nobody disturbed.

    python tests/fault_drill.py --out=drill [--only=NAME,...] [--kills=20] [--seed=0]
                                [--summary=FILE.md]

Every scenario starts `python -m grok_jax.launch` in processes of their own, on CPUs.
What was done and what came of it stands in OUT/drill.log, one JSON object a line, and
as a page at --summary. A seed draws the same moments again, as shares of the time that
a run takes. Exit status: 0 all passed; 1 a promise is broken; 2 wrong usage.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import disks
import numpy as np
import processes
from drilling import (
    ARGUMENTS,
    BY_CLOCK,
    STARTED,
    STOPPED,
    Drill,
    finished,
    going_on,
    last,
    launch,
    numbers,
    raw,
    refused,
    require,
    share,
    unlike,
    wait,
)
from interruptions import interrupted
from processes import DESCENT, K3
from rich.console import Console
from rich.table import Table

from grok_jax import report
from grok_jax.engine import workdirs

WIDE = (
    *ARGUMENTS[:-5],
    "--config.train.steps=1500",
    "--config.train.records=1500",
    "--config.train.spacing=linear",
    "--config.stop.threshold=0.3",
)
"""Runs that end early leave most of a large results.nc NaN, and checkpoints small."""
SLOW = (
    *ARGUMENTS[:4],
    "--config.engine.segment_seconds=60",
    "--config.engine.checkpoint_seconds=0.2",
    "--config.train.steps=100000",
    "--config.train.records=8",
    "--config.task.input_dim=48",
    "--config.task.train_size=300",
    "--config.stop.metric=",
    "--config.sweep.output_scale=1",
    "--config.sweep.seed=0",
)
"""Two runs whose later segments have tens of thousands of steps."""
MANY = (
    f"--config={K3}:smoke",
    DESCENT,
    "--config.engine.mode=map",
    "--config.engine.devices=2",
    "--config.train.steps=300",
    "--config.sweep.epsilon=0.25",
    "--config.sweep.output_scale=1",
    "--config.sweep.seed=0",
)


def sigkill(drill):
    """Killed with SIGKILL at random moments and restarted to the end."""
    return interrupted(drill, signal.SIGKILL)


def sigterm(drill):
    """Stopped with SIGTERM at random moments and restarted to the end."""
    return interrupted(drill, signal.SIGTERM)


# --- disks and files -----------------------------------------------------------------


def disk_full_at_checkpoint(drill):
    """The disk fills while checkpoints are being written."""
    with disks.small(drill.folder("disk"), 2**22) as disk:
        workdir = shutil.copytree(drill.halfway, disk.path / "run")
        before = numbers(workdir)
        process = launch(workdir, limit=disk.limit and 8192)
        if not disk.limit:
            wait(process, lambda: numbers(workdir)[-1] > before[-1], "a checkpoint")
            disk.fill(2**14)  # room for progress.json, not for a checkpoint
        sentence = refused(process)
        held = numbers(workdir)
        drill.log("disk full", how=disk.how, said=sentence, checkpoints=held)
        require("could not be written to" in sentence, "it says what", sentence)
        require("before it are whole" in sentence, "it says what is left", sentence)
        disk.free()
        said = finished(launch(workdir))
        drill.log("with room again", going_on=going_on(said))
        newest = f"Going on from checkpoint {held[-1]}:"
        require(newest in said, "the newest checkpoint is whole", said)
        drill.require_same(workdir)
    return f"{disk.how}: {sentence}"


def disk_full_at_results(drill):
    """The disk has room for the last checkpoint, and not for results.nc."""
    whole = drill.folder("wide")
    finished(launch(whole, arguments=WIDE))
    with disks.small(drill.folder("disk"), 2**22) as disk:
        workdir = shutil.copytree(whole, disk.path / "run")
        for path in (workdir / "results.nc", workdir / "claims.json"):
            path.unlink(missing_ok=True)
        size = (whole / "results.nc").stat().st_size
        saved = disks.used(processes.checkpoints(workdir)[-1])
        require(saved + 2**16 < size, "results.nc is larger", saved, size)
        disk.fill((saved + 2**16 + size) // 2)
        limit = disk.limit and size - 1
        sentence = refused(launch(workdir, arguments=WIDE, limit=limit))
        drill.log("disk full", how=disk.how, said=sentence, results=size, saved=saved)
        require(f"{workdir / 'results.nc'} could not be" in sentence, "said", sentence)
        require(not (workdir / "results.nc").exists(), "no half results", sentence)
        disk.free()
        finished(launch(workdir, arguments=WIDE))
        drill.require_same(workdir, whole)
    return f"{disk.how}: {sentence}"


def cut(path):
    for file in sorted(
        p for p in path.rglob("*") if p.is_file() and p.parent.name == "d"
    ):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_metadata(path):
    for file in sorted(path.rglob("*")):
        if file.name in ("_METADATA", "manifest.ocdbt"):
            file.unlink()


def emptied(path):
    shutil.rmtree(path)
    path.mkdir()


def truncated_checkpoint(drill):
    """The newest checkpoint is damaged, then both are."""
    *_, before, newest = numbers(drill.halfway)
    for damage in (cut, without_metadata, emptied):
        workdir = drill.copy_of(drill.halfway, f"truncated_{damage.__name__}")
        damage(workdir / "checkpoints" / str(newest))
        said = finished(launch(workdir))
        skipped = [text for text in said.splitlines() if "is not readable" in text]
        drill.log(damage.__name__, said=skipped, going_on=going_on(said))
        require(f"Checkpoint {newest} is not readable" in said, "it says so", said)
        require(f"Going on from checkpoint {before}:" in said, "it goes back", said)
        drill.require_same(workdir)
    workdir = drill.copy_of(drill.halfway, "truncated_both")
    for path in processes.checkpoints(workdir):
        cut(path)
    held = files(workdir)
    sentence = refused(launch(workdir))
    drill.log("both cut", said=sentence)
    require("No checkpoint in" in sentence, "it says so", sentence)
    require(files(workdir) == held, "nothing was touched")
    return f"3 kinds, each back to the one before; both: {sentence}"


def files(folder):
    """path -> content, of all that is not hidden."""
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")
    return {path: path.read_bytes() for path in paths}


# --- others --------------------------------------------------------------------------


def two_launches(drill):
    """A second launch on the workdir of a running one is refused."""
    workdir = drill.folder("two_launches")
    first = launch(workdir)
    wait(first, lambda: numbers(workdir), "a first checkpoint")
    sentence = refused(launch(workdir))
    drill.log("second launch", said=sentence, first_still_runs=first.poll() is None)
    require("Another launch is running in" in sentence, "it says so", sentence)
    finished(first)
    drill.require_same(workdir)
    return sentence


def nan_in_one_of_64(drill):
    """One of 64 runs diverges; the other 63 do not notice."""
    rates = [round(0.1 + 0.005 * i, 4) for i in range(63)]
    sick = drill.chance().randrange(64)
    among = [*rates[:sick], 1e6, *rates[sick:]]
    found = []
    for name, values in (("nan_64", among), ("nan_63", rates)):
        workdir = drill.folder(name)
        axis = "--config.sweep.learning_rate=" + ",".join(map(str, values))
        finished(launch(workdir, axis, arguments=MANY))
        with raw(workdir) as results:
            found.append(results.load())
    with_it, without = found
    (axis,) = with_it["diverged"].squeeze().dims
    flagged = np.flatnonzero(with_it["diverged"].values.reshape(-1)).tolist()
    at = float(with_it["diverged_at"].isel({axis: sick}).item())
    loss = with_it["train_loss"].isel({axis: sick}).values.reshape(-1)
    later = with_it["step"].values >= at
    drill.log("one run diverges", run=sick, flagged=flagged, at=at)
    require(flagged == [sick], "it alone is flagged", flagged)
    require(np.isnan(loss[later]).all() and later.any(), "NaN from then on", loss)
    require(np.isfinite(loss[~later]).all() and not later.all(), "finite before", loss)
    others = with_it.drop_isel({axis: sick})
    unequal = [
        text
        for name in without.variables
        for text in unlike(name, others[name], without[name])
    ]
    drill.log("the other 63 beside a sweep without it", differences=unequal)
    require({*others.variables} == {*without.variables}, "the same variables")
    require(not unequal, "the other 63 are bit-identical", unequal)
    return f"run {sick} of 64 flagged at step {at:g}; the other 63 bit-identical"


def segment_longer_than_notice(drill):
    """SIGTERM comes within a segment, and SIGKILL a second later, before it ends."""
    whole, workdir = drill.folder("slow"), drill.folder("slow_killed")
    finished(launch(whole, arguments=SLOW))
    for _ in range(2):
        saved, enough = processes.newest(workdir), share(workdir) + 0.1
        process = launch(workdir, arguments=SLOW)
        wait(process, lambda e=enough: share(workdir) >= e, "a tenth of the steps")
        time.sleep(0.1)
        process.terminate()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
        said, status = process.communicate()[0], process.returncode
        drill.log(
            "SIGTERM, a second, SIGKILL",
            status=status,
            checkpoints=numbers(workdir),
            going_on=going_on(said),
            said=last(said),
        )
        require(status == -signal.SIGKILL, "the segment outlasts the second", said)
        require(processes.newest(workdir) > saved, "there is a newer checkpoint", said)
    said = finished(launch(workdir, arguments=SLOW))
    drill.log("restarted to the end", going_on=going_on(said))
    drill.require_same(workdir, whole)
    return "killed twice in a segment; each launch left a newer checkpoint"


def one_of_two_processes(drill):
    """One process of a job of two is killed and the job restarted."""
    workdir = drill.folder("two_processes")
    for victim in (0, 1):
        before = processes.newest(workdir)
        job = pair(workdir)
        processes.wait_for_checkpoint(workdir, before, job)
        job[victim].kill()
        status, said = processes.ends(job)
        drill.log("SIGKILL", process=victim, status=status, said=last(said[1 - victim]))
        require(status[victim] == -signal.SIGKILL, "it was killed", status)
        require(status[1 - victim] not in (0, STOPPED), "the other ends too", said)
    status, said = processes.ends(pair(workdir))
    require(status == [0, 0], "the job ends", status, *said)
    drill.log("restarted to the end", going_on=going_on(said[0]))
    drill.require_same(workdir, but={"device"})
    return "process 0 and process 1 killed, then restarted to the end"


def pair(workdir):
    """Two launchers of one run, with one device each."""
    more = (f"--workdir={workdir}", "--config.engine.devices=1")
    both = processes.start_several(2, [*ARGUMENTS, *more])
    STARTED.extend(both)
    return both


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        sigkill,
        sigterm,
        disk_full_at_checkpoint,
        disk_full_at_results,
        truncated_checkpoint,
        two_launches,
        nan_in_one_of_64,
        segment_longer_than_notice,
        one_of_two_processes,
    )
}


def main(argv=None):
    """Runs the drill; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the log")
    parser.add_argument(
        "--only", help="names, with commas", default=",".join(SCENARIOS)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--summary", type=Path, help="path of the Markdown")
    given = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(given)
    names = options.only.split(",")
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; known: {', '.join(SCENARIOS)}")
    if options.kills < 1:
        parser.error("--kills must be 1 or more")
    if options.summary and not options.summary.absolute().parent.is_dir():
        parser.error(f"--summary: there is no folder {options.summary.parent}")
    out = options.out.absolute()
    if out.exists() and not (out / "drill.log").exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty and holds no drill.log; give another --out")
    drill = Drill(out, options.seed, options.kills)
    about = dict(
        command=shlex.join(["python", "tests/fault_drill.py", *given]),
        git_commit=workdirs.git_commit(),
        seed=options.seed,
        kills=options.kills,
        cores=os.cpu_count(),
        python=platform.python_version(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        not_compared=sorted(BY_CLOCK),
    )
    drill.log("drill", **about)
    rows = [run(drill, name) for name in names]
    status = summary(drill, rows)
    if options.summary:
        options.summary.write_text(as_markdown(drill.log, about, rows))
    return status


def run(drill, name):
    """(name, passed, seconds, what came of it) of one scenario."""
    drill.log.scenario, began = name, time.monotonic()
    drill.log("begins", what=SCENARIOS[name].__doc__.split("\n")[0])
    try:
        passed, came = True, SCENARIOS[name](drill)
    except Exception as error:  # the other scenarios still have something to say
        passed, came = False, f"{type(error).__name__}: {error}"
    finally:
        while STARTED:
            STARTED.pop().kill()
    seconds = round(time.monotonic() - began, 1)
    drill.log("passed" if passed else "FAIL", seconds=seconds, came=came)
    return name, passed, seconds, came


def as_markdown(log, about, rows):
    """The drill as a page: what came of each scenario, then every step of it."""
    held = sum(passed for _, passed, *_ in rows)
    lines = [f"# Fault drill: {held} of {len(rows)} scenarios passed", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in about.items()]
    marks = {True: "passed", False: "**FAIL**"}
    safe = report.as_markdown
    came = [
        (
            *(safe(name), safe(SCENARIOS[name].__doc__)),
            *(marks[passed], f"{seconds:.0f}", safe(log.short(what))),
        )
        for name, passed, seconds, what in rows
    ]
    head = ("scenario", "what", "result", "seconds", "what came of it")
    lines += ["", *report.markdown_table(head, came)]
    steps = [as_cells(line) for line in log.path.read_text().splitlines()]
    lines += ["## Every step", ""]
    lines += report.markdown_table(("scenario", "event", "about"), steps)
    return "\n".join(lines)


def as_cells(line):
    """Scenario, event and all else that a line of the log says."""
    entry = json.loads(line)
    first = entry.pop("scenario"), entry.pop("event")
    rest = "; ".join(f"{key}: {value}" for key, value in entry.items())
    return [report.as_markdown(cell) for cell in (*first, rest)]


def summary(drill, rows):
    """Prints the table and logs it; returns the exit status."""
    table = Table("scenario", "result", "seconds", "what came of it")
    for name, passed, seconds, came in rows:
        color = "green" if passed else "red"
        result = f"[{color}]{'passed' if passed else 'FAIL'}[/]"
        table.add_row(name, result, f"{seconds:.0f}", came.replace("[", r"\["))
    Console().print(table)
    failed = [name for name, passed, *_ in rows if not passed]
    total = round(sum(seconds for _, _, seconds, _ in rows), 1)
    drill.log.scenario = ""
    drill.log("end", scenarios=len(rows), failed=failed, seconds=total)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
