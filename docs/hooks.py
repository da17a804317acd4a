"""What mkdocs asks while it builds the site.

A page in docs/ says with a comment where something goes that is made from the
repository as it is now, so that no number and no verdict is typed by hand:

    <!-- figure: k3_laziness -->            a gallery entry: its figure, what held
    <!-- figure: k4_decomposition D25 -->   the figure whose name ends so
    <!-- verdicts -->                       how many claims hold, paper by paper
    <!-- verdicts: omnigrok -->             so for one paper, in a sentence
    <!-- house: grok_jax.engine -->         the drawing of its imports
    <!-- help: grok_jax.launch -->          what its --help says
    <!-- parts: model -->                   the built-in parts of a kind, their settings
    <!-- delay: winner -->                  numbers of the tournament (`delay.account`)
    <!-- delay: figure runs -->             one of its figures

Files from outside docs/ (the gallery, CONTRIBUTING.md) are shown at their own place in
the repository, and tutorials are run and shown with what they print and draw. Links are
right in the repository, and are led to those places.
"""

import ast
import functools
import importlib.util
import json
import os
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path[:0] = [str(ROOT), str(DOCS)]

import house  # noqa: E402
import notebooks  # noqa: E402

INCLUDED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "TPU_SETUP.md",
    "experiments/README.md",
    "experiments/benchmark.md",
    "experiments/delay/CHANGES.md",
    "experiments/delay/DESIGN.md",
    "experiments/delay/README.md",
    "experiments/fault_drill.md",
    "experiments/kernels.md",
)
LINK = re.compile(r"\]\(([\w./-]+\.(?:md|py))(?=[#)])")
MARK = re.compile(r"^<!-- (\w+)(?:: ([\w. ]+))? -->$", re.M)


