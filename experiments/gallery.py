"""grok-jax gallery [--only=G1,...] [--preset=cpu] [--workdirs=DIR] [--out=DIR]
                 [--summary=FILE.md] [--mixed]

`python experiments/gallery.py` is the same in a checkout.

Examples:
  grok-jax gallery --only=k3_laziness,o2 --preset=smoke --out=gallery
  grok-jax gallery                        every page: hours on two cores

Runs every page of the three papers one after the other, each with a line of
grok_jax.launch in a process of its own, and writes one report (grok_jax.report) of all
that is finished: OUT/index.html (gallery/index.html), and the Markdown at
--summary=FILE.md if that is given; their runs are in WORKDIRS (runs/gallery). --only
names pages (`k1_grokking`) or all that begin so (`G1`).

The same line again goes on: what is complete is only drawn again, what was stopped
resumes. A page whose data are not here is named as left out. A page that fails does
not stop the others. Workdirs of another commit are refused, as their claims may be
others; --mixed reports them too, with a line that counts the commits.

In a checkout, three questions about experiments/README.md are answered instead:
  --totals    prints as JSON how many claims hold, and what of the papers has no page
  --check     lists the pages whose settings or claims have changed since the run that
              decided them without a line in CHANGES.md beside the pages that names the
              page and the commit of that run
  --arrange   puts its runs into the order of the pages, and writes anew what stands
              before them: the figures to begin with, and the table of what the papers
              show, from coverage.toml beside the pages

Exit status: 0 done; 1 a page failed, or --check found some; 2 wrong usage; 75 stopped
after saving.
"""

import ast
import functools
import json
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import jax
from absl import flags

from grok_jax import launch, report
from grok_jax.claims import OURS
from grok_jax.engine import command_line, config, programs, session, workdirs
from grok_jax.settings import SettingError, natural, nearest
from grok_jax.tasks.reading import DataError

DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, launch.WRONG_USAGE, launch.STOPPED
ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = (ROOT / "pyproject.toml").is_file()
"""Whether this is a checkout, and not the installed package."""
PRESETS = ("smoke", "cpu", "paper")
PAPERS = {
    "lazy_to_rich": "Kumar et al. 2024",
    "omnigrok": "Liu et al. 2023",
    "groktransfer": "Xu et al. 2025",
}
FIRST = (
    "k3_laziness",
    "k7_transformer",
    "o5_toy_addition",
    "o9_mnist",
    "g4_grokking",
    "g6_transformer",
)
"""The pages whose figures the gallery shows first, two of each paper."""
DECIDES = ("get_config", "claims")
"""The functions of a page on which it depends what its run decides."""


def pages() -> list[Path]:
    """Every page of every paper, in the order of the gallery."""
    return [
        path
        for paper in PAPERS
        for path in sorted(
            (ROOT / "experiments" / paper).glob("*.py"),
            key=lambda path: natural(path.stem),
        )
    ]


def chosen(text: str) -> list[Path]:
    """The pages that --only names; all where it names none.

    Raises:
      SettingError: no page begins so.
    """
    found = pages()
    words = [word.strip().lower().replace(" ", "_") for word in text.split(",")]
    words = [word for word in words if word]
    for word in words:
        if not any(_begins(path.stem, word) for path in found):
            stems = [path.stem for path in found]
            known = [*stems, *(stem.split("_")[0] for stem in stems)]
            close = nearest(word, dict.fromkeys(known))
            raise SettingError(f"--only: there is no page {word!r}; {close}.")
    named = (path for path in found if any(_begins(path.stem, w) for w in words))
    return list(named) if words else found


def _begins(stem: str, word: str) -> bool:
    return f"{stem}_".startswith(f"{word}_")


def missing_data(page: Path, preset: str, workdir: workdirs.Workdir) -> str:
    """Why a page cannot be run here; "" where its data are found or not needed."""
    if workdir.results.exists():
        return ""
    try:
        experiment, _ = launch.load_experiment(str(page))
        programs.check_data(config.resolve(session.get_config(experiment, preset)).plan)
    except DataError as error:
        return str(error)
    except SettingError:  # the launcher says it
        pass
    return ""


