"""The gallery as one command, on pages of milliseconds in a checkout of their own."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grok_jax import experiment, launch, report
from grok_jax.engine import workdirs

PATH = Path(__file__).parents[2] / "experiments" / "gallery.py"
PAGE = """
from matplotlib.figure import Figure
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

def get_config(preset="cpu"):
    base = dict(
        name="NAME", description="a page",
        task=dict(input_dim=6, train_size=14, test_size=9),
        model=dict(width=7), optimizer=dict(rule="lazy"),
        train=dict(steps=24, records=6), sweep=dict(seed=(0, 1)),
        engine=dict(mode="map", segment_seconds=0.001),
    )
    presets = dict(smoke={}, cpu=dict(train=dict(steps=48)), paper={})
    return make_config(base, choose_preset(preset, **presets))

def claims(results):
    return [Claim("NAME", "Fig. 1", "it ran", "at all", 1.0, True)]

def figure(results):
    return Figure()
"""
IMDB = PAGE.replace("input_dim=6, ", 'name="imdb", ').replace(
    'model=dict(width=7), optimizer=dict(rule="lazy")', 'model=dict(name="lstm")'
)


def load():
    spec = importlib.util.spec_from_file_location("gallery", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery = load()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with four pages, of which one needs data and one is broken."""
    pages = {
        "lazy_to_rich/k10_late": PAGE.replace("NAME", "K10"),
        "lazy_to_rich/k2_early": PAGE.replace("NAME", "K2"),
        "omnigrok/o3_reviews": IMDB.replace("NAME", "O3"),
        "groktransfer/remedies": PAGE.replace("width=7", "width=0"),
    }
    for name, text in pages.items():
        path = tmp_path / "experiments" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    monkeypatch.delenv("GROK_JAX_DATA", raising=False)
    experiment._load.cache_clear()  # what another test has read
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no cache"))
    return tmp_path


@pytest.fixture
def here(checkout, monkeypatch):
    """The launcher in this process; the names of the pages that it was asked for."""
    asked = []

    def run(self, page, preset, workdir):
        asked.append(page.stem)
        line = [f"--config={page}:{preset}", f"--workdir={workdir}"]
        return launch.main(["launch", *line, "--config.engine.devices=2"])

    monkeypatch.setattr(gallery.Pages, "run", run)
    return asked


