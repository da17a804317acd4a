"""What tests of real data share: files put into folders, and what a reader says."""

import io
import tarfile

import numpy as np
import pytest

from grok_jax.tasks.reading import DataError

MANY_BYTES = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()


def refused(call, *says):
    """`call` must raise DataError with one sentence that says all of this."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    for part in says:
        assert part in message, message
    assert message.endswith(".") and ". " not in message and "\n" not in message
    return message


def put(folder, name, content=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], strict=True)


def tar_of(named, mode):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=f"w:{mode}") as archive:
        for name, text in named.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return raw.getvalue()
