"""The fault drill: breaks real runs in every way that a machine knows and shows that
they end in the bits of a run that nobody disturbed.

    python tests/fault_drill.py --out=drill [--only=NAME,...] [--kills=20] [--seed=0]

Every scenario starts `python -m grok_jax.launch` in processes of their own, on CPUs.
What was done and what came of it stands in OUT/drill.log, one JSON object a line. A
seed draws the same moments again, as shares of the time that a run takes. Exit status:
0 all passed; 1 a promise is broken; 2 wrong usage.
"""

import argparse
import json
import platform
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import disks
import numpy as np
import processes
import xarray as xr
from processes import K3
from rich.console import Console
from rich.table import Table

ARGUMENTS = (
    f"--config={K3}:smoke",
    "--config.engine.mode=map",
    "--config.engine.devices=2",
    "--config.engine.runs_per_chunk=2",
    "--config.engine.segment_seconds=0.05",
    "--config.engine.checkpoint_seconds=0.2",
    "--config.train.steps=5000",
    "--config.train.records=60",
    "--config.task.input_dim=48",
    "--config.sweep.train_size=300,260",
    "--config.zip=seed+train_size",
)
"""K3 as 8 runs in 2 compile groups of 2 chunks each; some of them end early."""
WIDE = (
    *ARGUMENTS[:-5],
    "--config.train.steps=1500",
    "--config.train.records=1500",
    "--config.train.spacing=linear",
    "--config.stop.threshold=0.3",
)
"""Runs that end early leave most of a large results.nc NaN, and checkpoints small."""
SLOW = (
    *ARGUMENTS[:2],
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
    "--config.engine.mode=map",
    "--config.engine.devices=2",
    "--config.train.steps=300",
    "--config.sweep.epsilon=0.25",
    "--config.sweep.output_scale=1",
    "--config.sweep.seed=0",
)
STOPPED, REFUSED = 75, 2
PATIENCE = 1800
"""Seconds after which a launch is said to hang; a busy machine is no fault."""
BY_HAND = {"seconds", "command"}
"""Attributes of results.nc that tell two launches of one run apart."""


class Broken(Exception):
    """A promise was not kept."""


def require(kept, promise, *evidence):
    """Raises Broken unless `kept`."""
    if not kept:
        raise Broken(" | ".join([promise, *(str(e)[-1500:] for e in evidence)]))


# --- bit for bit ---------------------------------------------------------------------


def differences(one, two, but=()):
    """What differs between the results and claims of two workdirs, as sentences.

    Every variable as it lies in the file: type, shape and bytes (so NaN patterns and
    signs of zero count), and all attributes except BY_HAND and `but`.
    """
    found = []
    with raw(one) as a, raw(two) as b:
        found += [f"only in one: {n}" for n in sorted({*a.variables} ^ {*b.variables})]
        for name in sorted({*a.variables} & {*b.variables}):
            found += unlike(name, a[name], b[name])
        keys = ({*a.attrs} | {*b.attrs}) - BY_HAND - {*but}
        for key in sorted(keys):
            if a.attrs.get(key) != b.attrs.get(key):
                found.append(f"attribute {key}")
    claims = [(w / "claims.json") for w in (one, two)]
    claims = [path.read_bytes() if path.exists() else None for path in claims]
    return found + (["claims.json"] if claims[0] != claims[1] else [])


def raw(workdir):
    """results.nc with nothing decoded."""
    path = workdir / "results.nc"
    return xr.open_dataset(path, engine="h5netcdf", decode_cf=False)


def unlike(name, a, b):
    """How one variable differs from another, as at most one sentence."""
    if (a.dims, a.dtype, a.shape) != (b.dims, b.dtype, b.shape):
        return [f"{name}: {a.dims} {a.dtype} {a.shape}, {b.dims} {b.dtype} {b.shape}"]
    mine, other = (np.ascontiguousarray(v.values).reshape(-1) for v in (a, b))
    if mine.tobytes() == other.tobytes():
        return []
    bits = [v.view(np.uint8).reshape(len(v), -1) for v in (mine, other)]
    count = int((bits[0] != bits[1]).any(axis=1).sum())
    return [f"{name}: {count} of {len(mine)} values"]


# --- the drill -----------------------------------------------------------------------


class Log:
    """drill.log, a JSON object a line, and the same on the screen."""

    def __init__(self, path):
        self.path, self.scenario = path, ""
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        path.write_text("")

    def __call__(self, event, **about):
        entry = {"scenario": self.scenario, "event": event, **about}
        with self.path.open("a") as file:
            print(json.dumps(entry, default=str), file=file)
        said = "  ".join(f"{key}: {value}" for key, value in about.items())
        self.console.print(f"[{self.scenario}] {event}  {said}")