@pytest.fixture(autouse=True)
def own_signals():
    """The handlers are given back."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def make(checkout, *more):
    line = [f"--workdirs={checkout / 'runs'}", f"--out={checkout / 'out'}"]
    return gallery.main(["gallery", *line, "--preset=smoke", *more])


def names(path):
    return [each.name for each in report.stored(path)]


NAMES = ["K2 (smoke)", "K10 (smoke)"]


def test_it_is_no_page_and_every_page_is_in_it():
    is_page = re.compile(r"(?m)^(def )?get_config\b")
    assert not is_page.search(PATH.read_text())
    own = load().pages()
    assert len(own) == len(set(own)) and PATH not in own
    every = {p for p in PATH.parent.rglob("*.py") if is_page.search(p.read_text())}
    assert set(own) == every


def test_pages_run_in_order_and_what_fails_or_lacks_data_is_named(
    checkout, here, capsys
):
    assert make(checkout) == gallery.FAILED
    assert here == ["k2_early", "k10_late", "remedies"]
    said = capsys.readouterr().out
    assert "Left out: o3_reviews: There are no IMDb reviews" in said
    assert "FAILED: remedies: exit status 2" in said
    assert names(checkout / "out" / "summary.md") == NAMES
    text = (checkout / "out" / "index.html").read_text()
    assert f"All from commit {workdirs.git_commit()}." in text


def test_the_same_line_again_only_draws_again(checkout, here, capsys):
    assert make(checkout, "--only=k2,K10") == gallery.DONE
    results = checkout / "runs" / "k2_early" / "results.nc"
    before = results.stat().st_mtime_ns
    assert make(checkout, "--only=k2,K10") == gallery.DONE
    assert capsys.readouterr().out.count("is complete; drawing it again") == 2
    assert results.stat().st_mtime_ns == before


def test_a_page_that_was_stopped_stops_the_gallery_and_goes_on(
    checkout, here, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        patch.setattr(launch.Stopper, "requested", lambda self: True)
        assert make(checkout, "--only=k2,k10") == gallery.STOPPED == 75
    assert here == ["k2_early"] and not (checkout / "out").exists()
    assert make(checkout, "--only=k2,k10") == gallery.DONE
    assert "Going on from checkpoint" in capsys.readouterr().out
    assert names(checkout / "out" / "summary.md") == NAMES


def test_the_summary_keeps_other_pages_only_where_some_are_asked_for(checkout, here):
    place = checkout / "README.md"
    assert make(checkout, "--only=k2", f"--summary={place}") == gallery.DONE
    place.write_text(place.read_text().replace("K2", "Other"))
    assert make(checkout, "--only=k10", f"--summary={place}") == gallery.DONE
    assert names(place) == ["Other (smoke)", *NAMES]
    make(checkout, f"--summary={place}")
    assert names(place) == NAMES


def test_run_folders_of_another_commit_are_refused_unless_mixed(checkout, here, capsys):
    assert make(checkout, "--only=k2") == gallery.DONE
    config = checkout / "runs" / "k2_early" / "config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps({**about, "git_commit": "17bc"}))
    assert make(checkout, "--only=k10") == gallery.WRONG_USAGE
    error = capsys.readouterr().err
    assert "another commit: k2_early (17bc); nothing was run" in error
    assert here == ["k2_early"]
    assert make(checkout, "--only=k10", "--mixed") == gallery.DONE
    assert "Of another commit: k2_early (17bc)" in capsys.readouterr().out
    assert (
        "From several commits: 17bc (1), "
        in (checkout / "out" / "index.html").read_text()
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--only=k3", "there is no page 'k3'; nearest: "),
        ("--preset=smok", "--preset: there is no 'smok'; nearest: smoke"),
        ("--workdir=x", "no flag --workdir; nearest: workdirs"),
        ("fast", "'fast' is not a flag"),
        ("--mixed=perhaps", "mixed"),
    ],
)
def test_a_bad_line_is_refused(more, said, checkout, here, capsys):
    assert make(checkout, more) == gallery.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("gallery: ") and said in error
    assert error.count("\n") == 1 and not here
    assert not (checkout / "runs").exists()


# --- with processes -------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_reaches_the_page_and_the_same_line_goes_on(checkout):
    """The real thing: a process for the gallery and one for each page."""
    long = checkout / "experiments" / "lazy_to_rich" / "k10_late.py"
    long.write_text(long.read_text().replace("steps=24", "steps=3_000"))
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import gallery, pathlib; "
        "gallery.ROOT = pathlib.Path(sys.argv.pop(1)); sys.exit(gallery.main())"
    )
    line = [sys.executable, "-c", code, str(PATH.parent), str(checkout)]
    line += [f"--workdirs={checkout / 'runs'}", f"--out={checkout / 'out'}"]
    line += ["--preset=smoke", "--only=k2,k10"]
    paths = (PATH.parents[1], os.environ.get("PYTHONPATH", ""))
    own = {**os.environ, "PYTHONPATH": ":".join(map(str, paths))}
    process = subprocess.Popen(line, env=own, stdout=subprocess.PIPE, text=True)
    begun, progress = time.time(), checkout / "runs" / "k10_late" / "progress.json"
    while not progress.exists():
        assert process.poll() is None and time.time() - begun < 300
        time.sleep(0.05)
    process.terminate()
    said, _ = process.communicate()
    assert process.returncode == gallery.STOPPED, said
    assert "--config=experiments/lazy_to_rich/k10_late.py:smoke" in said
    assert "--workdir=runs/k10_late" in said
    assert not (checkout / "out").exists()
    again = subprocess.run(line, env=own, stdout=subprocess.PIPE, text=True)
    assert again.returncode == gallery.DONE
    assert "Going on from checkpoint" in again.stdout
    assert names(checkout / "out" / "summary.md") == NAMES
