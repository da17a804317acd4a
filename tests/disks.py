"""Small disks that fill up: a tmpfs in a mount namespace of its own, which needs no
rights; where the system allows none, a limit on the size of files stands for it."""

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo ready && exec cat'


@dataclass
class Disk:
    """A folder on a disk that can be filled; `limit`: on the size of a file instead."""

    path: Path
    how: str
    limit: bool

    @property
    def _ballast(self):
        return self.path / "ballast"

    def fill(self, room):
        """Leaves `room` bytes at most."""
        if self.limit:
            return
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:  # full
                size = file.tell()
            file.truncate(max(size - room, 0))

    def free(self):
        """Gives the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small(folder, size):
    """A Disk of `size` bytes mounted on `folder`, seen through the process that keeps
    its namespace, so that nothing of the machine is mounted or left behind."""
    folder.mkdir(parents=True)
    keeper = None
    try:
        keeper = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(size), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        ready = keeper.stdout.readline() == "ready\n"
    except FileNotFoundError:
        ready = False
    try:
        if ready:
            seen = Path(f"/proc/{keeper.pid}/root{folder}")
            yield Disk(seen, f"a tmpfs of {size} bytes", False)
        else:
            yield Disk(folder, "a limit on the size of files (RLIMIT_FSIZE)", True)
    finally:
        if keeper:
            keeper.communicate()


def used(path):
    """Bytes that a folder takes on a disk, in whole pages."""
    sizes = (p.stat().st_size for p in path.rglob("*"))
    return sum(-(-size // 4096) * 4096 for size in sizes)
