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
PROGRAM = (sys.executable, "-B", "-m", "grok_jax.launch")


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
