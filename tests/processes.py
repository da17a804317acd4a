"""Launchers in processes of their own: what the tests of several hosts, of signals and
the fault drill share."""

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
K3 = ROOT / "experiments" / "lazy_to_rich" / "k3_laziness.py"
DESCENT = "--config.model.name=committee_dynamics"
"""K3 by descent, which compiles faster than the flow."""
PROGRAM = (sys.executable, "-B", "-m", "grok_jax.launch")
ENDING = """
import os, sys, threading
from grok_jax import launch
from grok_jax.engine import watch

share, number, seconds = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
show = watch.Watch.show

def ending(self, progress):
    show(self, progress)
    done = progress.run_steps / progress.run_steps_total
    if done >= share and timer.ident is None:
        timer.start()
    if done >= share + 0.1 or (done >= share and not seconds):
        timer.join()

watch.Watch.show = ending
sys.exit(launch.main(["launch", *sys.argv[4:]]))
"""
"""The launcher, which sends itself a signal so many seconds after that share of its
steps: however slow the machine is, it does not come to its end before."""


def start(arguments, *, limit=None, environment=None, program=PROGRAM):
    """The launcher of this checkout, on CPUs; its files have at most `limit` bytes."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [*program, *map(str, arguments)],
        env={
            **os.environ,
            **{"JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if limit:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    return process


def start_ending(arguments, share, number, seconds=0.0):
    """The launcher, which sends itself the signal `number` so many seconds after that
    share of its steps, and before a tenth more of them is done."""
    ending = (share, int(number), seconds)
    return start([*ending, *arguments], program=(sys.executable, "-B", "-c", ENDING))


def start_several(count, arguments, **how):
    """`count` launchers of one run on this machine."""
    port = free_port()
    return [
        start([*arguments, *places(port, count, number)], **how)
        for number in range(count)
    ]


def places(port, count, number):
    return [
        f"--coordinator=127.0.0.1:{port}",
        f"--num_processes={count}",
        f"--process_id={number}",
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ends(processes):
    """(exit statuses, outputs)."""
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [process.returncode for process in processes], said


def checkpoints(workdir):
    """The complete checkpoints, oldest first."""
    folder = workdir / "checkpoints"
    found = folder.iterdir() if folder.exists() else ()
    return sorted(
        (path for path in found if path.name.isdigit()), key=lambda p: int(p.name)
    )


def newest(workdir):
    """The number of the newest checkpoint; 0 where there is none."""
    return max((int(path.name) for path in checkpoints(workdir)), default=0)


def wait_for_checkpoint(workdir, number, processes):
    """Until `workdir` has a checkpoint later than `number`."""
    while newest(workdir) <= number:
        assert all(process.poll() is None for process in processes), ends(processes)
        time.sleep(0.01)
