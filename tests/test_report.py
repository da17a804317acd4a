"""The report: everything a run folder says, in one page and one Markdown file, and a
sentence where a folder is not whole."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from grok_jax import plot, report
from grok_jax.claims import Claim
from grok_jax.engine import workdirs

ABOUT = dict(
    name="K9 <laziness>",
    description="delay | alpha & epsilon",
    config={"model.name": "committee", "sweep": {"seed": [[0], [1]]}},
    command="python -m grok_jax.launch --config=k9.py --workdir='runs/a b'",
    versions={"grok_jax": "0.1.0", "jax": "0.10.2"},
    device="2 x CPU (x86_64)",
    precision={"matmul": "highest", "float": 32},
    git_commit="8aa423b-dirty",
    started="2026-11-22T17:40:57+0000",
)
CLAIMS = [
    Claim("K9a", "Fig. 9", "a < b", ">= 5x", {"x": 1234.5, "y": float("nan")}, True),
    Claim(
        "K9b", "ours", "never", "strictly", np.array([0.5, 0.25]), False, "all of it"
    ),
]


def as_launched(commit=ABOUT["git_commit"]):
    """The claims as the launcher writes them."""
    return [claim.as_json() | {"git_commit": commit} for claim in CLAIMS]


def write_json(path, content):
    path.write_text(json.dumps(content))


@pytest.fixture
def workdir(tmp_path):
    """A finished run of six, one of which diverged."""
    folder = workdirs.Workdir(tmp_path / "k9 run")
    folder.create()
    write_json(folder.config, ABOUT)
    write_json(folder.claims, as_launched())
    dims, shape = ("alpha", "seed"), (3, 2)
    times = np.where(np.arange(6).reshape(shape) < 4, 10.0, np.nan)
    results = xr.Dataset(
        {
            "t_train": (dims, np.full(shape, 3.0)),
            "t_test": (dims, times),
            "diverged": (dims, np.arange(6).reshape(shape) == 5),
        },
        attrs={"seconds": 75.2},
    )
    workdirs.write_results(folder.results, results)
    for name in ("figure_D100", "figure_D25"):
        figure = plt.figure(figsize=(1, 1))
        figure.savefig(folder.figures / f"{name}.png")
        plt.close(figure)
    return folder


@pytest.fixture
def unfinished(tmp_path):
    folder = workdirs.Workdir(tmp_path / "going")
    folder.create()
    write_json(folder.config, ABOUT)
    progress = dict(runs=6, memorised=4, generalised=1, diverged=0)
    steps = dict(seconds=30.0, run_steps=42, run_steps_total=100, rate=1.0, eta=58.0)
    write_json(folder.progress, {**progress, **steps, "at": 0.0})
    return folder


class Page(HTMLParser):
    """The elements and the text of a page; refuses tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def written(out, *folders, more=()):
    line = ["report", *(str(each.path) for each in folders), f"--out={out}", *more]
    assert report.main(line) == report.DONE
    return (out / "index.html").read_text(encoding="utf-8")


def test_the_page_says_what_was_claimed_measured_and_how_it_was_run(workdir, tmp_path):
    page = Page(written(tmp_path / "out", workdir))
    text = " ".join(page.text)
    for words in (
        *(
            "1 of 1 claims of papers hold, 0 of 1 of our own",
            "K9 <laziness>",
            "delay | alpha & epsilon",
        ),
        *("K9a", "Fig. 9", "a < b", ">= 5x", "x: 1,234", "y: never", "0.5, 0.25"),
        "never (Not tested: all of it.)",
        *("6 runs, 6 memorised, 4 generalised, 1 diverged", "1 min 15 s", "finished"),
        *(ABOUT["command"], ABOUT["device"], ABOUT["git_commit"], ABOUT["started"]),
        *("float32, matmul precision highest", "jax 0.10.2", "model.name"),
    ):
        assert words in text, words
    marks = {a["class"]: None for a in page.all("span")}
    assert list(marks) == ["yes", "no"] and "NO" in page.text


