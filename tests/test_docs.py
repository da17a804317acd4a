"""The documentation: its code runs as it stands, tutorials end, the site is whole."""

import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import numpy as np
import pytest

import grok_jax
from grok_jax import cli, experiment, grok_transfer, launch, settings, train
from grok_jax.engine import completion, config, session
from grok_jax.engine.override import apply_overrides

ROOT = Path(grok_jax.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))


def blocks(path, language):
    """The fenced blocks of a page in one language."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.M)


def named(path):
    return str(path.relative_to(DOCS))


def imported(name):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def as_a_reader(tmp_path, monkeypatch):
    """In an empty folder, with a module in which what is defined can be found again."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("reader")
    monkeypatch.setitem(sys.modules, "reader", module)
    with jax.numpy_rank_promotion("allow"):
        yield module.__dict__


WITH_CODE = [path for path in PAGES if blocks(path, "python")]


@pytest.mark.parametrize("path", WITH_CODE, ids=named)
def test_the_code_of_a_page_runs_block_after_block(path, as_a_reader):
    for number, block in enumerate(blocks(path, "python"), start=1):
        exec(compile(block, f"{named(path)}, block {number}", "exec"), as_a_reader)


def test_how_to_pages_have_code():
    assert {"own_parts", "sweeps", "results", "kernels", "transfer", "resume"} <= {
        path.stem for path in WITH_CODE
    }


def test_a_reader_may_follow_several_pages_in_one_folder():
    """Another sweep in a folder that holds one would be refused."""
    places = {"runs/mine": DOCS / "how_to" / "command.md"}  # of its mine.yaml
    for path in WITH_CODE:
        for place in re.findall(r'"(runs/\w+)', "".join(blocks(path, "python"))):
            assert places.setdefault(place, path) == path
    assert len(places) > 3


def commands():
    """(page, words) of each command in the shell blocks of the pages."""
    for path in PAGES:
        for block in blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield named(path), words


def launches():
    """(page, experiment, overrides and flags) of each run of a page that exists."""
    for page, words in commands():
        if words[:2] == ["grok-jax", "run"]:
            yield page, words[2], words[3:]
        elif "grok_jax.launch" in words:
            (chosen,) = (word for word in words if word.startswith("--config="))
            yield page, str(ROOT / chosen.removeprefix("--config=")), words[3:]


@pytest.mark.parametrize("page, chosen, words", [*launches()])
def test_a_launch_that_a_page_shows_has_a_page_and_known_settings(page, chosen, words):
    _, overrides = launch.split_overrides(words)
    experiment, preset = launch.load_experiment(chosen)
    made = session.get_config(experiment, preset)
    assert config.resolve(apply_overrides(made, overrides)).plan.grid.dims


def test_the_command_is_shown_with_words_that_it_knows():
    shown = [words for _, words in commands() if words[0] == "grok-jax"]
    assert {words[1] for words in shown} >= {"run", "watch", "report", "pages"}
    for words in shown:
        assert words[1] in cli.COMMANDS
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        known = {flag.rstrip("=.") for flag in completion.FLAGS.get(words[1], ())}
        assert {name.partition(".")[0] for name in given} <= known


def test_commands_name_files_that_exist():
    words = [word for _, line in commands() for word in line if word[0] != "-"]
    seen = [word for word in words if re.search(r"\.(py|sh)$", word)]
    assert seen
    assert not [word for word in seen if not (ROOT / word).exists()]


def grows(delays):
    return bool((delays.diff("output_scale") > 0).all())


SEEN = {
    "first_sweep": lambda of: grows(of["pages"].delay(of["timed"]).median("seed")),
    "own_model": lambda of: (
        of["results"].relevant_share.isel(step=-1).diff("decay") > 0.5
    ).all(),
    "kernel_alignment": lambda of: of["history"].distance.max() < 1e-3,
    "weight_norm": lambda of: 0.3 < of["found"].norm < 2,
    "embedding_transfer": lambda of: grokked_sooner(of["results"]),
}
"""What a reader was told to see, of what a tutorial has defined at its end."""


def grokked_sooner(results):
    last = results.t_test.fillna(np.inf).max("seed")
    return last.sel(arm="GrokTransfer") < last.sel(arm="scratch")