def of_other_commits(folders: Sequence[workdirs.Workdir]) -> list[str]:
    """The run folders that the checkout as it is now did not begin: name (commit)."""
    present = workdirs.git_commit()
    started = [each for each in folders if each.config.exists()]
    commits = [workdirs.read_json(each.config).get("git_commit") for each in started]
    pairs = zip(started, commits, strict=True)
    return [f"{each.path.name} ({c})" for each, c in pairs if c != present]


class Pages:
    """Runs pages one at a time; SIGTERM and SIGINT reach the one that is running."""

    def __init__(self) -> None:
        self.stopped, self._running = False, None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _: Any) -> None:
        self.stopped = True
        if self._running:
            self._running.send_signal(number)

    def run(self, page: Path, preset: str, workdir: Path) -> int:
        """The exit status of the launcher on a page."""
        place = workdir.relative_to(ROOT) if workdir.is_relative_to(ROOT) else workdir
        shown = page.relative_to(ROOT) if CHECKOUT else page
        line = [f"--config={shown}:{preset}", f"--workdir={place}"]
        print(f"\npython -m grok_jax.launch {' '.join(line)}", flush=True)
        self._running = subprocess.Popen(
            [sys.executable, "-m", "grok_jax.launch", *line],
            cwd=ROOT
            if CHECKOUT
            else None,  # modules of the package shadow others there
            process_group=0,
        )
        status = self._running.wait()
        self._running = None
        return status


def run_all(named: Sequence[Path], preset: str, folder: Path) -> int:
    """Runs pages and says what became of them; the exit status."""
    runs, left_out, failed = Pages(), {}, {}
    for page in named:
        if runs.stopped:
            return STOPPED
        workdir = workdirs.Workdir(folder / page.stem)
        reason = missing_data(page, preset, workdir)
        if reason:
            left_out[page.stem] = reason
            continue
        status = runs.run(page, preset, workdir.path)
        if status == STOPPED or runs.stopped:  # also before it could save anything
            return STOPPED
        if status != DONE:
            failed[page.stem] = f"exit status {status}"
    print()
    for what, which in (("Left out", left_out), ("FAILED", failed)):
        for name, reason in which.items():
            print(f"{what}: {name}: {reason}", flush=True)
    return FAILED if failed else DONE


def write_report(finished: Sequence[Path], out: str, summary: str, only: bool) -> int:
    """Writes the report; where `only` some pages ran, the summary keeps the others."""
    folders = [str(path) for path in finished]
    if not summary:
        return report.main(["report", *folders, f"--out={out}"])
    place = f"--summary={summary}"
    if not only:
        return report.main(["report", *folders, f"--out={out}", place])
    status = report.main(["report", *folders, f"--out={out}"])
    return status or report.main(["report", *folders, place])


def summary_file() -> Path:
    return ROOT / "experiments" / "README.md"


def page_of(entry: report.Report) -> tuple[str, str, str]:
    """(paper, page, preset) of an entry of the gallery, by the command that made it."""
    found = re.search(r"(\w+)/(\w+)\.py(?::(\w+))?", entry.facts["command"])
    assert found, entry.facts["command"]
    return found[1], found[2], found[3] or "cpu"


def totals() -> dict[str, Any]:
    """How many claims hold in the gallery, each counted once, at the preset `cpu`; the
    places in the papers that no page shows, and why; and the entries that wait for
    another run, or for the present claims (`outdated`)."""
    entries = report.stored(summary_file())
    usual = (entry for entry in entries if page_of(entry)[2] == "cpu")
    claims = [(page_of(entry)[0], c) for entry in usual for c in entry.claims]

    def count(some: list[Any]) -> dict[str, int]:
        return {"claims": len(some), "hold": sum(bool(c["holds"]) for _, c in some)}

    ours = [each for each in claims if each[1]["place"] == OURS]
    papers = [each for each in claims if each[1]["place"] != OURS]
    return {
        "paper": count(papers),
        "ours": count(ours),
        "by_paper": {
            name: count([each for each in papers if each[0] == paper])
            for paper, name in PAPERS.items()
        },
        "not_covered": [
            {"paper": name, "place": row["place"], "why": row.get("why", "")}
            for paper, name in PAPERS.items()
            for row in covered(paper)
            if "page" not in row
        ],
        "waiting": [e.name for e in entries if outdated(e)],
    }