@functools.cache
def gallery() -> ModuleType:
    """experiments/gallery.py, which knows what ran, what held and what has changed."""
    spec = importlib.util.spec_from_file_location(
        "gallery", ROOT / "experiments" / "gallery.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def summaries() -> dict[str, str]:
    """The report that shows an entry, by the entry's key: the gallery, or that of the
    delay's pages."""
    return {
        entry.key: place
        for place in ("experiments/delay/README.md", "experiments/README.md")
        for entry in gallery().report.stored(ROOT / place)
    }


@functools.cache
def entries() -> dict[str, Any]:
    """The entries by key."""
    return {
        entry.key: entry
        for place in set(summaries().values())
        for entry in gallery().report.stored(ROOT / place)
    }


def on_files(files: Files, config: Any) -> Files:
    for place in INCLUDED:
        text = (ROOT / place).read_text(encoding="utf-8")
        text = escaped(text).replace("](docs/", "](")  # docs/ is the site's root
        files.append(File.generated(config, place, content=text))
    for path in sorted((ROOT / "experiments").rglob("figures/*.png")):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for path in sorted((DOCS / "tutorials").glob("*.py")):
        for name, content in notebooks.shown(path, runs=runs()).items():
            place = f"tutorials/{name}"
            files.append(File.generated(config, place, content=content))
    return files


def runs() -> bool:
    """Whether tutorials are run: unless RUN_TUTORIALS is 0, for a quick look."""
    return os.environ.get("RUN_TUTORIALS", "1") != "0"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    place = page.file.src_uri

    def put(found: re.Match[str]) -> str:
        if found[1] not in MARKS:
            return found[0]
        return MARKS[found[1]](found[2] or "", place)

    if (DOCS / place).exists():
        markdown = LINK.sub(lambda found: f"]({site_place(found[1], place)}", markdown)
    return MARK.sub(put, markdown)


def site_place(target: str, place: str) -> str:
    """Where a link of a page in docs/, as it is right in the repository, leads on the
    site: files from outside docs/ are at their own place below its root, and tutorials
    are pages."""
    folder = posixpath.dirname(f"docs/{place}")
    full = posixpath.normpath(posixpath.join(folder, target))
    if not full.startswith("docs/"):
        return relative(full, place)
    return re.sub(r"\.py$", ".md", target) if "docs/tutorials/" in full else target


def escaped(markdown: str) -> str:
    """The text with those escapes that Python's Markdown does not know as entities."""
    return markdown.replace(r"\<", "&lt;").replace(r"\&", "&amp;")


def figure(words: str, place: str) -> str:
    """The figure of an entry of the gallery, and what became of its claims."""
    key, _, ending = words.partition(" ")
    if key not in entries():
        if not list((ROOT / "experiments").glob(f"*/{key}.py")):
            raise PluginError(f"{place}: there is no page {key} in experiments/.")
        return f"!!! note\n    The page `{key}` has not been run for the gallery yet.\n"
    entry = entries()[key]
    names = [name for name in entry.figures if name.endswith(ending)]
    if not names:
        raise PluginError(f"{place}: {key} has no figure {ending}.")
    out = []
    for name in names if ending else names[-1:]:
        folder = posixpath.dirname(summaries()[key])
        path = relative(f"{folder}/figures/{key}_{name}.png", place)
        alt = entry.alt(name).replace("[", "(").replace("]", ")")
        out += [f"![{alt}]({path})", ""]
    return "\n".join([*out, verdict(entry, place), ""])


def verdict(entry: Any, place: str) -> str:
    """What became of the claims of an entry: a line that opens to a table."""
    report = gallery().report
    old = entry.key in outdated()
    held = "held" if old else "hold"
    scores = [
        f"{score} {of}"
        for ours, of in ((False, f"claims of the paper {held}"), (True, "of our own"))
        if (score := report.score(entry.claims, ours)).claims
    ]
    kind = "success" if all(claim["holds"] for claim in entry.claims) else "warning"
    where = f"{relative(summaries()[entry.key], place)}#{report.anchor(entry.name)}"
    lines = [
        f"{entry.facts['runs']}; {entry.facts['duration']} on {entry.facts['device']}. "
        f"[All that was measured]({where}).",
        "",
    ]
    rows = [
        [
            "✓" if claim["holds"] else "✗",
            *(
                escaped(report.as_markdown(claim[part]))
                for part in ("id", "place", "statement", "expected")
            ),
        ]
        for claim in entry.claims
    ]
    head = ("", "claim", "source", "what stands there", "what the run must show")
    lines += report.markdown_table(head, rows)
    title = ", ".join(scores) or "no claims"
    if old:
        kind, title = "info", f"{title}, before the page was changed"
    said = f'??? {kind} "{entry.name}: {title}"'
    return "\n".join([said, *(f"    {line}".rstrip() for line in lines)])


@functools.cache
def outdated() -> frozenset[str]:
    """The entries that are not of their present page, as far as this checkout has the
    commits to tell."""
    found = []
    for key, entry in entries().items():
        commit, file = entry.facts["git commit"], gallery().page_file(entry)
        known = gallery().at_commit(commit, file)
        if known and gallery().outdated(entry):
            found.append(key)
    return frozenset(found)


def verdicts(paper: str, place: str) -> str:
    """How many claims of a paper hold; of all papers, as a table."""
    papers, found = gallery().PAPERS, gallery().totals()["by_paper"]
    if paper and paper not in papers:
        raise PluginError(f"{place}: there is no paper {paper}.")
    waiting = {
        name: sum(gallery().page_of(entries()[key])[0] == name for key in outdated())
        for name in papers
    }
    if paper:
        count = found[papers[paper]]
        said = (
            f"Of {count['claims']} claims of the paper that were tested, "
            f"**{count['hold']} hold** as they stand."
        )
        if waiting[paper]:
            said += (
                f" {waiting[paper]} of the pages below have changed since and wait for "
                "another run."
            )
        return f"{said}\n"
    head = ("paper", "claims tested", "hold", "pages changed since their run")
    rows = []
    for key, name in papers.items():
        link = f"[{name}]({relative(f'theories/{key}.md', place)})"
        count = found[name]
        rows.append([link, *map(str, (count["claims"], count["hold"], waiting[key]))])
    return "\n".join(gallery().report.markdown_table(head, rows))


def drawing(package: str, place: str) -> str:
    """The imports within a package, as a drawing."""
    return house.svg(house.rooms(package), f"Imports between the modules of {package}")


def help_of(module: str, place: str) -> str:
    """What a command says of itself, from its docstring."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    if not path.exists():
        raise PluginError(f"{place}: there is no module {module}.")
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return f"```text\n{said}\n```\n"


def parts(kind: str, place: str) -> str:
    """The built-in parts of a kind, with their settings, as a table."""
    from grok_jax.engine import registry

    if kind not in registry.REGISTRIES:
        raise PluginError(f"{place}: there is no kind of part {kind}.")
    rows = []
    for name, said, settings in registry.told(kind):
        listed = "<br>".join(f"`{k}` {escaped(v)}" for k, v in settings.items())
        said = escaped(gallery().report.as_markdown(said))
        rows.append([f"`{name}`", said, listed or "-"])
    head = ("name", "what it is", "settings and defaults")
    return "\n".join(gallery().report.markdown_table(head, rows))


def tournament(words: str, place: str) -> str:
    """A number, a table or a figure of the account of the delay, from the totals that
    are in the repository."""
    from grok_jax.delay import account

    path = ROOT / "experiments" / "delay" / "totals.json"
    if not path.exists():
        return "*(Not run yet.)*\n"
    name = words.removeprefix("figure ")
    if name != words:
        drawn = path.parent / "figures" / f"account_{name}.png"
        if not drawn.exists():
            raise PluginError(f"{place}: there is no figure {name} of the account.")
        with Image.open(drawn) as picture:
            alt = picture.info["Description"].replace("[", "(").replace("]", ")")
        there = relative(drawn.relative_to(ROOT).as_posix(), place)
        return f"![{alt}]({there})\n"
    if name not in account.SAID:
        raise PluginError(f"{place}: there is no {name} in the account.")
    return account.said(name, json.loads(path.read_text(encoding="utf-8"))) + "\n"


def relative(target: str, place: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(place) or ".")


MARKS: dict[str, Callable[[str, str], str]] = {
    "figure": figure,
    "verdicts": verdicts,
    "house": drawing,
    "help": help_of,
    "parts": parts,
    "delay": tournament,
}