@dataclass
class Timeline:
    """Seconds from the start of an undisturbed launch until ..."""

    progress: float = 0.0  # ... its first segment was done
    results: float = 0.0  # ... results.nc was there
    end: float = 0.0


@dataclass
class Drill:
    """Where and how often to break what, and the undisturbed run beside it."""

    out: Path
    seed: int = 0
    kills: int = 20
    timeline: Timeline = field(default_factory=Timeline)

    def __post_init__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = Log(self.out / "drill.log")

    def folder(self, name):
        """A workdir of that name that does not exist yet."""
        path = self.out / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def chance(self):
        """Random numbers of a scenario: the same whatever ran before it."""
        return random.Random(f"{self.seed}/{self.log.scenario}")

    @cached_property
    def whole(self):
        """The workdir of an uninterrupted run; fills `timeline`."""
        workdir = self.folder("whole")
        began = time.monotonic()
        process = launch(workdir)
        while process.poll() is None:
            gone = time.monotonic() - began
            if not self.timeline.progress and (workdir / "progress.json").exists():
                self.timeline.progress = gone
            if not self.timeline.results and (workdir / "results.nc").exists():
                self.timeline.results = gone
            time.sleep(0.01)
        self.timeline.end = time.monotonic() - began
        finished(process)
        times = {k: round(v, 2) for k, v in self.timeline.__dict__.items()}
        self.log("uninterrupted run", **times)
        return workdir

    @cached_property
    def halfway(self):
        """A workdir stopped by SIGTERM at half its steps, with two checkpoints."""
        workdir = self.folder("halfway")
        process = launch(workdir)
        wait(process, lambda: share(workdir) >= 0.5, "half of the steps")
        process.terminate()
        said = ended(process, STOPPED)
        self.log("stopped halfway", checkpoints=numbers(workdir), said=last(said))
        return workdir

    def copy_of(self, workdir, name):
        return shutil.copytree(workdir, self.folder(name))

    def require_same(self, workdir, whole=None, but=()):
        """That `workdir` holds the results and claims of the uninterrupted run."""
        found = differences(whole or self.whole, workdir, but)
        size = (workdir / "results.nc").stat().st_size
        self.log("compared with the uninterrupted run", bytes=size, differences=found)
        require(not found, "the results are bit-identical", found)


STARTED = []
"""Every launch, so that none outlives its scenario."""


def launch(workdir, *more, arguments=ARGUMENTS, **how):
    """The launcher on `workdir`, started."""
    process = processes.start([*arguments, f"--workdir={workdir}", *more], **how)
    STARTED.append(process)
    return process


def ended(process, *statuses):
    """What a launch said that ends with one of these statuses."""
    said = process.communicate(timeout=PATIENCE)[0]
    require(process.returncode in statuses, f"it ends with {statuses}", said)
    return said


def finished(process):
    """What a launch said that ran to its end."""
    return ended(process, 0)


def refused(process):
    """The one sentence with which a launch ends with exit status 2."""
    said = ended(process, REFUSED)
    sentences = [text for text in said.splitlines() if text.startswith("grok_jax: ")]
    require(len(sentences) == 1 and "Traceback" not in said, "one sentence", said)
    return sentences[0]


def wait(process, until, what, seconds=PATIENCE):
    """Until `until()`, which `process` brings about."""
    limit = time.monotonic() + seconds
    while not until():
        require(process.poll() is None, f"it runs until {what}", process.returncode)
        require(time.monotonic() < limit, f"{what} within {seconds} s")
        time.sleep(0.005)


def numbers(workdir):
    return [int(path.name) for path in processes.checkpoints(workdir)]


def half_written(workdir):
    """Checkpoints that are being written, or were when their launch was killed."""
    folder = workdir / "checkpoints"
    paths = folder.iterdir() if folder.exists() else ()
    return sorted(path.name for path in paths if not path.name.isdigit())


def share(workdir):
    """The share of its steps that a run has done, by progress.json."""
    path = workdir / "progress.json"
    if not path.exists():
        return 0.0
    progress = json.loads(path.read_text())
    return progress["run_steps"] / progress["run_steps_total"]


def last(said):
    lines = [text.strip() for text in said.splitlines() if text.strip()]
    return lines[-1] if lines else ""


def going_on(said):
    """What a launch said about where it goes on."""
    found = [text for text in said.splitlines() if text.startswith("Going on from")]
    return found[0] if found else "from the start"


# --- kills at random moments ---------------------------------------------------------


def sigkill(drill):
    """Killed with SIGKILL at random moments and restarted to the end."""
    return interrupted(drill, signal.SIGKILL)