FIRST = "first_sweep"
"""The tutorial that every run of the tests runs; `.ci/run` runs them all."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem == FIRST else pytest.mark.slow)
        for path in TUTORIALS
    ],
    ids=lambda path: path.stem,
)
def test_a_tutorial_runs_draws_and_shows_what_it_says(path, as_a_reader, monkeypatch):
    pytest.importorskip("jupytext")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebooks = imported("notebooks")
    first, *_, last = notebooks.cells(path)
    assert first[0] == last[0] == "markdown"
    assert "You will see" in first[1] and "## Try" in last[1]
    files = notebooks.shown(path, names=as_a_reader)
    assert {f"{path.stem}.md", f"{path.stem}_1.png"} <= set(files)
    assert SEEN[path.stem](as_a_reader)


def test_there_are_five_tutorials_and_the_index_names_them():
    index = (DOCS / "tutorials" / "index.md").read_text()
    assert len(TUTORIALS) == 5
    assert all(f"({path.name})" in index for path in TUTORIALS)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_to_files_of_the_repository_as_well(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.M)
    links = re.findall(r"\]\(([^)#:\s]+)[)#]", text)
    assert not [link for link in links if not (path.parent / link).exists()]


def test_every_page_of_the_site_and_every_public_module_has_its_place():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert not [named(path) for path in PAGES if named(path) not in nav]
    told = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    names = {found.name for found in pkgutil.iter_modules(grok_jax.__path__)}
    others = {"engine", "cli", "watch"}  # commands say it themselves, with --help
    modules = {name for name in names - others if name[0] != "_"}
    assert modules == set(re.findall(r"^::: grok_jax\.(\w+)$", told, re.M))


def test_every_shared_setting_is_explained():
    told = set(re.findall(r"`(\w+)`", (DOCS / "how_to" / "settings.md").read_text()))
    shared = [*experiment.FIXED.values(), *config.SHARED.values()]
    makes = [*shared, grok_transfer.Transfer, experiment.Rhythm, train.threshold]
    names = {name for make in makes for name in settings.schema(make)}
    assert names - told == set()


def test_every_page_of_the_gallery_is_in_a_theory():
    told = "".join(path.read_text() for path in (DOCS / "theories").glob("*.md"))
    shown = set(re.findall(r"<!-- figure: (\w+)", told))
    found = (ROOT / "experiments").glob("*/*.py")
    assert shown == {path.stem for path in found if path.parent.name != "delay"}


def test_the_house_is_drawn_from_its_imports():
    pytest.importorskip("networkx")
    house = imported("house")
    graph = house.rooms("grok_jax")
    boxes, storeys = house.floors(graph)
    height = {box: level for level, row in enumerate(storeys) for box in row}
    assert ("ntk", "tree") in graph.edges and ("types", "ntk") not in graph.edges
    assert all(height[upper] > height[lower] for upper, lower in boxes.edges)
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", house.svg(graph, "the house"))
    assert sorted(", ".join(drawn).split(", ")) == sorted(graph)


class Links(HTMLParser):
    """The ids of a page of the site, and where its links, pictures and scripts lead."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.without_alt = set(), [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.ids |= {about.get("id"), about.get("name")}
        if tag == "a" and about.get("href"):
            self.links.append(about["href"])
        if tag in ("img", "script") and about.get("src"):
            self.loaded.append(about["src"])
        if tag == "link" and about.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(about["href"])
        self.without_alt += tag == "img" and not about.get("alt")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `mkdocs build --strict` makes it, but that no tutorial is run."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", folder]
    given = {**os.environ, "RUN_TUTORIALS": "0", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Links(path.read_text()) for path in folder.rglob("*.html")}
    return folder, pages


def test_no_link_of_the_site_is_broken(site):
    _, pages = site
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)) if parts.path else path
            target = target.resolve()
            ids = pages[target].ids if target in pages else set()
            there = not parts.fragment or unquote(parts.fragment) in ids
            if not (target.is_file() and there):
                broken.append((path.name, link))
    assert not broken


def test_the_site_needs_no_network_and_names_what_its_pictures_show(site):
    folder, pages = site
    remote = [link for page in pages.values() for link in page.loaded if "//" in link]
    assert not remote
    assert not [path for path, page in pages.items() if page.without_alt]
    styles = [path.read_text() for path in folder.rglob("*.css")]
    assert not [text for text in styles if "url(http" in text or "@import" in text]


def test_the_site_shows_what_the_gallery_says_now(site):
    from experiments import gallery

    folder, _ = site
    shown = (folder / "theories" / "lazy_to_rich.html").read_text()
    count = gallery.totals()["by_paper"]["Kumar et al. 2024"]
    assert f"Of {count['claims']} claims" in shown
    assert f"<strong>{count['hold']} hold</strong>" in shown
    for entry in gallery.report.stored(gallery.summary_file()):
        paper, _, preset = gallery.page_of(entry)
        if paper == "lazy_to_rich" and preset == "cpu" and entry.claims:
            assert f"<td>{entry.claims[0]['id']}</td>" in shown


def test_a_mark_that_names_nothing_fails_the_build():
    errors = pytest.importorskip("mkdocs.exceptions")
    hooks = imported("hooks")
    for mark in (hooks.figure, hooks.verdicts, hooks.help_of, hooks.parts):
        with pytest.raises(errors.PluginError, match="there is no"):
            mark("no_such_thing", "index.md")
    with pytest.raises(errors.PluginError, match="has no figure"):
        hooks.figure("k3_laziness nothing", "index.md")