def covered(paper: str) -> list[dict[str, Any]]:
    """The rows of a paper's coverage.toml; none where there is no such file."""
    path = ROOT / "experiments" / paper / "coverage.toml"
    return tomllib.loads(path.read_text())["row"] if path.exists() else []


def counted() -> str:
    """The totals, and the pages that wait for another run, as Markdown."""
    found = totals()
    paper, ours, old = (found[k] for k in ("paper", "ours", "waiting"))
    out = [
        f"At the preset `cpu`, each claim counted once, {paper['hold']} of "
        f"{paper['claims']} claims of the papers hold, and {ours['hold']} of "
        f"{ours['claims']} of our own. The title counts what was run at `paper` as "
        "well.",
        "",
    ]
    if old:
        links = ", ".join(f"[{name}](#{report.anchor(name)})" for name in old)
        out += [
            "Pages that have changed since what is shown, as `CHANGES.md` beside them "
            f"says, and wait for another run: {links}.",
            "",
        ]
    return "\n".join(out)


def coverage() -> str:
    """What the papers show against the pages and claims that show it, as Markdown."""
    found = {page_of(each): each for each in report.stored(summary_file())}
    out = ["## What the papers show, and where it is here", ""]
    out += [
        '"Not run yet": the page is new or has changed since what is shown; "ours": no '
        "claim of the paper, but shown beside it.",
        "",
    ]
    for paper, name in PAPERS.items():
        rows = []
        for row in covered(paper):
            entry = found.get((paper, row.get("page", ""), "cpu"))
            known = entry.claims if entry and not outdated(entry) else []
            tested = {claim["id"]: claim for claim in known}
            claims = ", ".join(
                _told(id, tested.get(id)) for id in row.get("claims", [])
            )
            where = report.as_markdown(row.get("page", "-"))
            if entry:
                where = f"[{where}](#{report.anchor(entry.name)})"
            texts = (row["place"], row["shows"], row.get("why", ""))
            place, shows, why = map(report.as_markdown, texts)
            rows.append([place, shows, where, claims, why])
        if rows:
            head = ("place", "what it shows", "page", "claims", "left out, and why")
            out += [f"### {name}", "", *report.markdown_table(head, rows)]
    return "\n".join(out)


def failures() -> str:
    """What does not hold, and what tells why, as Markdown; the reasons are those of
    failed.toml beside the pages, for every preset or for the one that is named."""
    out = [
        "## What does not hold, and what tells why",
        "",
        "Whether it is the scale, a setting, the seed or the reading of a sentence, by "
        'the run itself or another that is named; "open": not told apart yet.',
        "",
    ]
    for paper, name in PAPERS.items():
        reasons = {
            (c, row.get("preset")): row for row in failed(paper) for c in row["claims"]
        }
        rows = []
        for entry, claim in failing(paper):
            preset = page_of(entry)[2]
            row = reasons.get(
                (claim["id"], preset), reasons.get((claim["id"], None), {})
            )
            ours = " (ours)" if claim["place"] == OURS else ""
            size = "" if preset == "cpu" else f" ({preset})"
            link = f"[{claim['id']}{ours}{size}](#{report.anchor(entry.name)})"
            texts = (claim["statement"], row.get("tells", "open"), row.get("why", ""))
            rows.append([link, *map(report.as_markdown, texts)])
        if rows:
            head = ("claim", "what stands there", "it is", "because")
            out += [f"### {name}: what does not hold", ""]
            out += report.markdown_table(head, rows)
    return "\n".join(out) if len(out) > 4 else ""


def failing(paper: str) -> list[tuple[report.Report, dict[str, Any]]]:
    """The claims of a paper's pages that do not hold, of up-to-date entries."""
    return [
        (entry, claim)
        for entry in report.stored(summary_file())
        if page_of(entry)[0] == paper and not outdated(entry)
        for claim in entry.claims
        if not claim["holds"]
    ]


def failed(paper: str) -> list[dict[str, Any]]:
    """The reasons of a paper's claims that do not hold; none without failed.toml."""
    path = ROOT / "experiments" / paper / "failed.toml"
    if not path.exists():
        return []
    return tomllib.loads(path.read_text(encoding="utf-8"))["failed"]


def _told(id: str, claim: Mapping[str, Any] | None) -> str:
    """A claim and whether it holds, in the table of coverage."""
    if claim is None:
        return f"{id}: not run yet"
    ours = " (ours)" if claim["place"] == OURS else ""
    return f"{id}{ours}: {'yes' if claim['holds'] else '**NO**'}"


