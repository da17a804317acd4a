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
from grok_jax.claims import Claim
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


def test_it_is_no_page_and_every_page_of_a_paper_is_in_it():
    is_page = re.compile(r"(?m)^(def )?get_config\b")
    assert not is_page.search(PATH.read_text())
    own = load().pages()
    assert len(own) == len(set(own)) and PATH not in own
    every = {p for p in PATH.parent.rglob("*.py") if is_page.search(p.read_text())}
    tournament = {path for path in every if path.parent.name == "delay"}
    assert set(own) == every - tournament  # which is of no paper, and takes hours


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
    stored = place.with_suffix(".json")
    stored.write_text(stored.read_text().replace('"K2 ', '"Other '))
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


def test_an_installed_package_beside_a_checkout_is_told_from_another_commit(
    checkout, here, monkeypatch, capsys
):
    assert make(checkout, "--only=k2") == gallery.DONE
    monkeypatch.setattr(gallery.workdirs, "git_commit", lambda: "unknown")
    assert make(checkout, "--only=k2") == gallery.WRONG_USAGE
    assert capsys.readouterr().err == (
        "gallery: The grok_jax that is installed is not this checkout; `pip install "
        "-e .` there.\n"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--only=k3", "there is no page 'k3'; nearest: "),
        ("--preset=smok", "--preset: there is no 'smok'; nearest: smoke"),
        ("--workdir=x", "no flag --workdir; nearest: --workdirs"),
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


# its process asks after a segment whether to stop until the signal is there, so that
# the page has not ended before, however fast the machine
WAITING = """
import os, sys, time

Stopper = getattr(sys.modules["__main__"], "Stopper", None)
if Stopper and "WAIT" in os.environ:
    asked = Stopper.requested

    def requested(self):
        while not asked(self):
            time.sleep(0.01)
        return True

    Stopper.requested = requested
"""


@pytest.mark.slow
def test_sigterm_reaches_the_page_and_the_same_line_goes_on(checkout):
    """The real thing: a process for the gallery and one for each page."""
    late = checkout / "experiments" / "lazy_to_rich" / "k10_late.py"
    late.write_text(late.read_text() + WAITING)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import gallery, pathlib; "
        "gallery.ROOT = pathlib.Path(sys.argv.pop(1)); sys.exit(gallery.main())"
    )
    line = [sys.executable, "-c", code, str(PATH.parent), str(checkout)]
    line += [f"--workdirs={checkout / 'runs'}", f"--out={checkout / 'out'}"]
    line += ["--preset=smoke", "--only=k2,k10"]
    paths = (PATH.parents[1], os.environ.get("PYTHONPATH", ""))
    own = {**os.environ, "PYTHONPATH": ":".join(map(str, paths))}
    waits = {**own, "WAIT": "for the signal"}
    process = subprocess.Popen(line, env=waits, stdout=subprocess.PIPE, text=True)
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


# --- the gallery as it stands ---------------------------------------------------------


def entry(commit, preset="cpu", judged=None, holds=(True, False)):
    """An entry of the page k2_early with a claim of the paper's and one of ours."""
    claims = [
        Claim("K2a", "Fig. 2", "it falls", "x < 1", 0.5, holds[0]),
        Claim("K2b", "ours", "it rises", "x > 1", 0.5, holds[1]),
    ]
    return report.Report(
        key="k2_early",
        name="K2 early" if preset == "cpu" else f"K2 early ({preset})",
        description="a page",
        facts={
            "state": "finished",
            "command": f"... --config=experiments/lazy_to_rich/k2_early.py:{preset}",
            "runs": "2 runs",
            "duration": "1 s",
            "device": "2 x CPU",
            "git commit": commit,
        },
        settings={},
        claims=[each.as_json() | {"git_commit": judged or commit} for each in claims],
        figures={},
    )