def test_the_page_needs_nothing_beside_itself(workdir, tmp_path):
    text = written(tmp_path / "out", workdir)
    page = Page(text)
    images = page.all("img")
    assert len(images) == 2
    for image, name in zip(images, ("figure_D25", "figure_D100"), strict=True):
        assert name in image["alt"] and "K9 <laziness>" in image["alt"]
        data = image["src"].removeprefix("data:image/png;base64,")
        source = workdir.figures / f"{name}.png"
        assert base64.b64decode(data) == source.read_bytes()
    assert not page.all("link") and not page.all("script") and "url(" not in text
    links = {a["href"] for a in page.all("a") if not a["href"].startswith("#")}
    assert links == {"explore/k9%20run.html"}
    assert "prefers-color-scheme:dark" in text and "max-width:44rem" in text
    assert {"width=device-width,initial-scale=1"} <= {
        a.get("content") for a in page.all("meta")
    }


def test_the_report_says_from_which_commit_it_is(workdir, unfinished, tmp_path):
    out = tmp_path / "out"
    text = written(out, workdir, unfinished)
    for said in (text, (out / "summary.md").read_text()):
        assert "All from commit 8aa423b-dirty." in said
    write_json(unfinished.config, {**ABOUT, "name": "K8", "git_commit": "17bc"})
    text = written(out, workdir, unfinished)
    for said in (text, (out / "summary.md").read_text()):
        assert "From several commits: 8aa423b-dirty (1), 17bc (1)." in said


def test_every_link_leads_somewhere_on_the_page(workdir, unfinished, tmp_path):
    page = Page(written(tmp_path / "out", workdir, unfinished))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.all("a")]
    inside = [link.removeprefix("#") for link in links if link.startswith("#")]
    assert len(inside) == 3 and set(inside) == set(ids)
    beside = {unquote(link) for link in links if not link.startswith("#")}
    assert beside == {"explore/k9 run.html"}  # of the finished one alone
    assert all((tmp_path / "out" / link).is_file() for link in beside)
    assert len([*(tmp_path / "out" / "explore").iterdir()]) == 1


def test_a_figure_has_what_it_shows_as_alternative_text(workdir, tmp_path):
    """In the page, and in a summary also once the run folder is gone."""
    figure, axes = plot.panels(1, 1)
    axes[0, 0].plot([0, 1], label="train")
    axes[0, 0].set(title="α <small>", xlabel="step", ylabel="loss")
    plot.save(figure, workdir.figures / "figure_D25.png")
    said = "figure_D25 of K9 <laziness>: delay | alpha & epsilon. "
    said += "α <small>: loss against step (train)"
    page = Page(written(tmp_path / "out", workdir))
    assert next(image["alt"] for image in page.all("img")) == said
    path = tmp_path / "all.md"
    assert report.main(["report", str(workdir.path), f"--summary={path}"]) == 0
    before = path.read_text()
    assert report.as_markdown(said) in before
    write_json(workdir.config, {**ABOUT, "name": "Another"})
    assert report.main(["report", str(workdir.path), f"--summary={path}"]) == 0
    assert report.as_markdown(said) in path.read_text()


def test_an_interactive_page_that_cannot_be_written_is_named(workdir, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "explore").write_text("mine")
    line = ["report", str(workdir.path), f"--out={tmp_path / 'out'}"]
    assert report.main(line) == report.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and error.count("\n") == 1
    assert "explore/k9 run.html cannot be written: " in error


def test_only_a_page_has_interactive_pages_beside_it(workdir, tmp_path):
    path = tmp_path / "new" / "a.md"
    assert report.main(["report", str(workdir.path), f"--summary={path}"]) == 0
    assert "explore" not in path.read_text()
    assert not (path.parent / "explore").exists()


