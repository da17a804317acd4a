"""The places where tasks look for files, without any."""

import pytest

from grok_jax.tasks import reading


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders for `GROK_JAX_DATA` and the cache, both empty; no package has data."""
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    shared.mkdir()
    cache.mkdir()
    monkeypatch.setenv("GROK_JAX_DATA", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(reading, "packaged", lambda *_: [])
    return shared, cache / "grok_jax"