@pytest.fixture
def published(checkout):
    """A checkout in git, and a function that makes its gallery of some entries."""

    def git(*words):
        who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=0")
        line = ["git", "-C", str(checkout), *who, *words]
        return subprocess.check_output(line, text=True).strip()

    def publish(*entries):
        plain = [each.as_json() for each in entries]
        path = checkout / "experiments" / "README.md"
        path.with_suffix(".json").write_text(json.dumps(plain))
        path.write_text(report.summary(entries))

    def commit(old="", new=""):
        page = checkout / "experiments" / "lazy_to_rich" / "k2_early.py"
        page.write_text(page.read_text().replace(old, new) if old else page.read_text())
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", "pages")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    return publish, commit


def test_totals_count_each_claim_once_by_paper_and_apart_from_ours(
    checkout, published, capsys
):
    publish, _ = published
    publish(entry("a"), entry("a", "paper", holds=(False, True)))
    coverage = checkout / "experiments" / "omnigrok" / "coverage.toml"
    coverage.write_text(
        '[[row]]\nplace = "Fig. 1"\nshows = "a scheme"\nwhy = "no data in it"\n'
        '[[row]]\nplace = "Fig. 2"\nshows = "L and U"\npage = "o1"\nclaims = ["O1"]\n'
    )
    assert gallery.main(["gallery", "--totals"]) == gallery.DONE
    said = json.loads(capsys.readouterr().out)
    none = {"claims": 0, "hold": 0}
    assert said == {
        "paper": {"claims": 1, "hold": 1},
        "ours": {"claims": 1, "hold": 0},
        "by_paper": {
            "Kumar et al. 2024": {"claims": 1, "hold": 1},
            "Liu et al. 2023": none,
            "Xu et al. 2025": none,
        },
        "not_covered": [
            {"paper": "Liu et al. 2023", "place": "Fig. 1", "why": "no data in it"}
        ],
        "waiting": ["K2 early", "K2 early (paper)"],
    }


def test_a_page_that_changed_after_its_run_needs_a_line_with_its_reason(
    checkout, published, capsys
):
    """Its docstring and its figure may change; settings and claims may not."""
    publish, commit = published
    first = commit()
    publish(entry(first))

    def check():
        status = gallery.main(["gallery", "--check"])
        return status, capsys.readouterr().out.splitlines()

    assert check() == (gallery.DONE, ["0 pages of the gallery to explain."])
    commit("return Figure()", "return {'a': Figure()}")
    assert check()[0] == gallery.DONE
    commit("steps=48", "steps=50")
    status, said = check()
    assert status == gallery.FAILED and len(said) == 2
    assert f"k2_early.py has changed since its run at {first[:10]}" in said[0]
    log = checkout / "experiments" / "lazy_to_rich" / "CHANGES.md"
    log.write_text("- k2_early (since 0123456789): other steps, since ...\n")
    assert check()[0] == gallery.FAILED  # of another run
    log.write_text(f"- k2_early (since {first[:10]}): other steps, since ...\n")
    assert check()[0] == gallery.DONE


def test_a_preset_decides_nothing_about_a_run_at_another():
    page = """
BASE = dict(steps={})
WIDE = dict(width={})
get_config = presets(BASE, smoke=dict(steps=1), paper=WIDE)
def claims(results): return []
"""
    first, wider, longer = page.format(5, 1), page.format(5, 2), page.format(6, 1)

    def alike(other, preset):
        pair = (gallery.what_decides(text, preset) for text in (first, other))
        return next(pair) == next(pair)

    assert alike(wider, "cpu") and not alike(wider, "paper")
    assert not alike(longer, "cpu") and not alike(longer, "paper")