def first_figures() -> str:
    """The figures to begin with, and how many claims hold in each, as Markdown."""
    found = {page_of(each)[1:]: each for each in report.stored(summary_file())}
    out = ["## Figures to begin with", ""]
    for page in FIRST:
        entry = found.get((page, "cpu"))
        if entry and entry.figures:
            name = list(entry.figures)[-1]
            held = report.score(entry.claims, ours=False)
            when = "held, before the page was changed" if outdated(entry) else "hold"
            out += [
                f"![{entry.alt(name)}](figures/{entry.key}_{name}.png)",
                "",
                f"*[{entry.name}](#{report.anchor(entry.name)}): {held} claims of the "
                f"paper {when}.*",
                "",
            ]
    return "\n".join(out) if len(out) > 2 else ""


def arrange() -> None:
    """Puts the gallery into the order of the pages, and writes its tables anew."""
    path, order = summary_file(), {page.stem: i for i, page in enumerate(pages())}

    def place(entry: report.Report) -> tuple[int, bool]:
        _, page, preset = page_of(entry)
        return order.get(page, len(order)), preset != "cpu"

    entries = sorted(report.stored(path), key=place)
    workdirs.write_json(path.with_suffix(".json"), [each.as_json() for each in entries])
    parts = "\n".join([counted(), first_figures(), failures(), coverage()])
    block = f"<!-- kept -->\n{parts}\n<!-- /kept -->\n\n"
    path.write_text(report.summary(entries, block), encoding="utf-8")


