"""Files of real data: where they are found, how they come, what failures say."""

import hashlib
import http.server
import itertools
import re
import subprocess
import sys
import threading

import pytest
from data_files import put, refused

from grok_jax.engine.registry import TASKS
from grok_jax.settings import SettingError, schema
from grok_jax.tasks import reading
from grok_jax.tasks.imdb import load_reviews
from grok_jax.tasks.mnist import load_digits

READERS = {name: TASKS[name].load for name in ("mnist", "imdb", "qm9")}


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_are_settings_of_the_task(name):
    read, made = schema(READERS[name]), schema(TASKS[name].make)
    assert "files" not in made and "folder" in read
    assert {key: made[key] for key in read} == read


def test_importing_the_reader_imports_no_library_of_data():
    code = (
        "import sys, grok_jax.tasks.reading\n"
        "heavy = {'jax', 'rdkit', 'pooch', 'mlxtend', 'qm9pack', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def review_table(count):
    return "review,sentiment\n" + "".join(
        f"word{'x' * i},positive\n" for i in range(count)
    )


def test_the_named_folder_comes_first_then_the_shared_one_then_the_cache(
    places, tmp_path
):
    shared, cache = places
    found = []
    for folder, count in ((cache / "imdb", 1), (shared / "imdb", 2)):
        put(folder, "IMDB Dataset.csv", review_table(count))
        found.append(len(load_reviews()["positive"]))
    own = tmp_path / "own"
    put(own, "any.csv", review_table(3))
    found.append(len(load_reviews(folder=str(own))["positive"]))
    assert found == [1, 2, 3]


def test_a_shared_folder_without_the_data_set_is_passed_over(places):
    shared, cache = places
    put(shared / "imdb", "notes.txt")
    put(cache / "imdb", "table.csv", review_table(4))
    assert len(load_reviews()["positive"]) == 4


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reading.cache("qm9") == tmp_path / ".cache" / "grok_jax" / "qm9"


@pytest.mark.parametrize("name", READERS)
def test_without_data_the_sentence_says_what_to_put_where(name, places):
    _, cache = places
    says = (str(cache / name), f"reading.fetch('{name}')", "task.folder")
    refused(READERS[name], *says)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_without_the_data_set_is_named(name, places, tmp_path):
    put(tmp_path / "wrong", "notes.txt")
    read = READERS[name]
    refused(lambda: read(folder=str(tmp_path / "wrong")), "wrong, which does not have")
    refused(lambda: read(folder=str(tmp_path / "no")), "task.folder is", "not a folder")


def test_a_shared_folder_that_is_not_there_is_named(places, monkeypatch):
    monkeypatch.setenv("GROK_JAX_DATA", "/no/such/place")
    refused(load_digits, "GROK_JAX_DATA is /no/such/place", "not a folder")


# downloads


@pytest.fixture
def server(monkeypatch):
    """(address, served: name -> bytes, asked: names in turn) of a server of reading."""
    served, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            self.send_response(200 if name in served else 404)
            self.end_headers()
            self.wfile.write(served.get(name, b""))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, args=(0.02,), daemon=True
        ).start()
        yield f"http://127.0.0.1:{running.server_port}/", served, asked
        running.shutdown()


@pytest.fixture
def served_reviews(server, places, monkeypatch):
    """The IMDb table behind an address; returns (served, asked, cache folder)."""
    address, served, asked = server
    table = review_table(5).encode()
    served["table.csv"] = table
    digest = f"sha256:{hashlib.sha256(table).hexdigest()}"
    download = reading.Download(address + "table.csv", digest, "table.csv")
    monkeypatch.setitem(reading.DOWNLOADS, "imdb", (download,))
    return served, asked, places[1] / "imdb"


def test_a_download_goes_into_the_cache_and_is_made_once(served_reviews):
    _, asked, cache = served_reviews
    assert reading.fetch("imdb") == reading.fetch("imdb") == cache
    assert asked == ["table.csv"]
    assert len(load_reviews()["positive"]) == 5


def test_a_download_with_another_hash_is_not_kept(served_reviews):
    served, _, cache = served_reviews
    served["table.csv"] += b"word,negative\n"
    refused(lambda: reading.fetch("imdb"), "table.csv", "sha256")
    assert not list(cache.glob("*"))


def test_a_download_that_fails_is_one_sentence(served_reviews):
    served, _, cache = served_reviews
    served.clear()
    refused(lambda: reading.fetch("imdb"), "could not be downloaded", "404")
    assert not list(cache.glob("*"))


def test_a_download_needs_a_known_name_and_pooch(monkeypatch):
    with pytest.raises(SettingError, match="data set 'mnst'; nearest: mnist"):
        reading.fetch("mnst")
    monkeypatch.setitem(sys.modules, "pooch", None)
    refused(lambda: reading.fetch("mnist"), "pip install 'grok_jax[data]'")


def test_every_download_is_encrypted_and_has_a_whole_hash():
    assert reading.DOWNLOADS.keys() == READERS.keys()
    for url, known_hash, _ in itertools.chain(*reading.DOWNLOADS.values()):
        assert url.startswith("https://")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", known_hash)