def sigterm(drill):
    """Stopped with SIGTERM at random moments and restarted to the end."""
    return interrupted(drill, signal.SIGTERM)


def interrupted(drill, number):
    """Exactly `drill.kills` launches are hit by the signal. The moments are drawn from
    equal parts of the time that a launch still needs, from its first instant to its
    last. A launch that is done before its moment is compared, not counted, and a new
    workdir begun. No more than half of the hits come before a first checkpoint."""
    drill.whole  # noqa: B018  (made first: the moments are shares of its time)
    chance, count, begun, pace = drill.chance(), drill.kills, 0, 1.0
    moments = [(i + chance.random()) / count for i in range(count)]
    chance.shuffle(moments)
    where, early, workdir = {}, 0, None
    while sum(where.values()) < count:
        if workdir is None:
            begun += 1
            workdir = drill.folder(f"{drill.log.scenario}_{begun}")
        moment = moments[sum(where.values())]
        seconds = expected(drill, workdir)
        process, since = launch(workdir), time.time()
        if early >= count // 2 and not numbers(workdir):
            wait(process, lambda w=workdir: numbers(w), "a first checkpoint")
            seconds -= drill.timeline.progress
        try:
            process.wait(pace * moment * seconds)
        except subprocess.TimeoutExpired:
            phase, had = hit(drill, process, number, workdir, since, moment)
            where[phase] = where.get(phase, 0) + 1
            early += not had
            continue
        finished(process)
        drill.require_same(workdir)
        pace, workdir = 0.9 * pace, None
    if workdir is not None:
        said = finished(launch(workdir))
        drill.log("restarted to the end", going_on=going_on(said))
        drill.require_same(workdir)
        require(not half_written(workdir), "nothing half-written is left")
    after = count - early
    require(2 * after >= count, "half of the kills come after a checkpoint", where)
    listed = ", ".join(f"{v} {k}" for k, v in sorted(where.items()))
    return f"{count} hits ({listed}), {after} after a checkpoint; {begun} workdir(s)"


def expected(drill, workdir):
    """Seconds that a launch on `workdir` will take, by the uninterrupted run's."""
    times = drill.timeline
    if (workdir / "results.nc").exists():
        return times.end - times.results + times.progress / 2
    return times.progress + (times.end - times.progress) * (1 - share(workdir))


def hit(drill, process, number, workdir, since, moment):
    """Sends the signal; (where it came, whether there was a checkpoint)."""
    phase, before = phase_of(workdir, since), numbers(workdir)
    process.send_signal(number)
    sent = time.monotonic()
    said = process.communicate(timeout=PATIENCE)[0]
    status = process.returncode
    drill.log(
        signal.Signals(number).name,
        moment=round(moment, 3),
        after=round(time.time() - since, 2),
        where=phase,
        checkpoints=before,
        going_on=going_on(said),
        status=status,
        seconds_to_end=round(time.monotonic() - sent, 2),
        said=last(said),
    )
    if number == signal.SIGKILL:
        require(status == -signal.SIGKILL, "it was killed", status, said)
    else:
        complete = (workdir / "figures" / "figure.png").exists()
        unborn = status == -number and not said and phase == STARTING
        require(
            status == STOPPED or (status == 0 and complete) or unborn,
            "SIGTERM ends with 75, or 0 if all was done",
            status,
            said,
        )
        if "Stopped and saved" in said:
            require(numbers(workdir)[-1:] > before[-1:], "it saved", before)
    return phase, bool(before)


STARTING = "starting"


def phase_of(workdir, since):
    """Where a launch begun at `since` stands, by the files of its workdir."""
    if (workdir / "results.nc").exists():
        return "drawing"
    folder, progress = workdir / "checkpoints", workdir / "progress.json"
    for name in half_written(workdir):
        try:
            if (folder / name).stat().st_mtime > since:
                return "writing a checkpoint"
        except FileNotFoundError:  # done meanwhile
            return "writing a checkpoint"
    if progress.exists() and progress.stat().st_mtime > since:
        return "training"
    return STARTING


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
    options = parser.parse_args(argv)
    names = options.only.split(",")
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; known: {', '.join(SCENARIOS)}")
    if options.kills < 1:
        parser.error("--kills must be 1 or more")
    out = options.out.absolute()
    if out.exists() and not (out / "drill.log").exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty and holds no drill.log; give another --out")
    drill = Drill(out, options.seed, options.kills)
    drill.log(
        "drill",
        command=shlex.join(["python", *(sys.argv if argv is None else argv)]),
        seed=options.seed,
        kills=options.kills,
        python=platform.python_version(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        not_compared=sorted(BY_HAND),
    )
    return summary(drill, [run(drill, name) for name in names])


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