def test_the_summary_refers_to_figures_that_lie_beside_it(workdir, tmp_path):
    out, gallery = tmp_path / "out", tmp_path / "gallery"
    written(out, workdir)
    written(tmp_path / "page", workdir, more=[f"--summary={gallery}/README.md"])
    assert not (tmp_path / "page" / "figures").exists()
    for path in (out / "summary.md", gallery / "README.md"):
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
        assert len(links) == 2
        for link in links:
            assert (path.parent / link.replace("%20", " ")).is_file()
    assert "| K9a | Fig. 9 | a \\< b | >= 5x | x: 1,234<br>y: never | yes |" in text
    said = "never (Not tested: all of it.) | strictly | 0.5, 0.25"
    assert f"| K9b | ours | {said} | **NO** |" in text
    assert "delay \\| alpha & epsilon" in text
    rows = [line for line in text.splitlines() if line.startswith("| K9")]
    assert all(line.count(" | ") == 5 for line in rows)


def test_the_summary_may_be_all_that_is_asked_for(workdir, tmp_path):
    line = ["report", str(workdir.path), f"--summary={tmp_path / 'new' / 'a.md'}"]
    assert report.main(line) == report.DONE
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"a.json", "a.md", "figures"}


def test_an_unfinished_run_is_shown_with_its_progress_and_no_claims(
    unfinished, workdir, tmp_path
):
    shutil.copy(workdir.claims, unfinished.claims)  # of an earlier state: not shown
    page = Page(written(tmp_path / "out", unfinished, workdir))
    text = " ".join(page.text)
    assert "UNFINISHED: 42% of the steps done, at most 58 s left" in text
    assert "6 runs, 4 memorised, 1 generalised, 0 diverged" in text
    assert "1 of 1 claims of papers hold, 0 of 1 of our own" in text
    assert len(page.all("section")) == 2 and len(page.all("table")) == 2


def test_a_run_without_any_step_or_with_untested_claims_is_shown(
    unfinished, workdir, tmp_path
):
    unfinished.progress.unlink()
    workdir.claims.unlink()
    text = written(tmp_path / "out", unfinished, workdir)
    assert "UNFINISHED: no step yet" in text
    assert "finished, claims not tested" in text
    assert "Report: no claims" in text


def test_folders_of_one_name_do_not_overwrite_each_other(workdir, tmp_path):
    other = workdirs.Workdir(tmp_path / "other" / workdir.path.name)
    shutil.copytree(workdir.path, other.path)
    written(tmp_path / "out", workdir, other)
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {
        f"k9 run-{number}_figure_D{size}.png" for number in (1, 2) for size in (25, 100)
    }
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "## K9 \\<laziness>, k9 run-1" in summary and "k9 run-2\n" in summary
    assert "# Report: 2 of 2 claims of papers hold, 0 of 2 of our own" in summary


def test_names_that_differ_in_punctuation_alone_keep_sections_of_their_own(
    workdir, unfinished, tmp_path
):
    write_json(unfinished.config, {**ABOUT, "name": "K9 laziness"})
    page = Page(written(tmp_path / "out", workdir, unfinished))
    assert len({each["id"] for each in page.all("section")}) == 2


def test_text_that_looks_like_html_is_shown_as_it_is(workdir, tmp_path):
    write_json(workdir.config, {**ABOUT, "description": "a &lt; b, <b>c</b> & d"})
    page = Page(written(tmp_path / "out", workdir))
    assert "a &lt; b, <b>c</b> & d" in "".join(page.text)


