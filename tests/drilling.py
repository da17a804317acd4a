"""What the scenarios of the fault drill share: launches, what may be said of a workdir,
the comparison bit for bit, and the log."""

import json
import random
import re
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import processes
import xarray as xr
from processes import DESCENT, K3
from rich.console import Console

ARGUMENTS = (
    f"--config={K3}:smoke",
    DESCENT,
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
STOPPED, REFUSED = 75, 2
PATIENCE = 1800
"""Seconds after which a launch is said to hang; a busy machine is no fault."""
BY_CLOCK = {"seconds", "start_seconds", "step_seconds", "command"}
"""Attributes and variables of results.nc that tell two launches of one run apart."""


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
    signs of zero count), and all attributes except BY_CLOCK and `but`.
    """
    found = []
    with raw(one) as a, raw(two) as b:
        found += [f"only in one: {n}" for n in sorted({*a.variables} ^ {*b.variables})]
        for name in sorted({*a.variables} & {*b.variables} - BY_CLOCK):
            found += unlike(name, a[name], b[name])
        keys = ({*a.attrs} | {*b.attrs}) - BY_CLOCK - {*but}
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
            print(self.short(json.dumps(entry, default=str)), file=file)
        said = "  ".join(f"{key}: {value}" for key, value in about.items())
        self.console.print(self.short(f"[{self.scenario}] {event}  {said}"))

    def short(self, text):
        """`text` with OUT for where the drill's folder is."""
        out = re.escape(str(self.path.parent))
        return re.sub(rf"(/proc/\d+/root)?{out}", "OUT", text)  # also of a small disk


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
    pace: float = 1.0  # how much slower the machine is now than in `timeline`

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
        self.log(
            "compared with the uninterrupted run",
            bytes=size,
            not_compared=sorted({*BY_CLOCK, *but}),
            differences=found,
        )
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