def test_settings_that_a_preset_replaces_decide_nothing_about_its_run():
    page = """
get_config = presets(
    dict(train=dict(steps={}, records={}), sweep=dict(seed=(0, 1))),
    paper=dict(train=dict(steps=100), sweep=dict(seed=(7,), width={})),
)
"""
    first, steps = page.format(5, 2, 3), page.format(6, 2, 3)
    records, widths = page.format(5, 3, 3), page.format(5, 2, 4)

    def alike(other, preset):
        return gallery.what_decides(first, preset) == gallery.what_decides(
            other, preset
        )

    assert alike(steps, "paper") and not alike(steps, "cpu")
    assert not alike(records, "paper") and not alike(records, "cpu")
    assert not alike(widths, "paper") and alike(widths, "cpu")


def test_settings_that_a_preset_is_merged_with_decide_about_its_run():
    page = """
get_config = presets(
    dict(arms={{"a": dict(width={})}}, sweep=WIDE, task=dict(size={})),
    paper=dict(arms={{"a": dict(depth=2)}}, sweep=dict(seed=(7,)), task=OTHER),
)
"""
    first = gallery.what_decides(page.format(1, 1), "paper")
    assert gallery.what_decides(page.format(2, 1), "paper") != first
    assert gallery.what_decides(page.format(1, 2), "paper") != first


@pytest.mark.parametrize("flag", ["totals", "check", "arrange"])
def test_an_installed_package_has_no_gallery_to_ask_about(flag, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "CHECKOUT", False)
    assert gallery.main(["gallery", f"--{flag}"]) == gallery.WRONG_USAGE
    said = "gallery: --totals, --check and --arrange need a checkout.\n"
    assert capsys.readouterr().err == said


def test_claims_that_another_page_tested_are_named(checkout, published, capsys):
    publish, commit = published
    first = commit()
    second = commit('"at all"', '"for long"')
    third = commit('"for long"', '"at all"')
    publish(entry(first, judged=second))
    assert gallery.main(["gallery", "--check"]) == gallery.FAILED
    assert "its claims were tested by another" in capsys.readouterr().out
    publish(entry(first, judged=third))
    assert gallery.main(["gallery", "--check"]) == gallery.DONE


def test_claims_tested_anew_wait_for_no_run_but_need_their_reason(
    checkout, published, capsys
):
    """A page of other claims shows what these say of the results that are there; one
    of other settings has none."""
    publish, commit = published
    first = commit()
    second = commit('"at all"', '"for long"')

    def waiting():
        assert gallery.main(["gallery", "--totals"]) == gallery.DONE
        return json.loads(capsys.readouterr().out)["waiting"]

    publish(entry(first))
    assert waiting() == ["K2 early"]
    publish(entry(first, judged=second))
    assert waiting() == []
    assert gallery.main(["gallery", "--check"]) == gallery.FAILED
    capsys.readouterr()
    third = commit("steps=48", "steps=50")
    assert waiting() == ["K2 early"]
    publish(entry(first, judged=third))
    assert waiting() == ["K2 early"]


def test_the_table_of_what_the_papers_show_stays_in_the_gallery(checkout, published):
    publish, commit = published
    now = entry(commit())
    publish(now)
    coverage = checkout / "experiments" / "lazy_to_rich" / "coverage.toml"
    coverage.write_text(
        '[[row]]\nplace = "Fig. 2"\nshows = "it | falls"\npage = "k2_early"\n'
        'claims = ["K2a", "K2b", "K2c"]\n'
        '[[row]]\nplace = "Fig. 3"\nshows = "a scheme"\nwhy = "no data"\n'
    )
    path = checkout / "experiments" / "README.md"
    for _ in range(2):  # the second time in place of the first
        assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
        text = path.read_text()
        assert text.count("### Kumar et al. 2024\n") == 1
        assert "| Fig. 3 | a scheme | - |  | no data |" in text
        row = "| Fig. 2 | it \\| falls | [k2\\_early](#k2-early) | "
        assert row + "K2a: yes, K2b (ours): **NO**, K2c: not run yet |  |" in text
        assert text.index("### Kumar") < text.index("## K2 early")
    report.write([now], None, path)
    assert path.read_text() == text
    commit("steps=48", "steps=50")  # its claims are those of another page now
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    assert "K2a: not run yet, K2b: not run yet" in path.read_text()