def test_a_cell_says_its_column_where_a_row_is_a_card(workdir, tmp_path):
    page = Page(written(tmp_path / "out", workdir))
    assert [a["class"] for a in page.all("table")] == ["overview", "claims"]
    assert {a["scope"] for a in page.all("th")} == {"col"}
    labels = [a["data-label"] for a in page.all("td")]
    assert labels == [*report.HEAD, *report.COLUMNS, *report.COLUMNS]
    assert [a["style"] for a in page.all("img")] == ["--wide:66px"] * 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES = {
    "no folder": (lambda w: shutil.rmtree(w.path), "There is no folder"),
    "no config": (lambda w: w.config.unlink(), "holds no config.json"),
    "half a config": (lambda w: truncate(w.config), "config.json is missing or not"),
    "other config": (lambda w: write_json(w.config, {"a": 1}), "this version"),
    "config no mapping": (lambda w: write_json(w.config, [1]), "this version"),
    "half results": (lambda w: truncate(w.results), "results.nc is truncated"),
    "other results": (
        lambda w: workdirs.write_results(w.results, xr.Dataset({"a": 1})),
        "this version",
    ),
    "half the claims": (lambda w: truncate(w.claims), "claims.json is missing or not"),
    "claims without field": (
        lambda w: write_json(w.claims, [{"id": "K9a"}]),
        "claims.json is damaged",
    ),
    "no figure": (
        lambda w: (w.figures / "figure_D25.png").write_bytes(b"IEND\xaeB`\x82"),
        "is not a PNG file",
    ),
    "half a figure": (lambda w: truncate(w.figures / "figure_D25.png"), "truncated"),
}