def what_decides(source: str, preset: str, of: Sequence[str] = DECIDES) -> list[str]:
    """The settings of a page at a preset and its claims, and all that they use of it,
    as syntax trees without docstrings: two versions of a page that agree here decide
    alike. `of` one of the two alone: those that agree run, or judge, alike."""
    defined: dict[str, ast.AST] = {}
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        for target in targets:
            name = getattr(target, "name", getattr(target, "id", None))
            if name:
                defined[name] = node
    for node in ast.walk(defined.get("get_config", ast.Pass())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "presets":
            node.keywords = [each for each in node.keywords if each.arg == preset]
            for keyword in node.keywords:
                if _is_dict(node.args[0]) and _is_dict(keyword.value):
                    _override(node.args[0], keyword.value)
    found: dict[str, str] = {}
    wanted = list(of)
    while wanted:
        name = wanted.pop()
        if name in defined and name not in found:
            for node in ast.walk(defined[name]):
                if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                    node.body = node.body[1:]
                if isinstance(node, ast.Name):
                    wanted.append(node.id)
            found[name] = ast.dump(defined[name])
    return [found[name] for name in sorted(found)]


def _override(base: ast.Call, preset: ast.Call) -> None:
    """Takes out of the settings dict(...) what a preset's replaces by a number, a text,
    None or a tuple. What may be settings itself is merged, and stays."""
    own = {each.arg: each.value for each in preset.keywords if each.arg}
    kept = []
    for keyword in base.keywords:
        value = own.get(keyword.arg)
        if _is_dict(keyword.value) and _is_dict(value):
            _override(keyword.value, value)
        if not isinstance(value, ast.Constant | ast.Tuple):
            kept.append(keyword)
    base.keywords = kept


def _is_dict(node: ast.AST | None) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "dict"


def outdated(entry: report.Report) -> bool:
    """Whether the page of an entry has other settings than its run, or other claims
    than those that were tested on its results, which may have been later."""
    run, judges = {entry.facts["git commit"]}, _judges(entry)
    return _differ(entry, run, ("get_config",)) or _differ(entry, judges, ("claims",))


def changes(entry: report.Report) -> str:
    """A sentence if the page of an entry no longer says what its run decided, or is not
    what tested its claims; else nothing."""
    place, commit = page_file(entry), entry.facts["git commit"]
    if not (ROOT / place).exists():
        return f"{entry.name}: {place} is gone."
    if _differ(entry, {commit}):
        return f"{entry.name}: {place} has changed since its run at {commit[:10]}."
    if _differ(entry, _judges(entry)):
        return f"{entry.name}: its claims were tested by another {place}."
    return ""


def _judges(entry: report.Report) -> set[str]:
    """The commits of the pages that tested its claims."""
    return {claim["git_commit"] for claim in entry.claims}


def _differ(
    entry: report.Report, commits: Iterable[str], of: Sequence[str] = DECIDES
) -> bool:
    """Whether the page of an entry differs from what it was at one of these commits,
    as far as `what_decides` tells."""
    place, preset = page_file(entry), page_of(entry)[2]
    if not (ROOT / place).exists():
        return True
    now = what_decides((ROOT / place).read_text(), preset, of)
    return any(what_decides(at_commit(c, place), preset, of) != now for c in commits)


def page_file(entry: report.Report) -> str:
    """The file of an entry's page, from the root of the checkout."""
    paper, page, _ = page_of(entry)
    return f"experiments/{paper}/{page}.py"


def unexplained() -> Iterator[str]:
    """What has changed in the pages of the gallery without a line in the change log."""
    for entry in report.stored(summary_file()):
        paper, page, _ = page_of(entry)
        commit = entry.facts["git commit"][:10]
        log = ROOT / "experiments" / paper / "CHANGES.md"
        lines = log.read_text().splitlines() if log.exists() else []
        said = any(page in line and commit in line for line in lines)
        if not said and (change := changes(entry)):
            yield change


@functools.cache
def at_commit(commit: str, place: str) -> str:
    """A file as it was at a commit; empty where it was not there or not committed."""
    line = ["git", "-C", str(ROOT), "show", f"{commit}:{place}"]
    shown = subprocess.run(line, capture_output=True, text=True)
    return shown.stdout if shown.returncode == 0 else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    jax.config.update("jax_platforms", "cpu")  # the accelerator is for the launcher
    try:
        options = _flags(list(sys.argv if argv is None else argv))
        if (options.totals or options.arrange or options.check) and not CHECKOUT:
            raise SettingError("--totals, --check and --arrange need a checkout.")
        if options.totals:
            print(json.dumps(totals(), indent=1))
            return DONE
        if options.arrange:
            arrange()
            return DONE
        if options.check:
            found = list(unexplained())
            print("\n".join([*found, f"{len(found)} pages of the gallery to explain."]))
            return FAILED if found else DONE
        if options.preset not in PRESETS:
            close = nearest(options.preset, PRESETS)
            raise SettingError(f"--preset: there is no {options.preset!r}; {close}.")
        named, folder = chosen(options.only), Path(options.workdirs).absolute()
        every = [workdirs.Workdir(folder / page.stem) for page in pages()]
        others = of_other_commits(every)
        if others and not options.mixed:
            if workdirs.git_commit() == "unknown":
                raise SettingError(
                    "The grok_jax that is installed is not this checkout; `pip install "
                    "-e .` there."
                )
            raise SettingError(
                f"The checkout is at {workdirs.git_commit()}, but these are of another "
                f"commit: {', '.join(others)}; nothing was run. Give another "
                "--workdirs, or --mixed to report them together."
            )
        status = run_all(named, options.preset, folder)
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return WRONG_USAGE
    if status == STOPPED:
        print("Stopped; run the same line to go on.")
        return STOPPED
    if others:
        print(f"Of another commit: {', '.join(others)}")
    finished = [each.path for each in every if each.results.exists()]
    if not finished:
        print("Nothing is finished; there is no report.")
        return status
    written = write_report(finished, options.out, options.summary, bool(options.only))
    if options.summary and Path(options.summary).resolve() == summary_file():
        arrange()
    return written or status


def _flags(argv: Sequence[str]) -> Any:
    values = flags.FlagValues()
    for name, default, says in (
        ("workdirs", "runs/gallery", "Folder for the run folders."),
        ("out", "gallery", "Folder for the report."),
        ("preset", "cpu", "Preset of every page."),
        ("only", "", "Pages, or how they begin; all by default."),
        ("summary", "", "Path of the Markdown."),
    ):
        flags.DEFINE_string(name, default, says, flag_values=values)
    for name, says in (
        ("mixed", "Report several commits."),
        ("totals", "Print how many claims hold."),
        ("check", "List pages that changed after their run without a line."),
        ("arrange", "Put it in order, with its tables."),
    ):
        flags.DEFINE_bool(name, False, says, flag_values=values)
    return command_line.parse(values, argv, __doc__)[0]


if __name__ == "__main__":
    sys.exit(main())