def test_what_does_not_hold_stands_with_its_reason(checkout, published):
    publish, commit = published
    now = entry(commit())
    lost = [{**now.claims[0], "holds": False}, *now.claims[1:]]
    path = checkout / "experiments" / "README.md"
    publish(now._replace(claims=now.claims[:1]))
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    assert "What does not hold" not in path.read_text()
    publish(now)
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    assert "| [K2b (ours)](#k2-early) | it rises | open |" in path.read_text()
    publish(now._replace(claims=lost))
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    says = f"| [K2a](#k2-early) | {now.claims[0]['statement']} |"
    assert f"{says} open |  |" in path.read_text()
    (checkout / "experiments" / "lazy_to_rich" / "failed.toml").write_text(
        '[[failed]]\nclaims = ["K2a"]\ntells = "seed"\nwhy = "one | of three"\n'
    )
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    assert f"{says} seed | one \\| of three |" in path.read_text()


def test_each_claim_that_does_not_hold_has_a_reason_and_no_other():
    real = load()
    for paper in real.PAPERS:
        there = {(c["id"], real.page_of(entry)[2]) for entry, c in real.failing(paper)}
        every = {
            (claim["id"], real.page_of(entry)[2])
            for entry in real.report.stored(real.summary_file())
            for claim in entry.claims
            if not claim["holds"]
        }
        rows = real.failed(paper)
        told = [(c, row.get("preset")) for row in rows for c in row["claims"]]
        assert len(told) == len(set(told))
        assert all({(id, preset), (id, None)} & set(told) for id, preset in there)
        for id, preset in told:
            assert (id, preset) in every or (preset is None and id in dict(every))
        kinds = {row["tells"] for row in real.failed(paper)}
        assert kinds <= {"scale", "setting", "precision", "seed", "reading", "open"}


def test_the_gallery_has_the_order_of_the_pages_and_begins_with_some_figures(
    checkout, published, monkeypatch
):
    publish, commit = published
    early, figures = entry(commit()), {"figure": b""}
    facts = early.facts | {"command": "--config=experiments/omnigrok/o1_other.py:cpu"}
    other = early._replace(key="o1", name="O1", facts=facts)
    publish(other, entry("a", "paper"), early._replace(figures=figures))
    monkeypatch.setattr(gallery, "FIRST", ("k2_early", "o1_other"))
    assert gallery.main(["gallery", "--arrange"]) == gallery.DONE
    path = checkout / "experiments" / "README.md"
    names = [each.name for each in report.stored(path)]
    assert names == ["K2 early", "K2 early (paper)", "O1"]
    first, _, rest = path.read_text().partition("## What the papers show")
    shown = "![figure of K2 early: a page](figures/k2_early_figure.png)"
    assert shown in first and shown in rest and "(figures/o1" not in first
    assert "*[K2 early](#k2-early): 1 of 1 claims of the paper hold.*" in first
    assert "Pages that have changed" in first
    assert "another run: [K2 early (paper)](#k2-early-paper), [O1](#o1)." in first


def test_the_gallery_here_is_of_the_pages_here_or_the_log_says_why():
    own = load()
    if own.at_commit("HEAD", "README.md") == "":
        pytest.skip("no history of the checkout here")
    assert list(own.unexplained()) == []
    assert "--workdir=/" not in own.summary_file().read_text()  # where one can go on
    assert own.summary_file().read_text() == report.summary(
        report.stored(own.summary_file()), report.kept(own.summary_file().read_text())
    )


def test_no_figure_lies_about_that_nothing_shows():
    """Of a page that is gone, or under an older name."""
    folder = PATH.parent
    texts = [*folder.glob("*.md"), PATH.parents[1] / "README.md"]
    said = "".join(path.read_text(encoding="utf-8") for path in texts)
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {name for name in names if name not in said} == set()