def test_a_folder_of_runs_among_runs_is_left_out_and_said(workdir, tmp_path, capsys):
    gallery = tmp_path / "gallery"
    shutil.copytree(workdir.path, gallery / "k9")
    out = tmp_path / "out"
    line = ["report", str(workdir.path), str(gallery), f"--out={out}"]
    assert report.main(line) == report.DONE
    said = f"Left out: {gallery} holds no run but folders of runs.\n"
    assert capsys.readouterr().out.startswith(said)
    assert [each.key for each in report.stored(out / "summary.md")] == ["k9 run"]
    assert report.main(["report", str(gallery), f"--out={out}"]) == report.WRONG_USAGE
    assert "holds no config.json" in capsys.readouterr().err


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_folder_is_refused_and_nothing_written(
    case, workdir, unfinished, tmp_path, capsys
):
    damage, said = DAMAGES[case]
    damage(workdir)
    out = tmp_path / "out"
    line = ["report", str(unfinished.path), str(workdir.path), f"--out={out}"]
    assert report.main(line) == report.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and said in error
    assert error.count("\n") == 1 and error.endswith(".\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out=o"], "WORKDIR"),
        (["{}"], "Give --out=DIR"),
        (["{}", "--aut=o"], "no flag --aut; nearest: --out"),
        (["{}", "--out"], "out"),
        (["{}", "--out={}"], "is a run folder"),
        (["{}", "--summary={}/a.md"], "is a run folder"),
        (["{}", "--out={}/config.json"], "cannot be written"),
    ],
)
def test_a_bad_line_is_refused(
    arguments, said, unfinished, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = [word.format(unfinished.path) for word in arguments]
    before = sorted(tmp_path.rglob("*"))
    assert report.main(["report", *line]) == report.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("grok_jax: ") and said in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_folder_may_end_in_a_slash_or_be_the_current_one(
    workdir, tmp_path, monkeypatch
):
    monkeypatch.chdir(workdir.path)
    assert report.main(["report", ".", "--out=../out"]) == report.DONE
    monkeypatch.chdir(tmp_path)
    assert report.main(["report", "k9 run/", "--out=again"]) == report.DONE
    one, other = (Path(name, "index.html").read_text() for name in ("out", "again"))
    assert one == other


def test_a_file_that_is_no_summary_is_left_as_it_is(workdir, tmp_path, capsys):
    path = tmp_path / "notes.md"
    path.write_text("## Mine\n\n## Yours\n")
    line = ["report", str(workdir.path), f"--summary={path}"]
    assert report.main(line) == report.WRONG_USAGE
    assert "is not a summary of reports" in capsys.readouterr().err
    assert path.read_text() == "## Mine\n\n## Yours\n"
    assert list(tmp_path.glob("figures")) == []


def test_a_summary_keeps_what_it_says_of_other_experiments(workdir, tmp_path):
    """Those in the JSON beside it, in their place, and the lines marked as kept."""
    path, other = tmp_path / "gallery.md", workdirs.Workdir(tmp_path / "other")
    shutil.copytree(workdir.path, other.path)
    write_json(other.config, {**ABOUT, "name": "Another"})
    assert report.main(["report", str(other.path), f"--summary={path}"]) == 0
    marked = "<!-- kept -->\n## Mine\n<!-- /kept -->\n"
    text = path.read_text()
    path.write_text(text.replace("## Another", marked + "## Another"))
    shutil.rmtree(other.path)
    line = ["report", str(workdir.path), f"--summary={path}"]
    assert report.main(line) == 0
    both = path.read_text()
    assert re.findall(r"^## (.*)", both, re.M) == ["Mine", "Another", "K9 \\<laziness>"]
    assert both.startswith(
        "# Report: 2 of 2 claims of papers hold, 0 of 2 of our own\n"
    )
    assert marked in both and text[text.index("## Another") :] in both
    assert report.main(line) == 0  # in its place, not once more
    assert path.read_text() == both


@pytest.mark.parametrize("damage", ["{", '[{"key": "k9"}]', "missing"])
def test_a_summary_without_its_json_is_left_alone(damage, workdir, tmp_path, capsys):
    path = tmp_path / "gallery.md"
    line = ["report", str(workdir.path), f"--summary={path}"]
    assert report.main(line) == 0
    before, stored = path.read_text(), path.with_suffix(".json")
    stored.unlink()
    if damage != "missing":
        stored.write_text(damage)
    assert report.main(line) == report.WRONG_USAGE
    assert str(stored) in capsys.readouterr().err and path.read_text() == before


def test_the_presets_of_a_page_stand_side_by_side(workdir, tmp_path):
    path, folders = tmp_path / "gallery.md", []
    named = (("cpu", "K9"), ("cpu", "K10"), ("paper", "K9"), ("paper", "K1"))
    for number, (preset, name) in enumerate(named):
        folders.append(workdirs.Workdir(tmp_path / f"run {number}"))
        shutil.copytree(workdir.path, folders[-1].path)
        write_json(folders[-1].config, {**ABOUT, "name": name, "preset": preset})
    line = ["report", *(str(each.path) for each in folders), f"--summary={path}"]
    assert report.main(line) == report.DONE
    found = re.findall(r"^## (.*)", path.read_text(), re.M)
    assert found == ["K9", "K9 (paper)", "K10", "K1 (paper)"]


def test_figures_of_a_run_that_is_replaced_go_with_it(workdir, tmp_path):
    path = tmp_path / "gallery.md"
    line = ["report", str(workdir.path), f"--summary={path}"]
    assert report.main(line) == report.DONE
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    (workdir.figures / "figure_D25.png").unlink()
    assert report.main(line) == report.DONE
    left = {each.name for each in (tmp_path / "figures").iterdir()}
    assert left == {"k9 run_figure_D100.png", "mine.png"}


def test_claims_tested_by_another_commit_say_so(workdir, tmp_path):
    assert "claims tested at" not in written(tmp_path / "out", workdir)
    write_json(workdir.claims, as_launched("17bc"))
    assert "claims tested at: 17bc" in written(tmp_path / "out", workdir)


def test_a_preset_that_is_too_small_decides_nothing():
    claims = [dict(place="Fig. 1", holds=True), dict(place="ours", holds=False)]
    own = dict(key="k", description="", facts={}, settings={}, figures={})
    whole, smoke = (
        report.Report(name=f"K1{preset}", claims=claims, **own)
        for preset in ("", " (smoke)")
    )
    both = "1 of 1 claims of papers hold, 0 of 1 of our own"
    assert report.verdict([whole]) == both
    assert report.verdict([whole, smoke]) == f"{both}; smoke decides none"
    assert report.verdict([smoke]) == "no claims; smoke decides none"
