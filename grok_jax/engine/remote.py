"""Workdirs in an object store (gs://bucket/run): the only module that uses fsspec.

A path with a scheme is a universal_pathlib UPath, which has the methods of pathlib.Path
that are used here. Writing an object is atomic. There are no folders to make, and no
locks except the one below.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from grok_jax.settings import SettingError, first_line

BEAT_SECONDS = 15.0
PATIENCE_SECONDS = 45.0
"""How long a lock must stay unchanged before its launch counts as dead."""
SETTLE_SECONDS = 1.0
"""If two launches take a lock at once, the later write stays; both then read it."""


def is_remote(path: Any) -> bool:
    """Whether the text or path names an object store.

    >>> is_remote("gs://bucket/run"), is_remote("runs/k3")
    (True, False)
    """
    return "://" in str(path)


def path(text: Any) -> Path:
    """The path that a text names: a UPath if it has a scheme, else a pathlib.Path.

    Raises:
      SettingError: the scheme is unknown, its library is missing or its store refuses.
    """
    if not is_remote(text):
        return Path(text)
    scheme = str(text).partition("://")[0]
    # else gcsfs asks a second service about each bucket, for kinds not needed here
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it also raises what it logs
    try:
        from upath import UPath

        found = UPath(str(text).rstrip("/"), use_listings_cache=False)
        _ = found.fs  # imports the library of the scheme
    except ImportError as error:
        raise SettingError(
            f"{text} needs a library that is not installed ({reason(error)}); for "
            "gs:// pip install 'grok_jax[gcs]'."
        ) from error
    except ValueError as error:
        raise SettingError(
            f"No file system is known for {scheme}://; write gs://BUCKET/FOLDER or a "
            "local folder."
        ) from error
    except Exception as error:  # bad credentials raise many kinds
        raise SettingError(f"{text} cannot be reached: {reason(error)}.") from error
    return cast(Path, found)


def failures(where: Any) -> tuple[type[Exception], ...]:
    """The exceptions of reading and writing there; a store may raise any."""
    return (Exception,) if is_remote(where) else (OSError,)


def reason(error: BaseException) -> str:
    """The reason why a store refused, in a few words."""
    said = (str(error) or type(error).__name__).strip()
    kind, code = type(error).__name__, str(getattr(error, "code", ""))
    if isinstance(error, FileNotFoundError):
        return "the bucket or the object does not exist"
    refused = said.startswith("Forbidden") or kind in (
        "PermissionError",
        "DefaultCredentialsError",
        "RefreshError",
    )
    if refused or code in ("401", "403"):
        return (
            f"no permission ({' '.join(said.split())[:200]}); log in with `gcloud auth "
            "application-default login`, or give the service account of this machine "
            "the role Storage Object User on the bucket"
        )
    return first_line(error)


def download(source: Path, target: Path) -> None:
    """Copies an object, or everything below a folder, to a local path."""
    store = cast(Any, source)
    store.fs.get(store.path, str(target), recursive=source.is_dir())


def upload(source: Path, target: Path) -> None:
    """Copies a local file to an object, atomically."""
    store = cast(Any, target)
    store.fs.put_file(str(source), store.path)


def remove(old: Path) -> None:
    """Removes an object, or everything below a folder."""
    store = cast(Any, old)
    store.fs.rm(store.path, recursive=True)


class Held(Exception):
    """Another process holds the lock."""


class Lock:
    """An object that names the process using the folder, renewed every `BEAT_SECONDS`.

    A store has no locks that end with their process. A process that finds a lock waits
    to see whether it still changes, and takes it if not; no clocks are compared. `lost`
    becomes true when another process has taken it (renewals failed for too long).
    """

    def __init__(self, place: Path, say: Callable[[str], None]):
        self._place, self._say, self._end = place, say, threading.Event()
        self._owner = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lost = False

    def __enter__(self) -> "Lock":
        found = self._read()
        if found and not _is_dead(found):
            self._say(
                f"{self._place} was left by process {found.get('pid')} on "
                f"{found.get('host')}; waiting {PATIENCE_SECONDS:.0f} s to see whether "
                "it still runs."
            )
            time.sleep(PATIENCE_SECONDS)
            now = self._read()
            if now and now != found:
                raise Held(f"process {now.get('pid')} on {now.get('host')}")
        self._write()
        time.sleep(SETTLE_SECONDS)
        now = self._read()
        if now.get("token") != self._owner["token"]:
            raise Held(f"process {now.get('pid')} on {now.get('host')}")
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()
        try:
            if self._read().get("token") == self._owner["token"]:
                self._place.unlink()
        except Exception as error:  # the launch is over; the next one waits a little
            self._say(f"{self._place} could not be removed: {reason(error)}.")

    def _run(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                found = self._read()
                if found and found.get("token") != self._owner["token"]:
                    self.lost = True
                    return
                self._write()
            except Exception as error:  # the network may be down for a while
                logging.getLogger(__name__).info("lock not renewed: %s", error)

    def _write(self) -> None:
        self._place.write_bytes(json.dumps({**self._owner, "at": time.time()}).encode())

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._place.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether the lock's process ran on this machine and has ended."""
    if found.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False
