"""grok-jax report WORKDIR... --out=DIR [--summary=FILE.md]

WORKDIR may be in an object store (gs://BUCKET/FOLDER); DIR and FILE are local.
`python -m grok_jax.report` is the same.

Examples:
  grok-jax report runs/k3_laziness --out=report        report/index.html
  grok-jax report runs/* --out=report --summary=results.md
  grok-jax report gs://BUCKET/k1 gs://BUCKET/k3 --out=report

Writes DIR/index.html (self-contained) and DIR/summary.md (with DIR/figures) about run
folders, finished or not: which claims hold, the figures, and how they were run. Of each
finished sweep, DIR/explore/NAME.html shows the runs as a map, with the curves of any
place that is chosen.
`--summary` writes the Markdown to FILE.md, its figures to `figures/` beside it, and
what it says of each experiment to FILE.json; without `--out`, the other experiments
already in that file are kept, and so is what stands between its lines `<!-- kept -->`
and `<!-- /kept -->`.

Exit status: 0 done; 2 wrong usage or a damaged folder (nothing is written then).
"""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from absl import flags
from PIL import Image, UnidentifiedImageError

from grok_jax import claims as claims_lib
from grok_jax.engine import command_line, explorer, html_report, remote, workdirs
from grok_jax.settings import SettingError, natural

DONE, WRONG_USAGE = 0, 2
_EXPLORE = "explore"  # the folder of the pages of single sweeps
_COUNTS = ("runs", "memorised", "generalised", "diverged")

FACTS = ("runs", "duration", "device", "state")
HEAD = ("experiment", "papers' claims held", "ours", *FACTS)
COLUMNS = ("claim", "source", "statement", "expected", "measured", "holds")


class Score(NamedTuple):
    """How many claims hold, of so many."""

    held: int
    claims: int

    def __str__(self) -> str:
        return f"{self.held} of {self.claims}" if self.claims else "-"


def score(claims: Sequence[Mapping[str, Any]], ours: bool) -> Score:
    """Of the claims of papers, or of our own."""
    held = [
        claim["holds"]
        for claim in claims
        if (claim["place"] == claims_lib.OURS) == ours
    ]
    return Score(sum(map(bool, held)), len(held))


class Report(NamedTuple):
    """What is reported about one run folder."""

    key: str  # unique among the reported folders; prefix of its figure files
    name: str  # unique too
    description: str
    facts: dict[str, str]  # how it was run, in report order
    settings: dict[str, Any]
    claims: list[dict[str, Any]]
    figures: dict[str, bytes]  # name -> PNG; empty where it was written before
    shows: Mapping[str, str] = {}  # name -> what the figure says of itself

    def as_json(self) -> dict[str, Any]:
        """All but the settings and the content of the figures."""
        plain = {**self._asdict(), "figures": list(self.figures)}
        del plain["settings"]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        figures = dict.fromkeys(plain["figures"], b"")
        return cls(**{**plain, "settings": {}, "figures": figures})

    @property
    def is_smoke(self) -> bool:
        """Whether it is a preset that is too small to decide its claims."""
        return self.name.endswith(" (smoke)")

    @property
    def explored(self) -> bool:
        """Whether it has results to explore."""
        return self.facts["state"].startswith("finished")

    def alt(self, figure: str) -> str:
        """The alternative text of a figure."""
        text = f"{figure} of {self.name}: {self.description}"
        shows = self.shows.get(figure)
        return f"{text}. {shows}" if shows else text


def read(path: Path, key: str) -> Report:
    """The report of a run folder.

    Raises:
      workdirs.WorkdirError: no such folder, not a run folder, or a damaged file in it.
    """
    workdir = workdirs.Workdir(path)
    about = workdir.about()
    try:
        state, seconds, counts = _progress(workdir)
        facts = {
            "state": state,
            "command": about["command"],
            "runs": ", ".join(f"{n:,} {what}" for what, n in counts.items()),
            "duration": clock(seconds),
            "device": about["device"],
            "precision": "float{float}, matmul precision {matmul}".format(
                **about["precision"]
            ),
            "versions": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
            "git commit": about["git_commit"],
            "started": about["started"],
        }
        finished = workdir.results.exists() and workdir.claims.exists()
        claims = _claims(workdir.claims) if finished else []
        paths = sorted(
            workdir.figures.glob("*.png"), key=lambda path: natural(path.stem)
        )
        figures = {each.stem: _png(each) for each in paths}
        return Report(
            key=key,
            name=_name(about) or key,
            description=about["description"],
            facts=facts,
            settings=about["config"],
            claims=claims,
            figures=figures,
            shows={each.stem: _shows(each, figures[each.stem]) for each in paths},
        )
    except (KeyError, TypeError) as error:
        raise workdirs.WorkdirError(
            f"{path} was not written by this version of grok_jax ({error} is missing)."
        ) from error


def _name(about: dict[str, Any]) -> str:
    """The experiment's name, with the preset unless it is `cpu`: a page may be run with
    several presets."""
    preset = about.get("preset", "")
    shown = about["name"] and preset not in ("", "cpu")
    return about["name"] + (f" ({preset})" if shown else "")


def _progress(workdir: workdirs.Workdir) -> tuple[str, float, dict[str, int]]:
    """(state, seconds, counts of runs)."""
    if workdir.results.exists():
        results = workdirs.read_results(workdir.results)
        reached = [results[name].notnull().sum() for name in ("t_train", "t_test")]
        numbers = (results["diverged"].size, *reached, results["diverged"].sum())
        state = "finished" if workdir.claims.exists() else "finished, claims not tested"
        counts: dict[str, int] = dict(zip(_COUNTS, map(int, numbers), strict=True))
        return state, float(results.attrs["seconds"]), counts
    if not workdir.progress.exists():
        return "UNFINISHED: no step yet", 0.0, {}
    done = workdirs.read_json(workdir.progress)
    total = done["run_steps_total"]
    share = done["run_steps"] / total if total else 1.0
    left = f", at most {clock(done['eta'])} left" if done["eta"] == done["eta"] else ""
    state = f"UNFINISHED: {share:.0%} of the steps done{left}"
    return state, done["seconds"], {name: done[name] for name in _COUNTS}


def _claims(path: Path) -> list[dict[str, Any]]:
    claims, fields = workdirs.read_json(path), {*claims_lib.Claim._fields, "git_commit"}
    whole = isinstance(claims, list) and all(
        isinstance(each, dict) and fields <= each.keys() for each in claims
    )
    if not whole:
        raise workdirs.WorkdirError(
            f"{path} is damaged: it is not a list of complete claims."
        )
    return claims


def _png(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.endswith(b"IEND\xaeB`\x82"):
        raise workdirs.WorkdirError(f"{path} is truncated; launch draws it again.")
    return content


def _shows(path: Path, png: bytes) -> str:
    """What a figure says of itself (`plot.save`); empty for one of an older version."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            return str(image.info.get("Description", ""))
    except UnidentifiedImageError as error:
        raise workdirs.WorkdirError(
            f"{path} is damaged: it is not a PNG file; launch draws it again."
        ) from error


def clock(seconds: float) -> str:
    """A duration in words.

    >>> clock(75.2), clock(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def summary(reports: Sequence[Report], kept: str = "") -> str:
    """The reports as Markdown, with figures in `figures/`; `kept` follows the
    overview."""
    paths = [
        {
            name: f"figures/{each.key}_{name}.png".replace(" ", "%20")
            for name in each.figures
        }
        for each in reports
    ]
    sections = map(_section, reports, paths)
    return _top(reports) + kept + "".join(sections)


def page(reports: Sequence[Report]) -> str:
    """The report as one HTML page with embedded figures and each sweep's settings."""
    sections, settings = {}, {}
    for each in reports:
        figures = {n: html_report.embedded(png) for n, png in each.figures.items()}
        sections[anchor(each.name)] = _section(each, figures, _link(each))
        settings[anchor(each.name)] = each.settings
    return html_report.page(_top(reports), sections, settings)


def _top(reports: Sequence[Report]) -> str:
    """The head of a summary: how many claims hold, the commits, the overview table."""
    commits = [each.facts["git commit"] for each in reports]
    title = [f"# Report: {verdict(reports)}", "", origin(commits), ""]
    rows = []
    for each in reports:
        scores = (str(score(each.claims, ours)) for ours in (False, True))
        facts = (each.facts[name] for name in FACTS)
        name, *rest = map(as_markdown, [each.name, *scores, *facts])
        rows.append([f"[{name}](#{anchor(each.name)})", *rest])
    return "\n".join([*title, *markdown_table(HEAD, rows), ""])


def verdict(reports: Sequence[Report]) -> str:
    """How many claims hold, in words, without those of presets that decide nothing.

    >>> verdict([])
    'no claims'
    """
    claims = [c for each in reports if not each.is_smoke for c in each.claims]
    words = (
        f"{each} {of}"
        for each, of in (
            (score(claims, False), "claims of papers hold"),
            (score(claims, True), "of our own"),
        )
        if each.claims
    )
    small = "; smoke decides none" if any(each.is_smoke for each in reports) else ""
    return (", ".join(words) or "no claims") + small


def _link(report: Report) -> str:
    """A line that leads to its runs, if they can be explored."""
    if not report.explored:
        return ""
    name = as_markdown(f"Explore the runs of {report.name}")
    return f"[{name}]({_EXPLORE}/{quote(report.key)}.html)"


def _section(report: Report, paths: Mapping[str, str], link: str = "") -> str:
    """The section of a report: its figures, then its claims, then how it was run."""
    facts = dict(report.facts)
    out = [f"## {as_markdown(report.name)}", "", as_markdown(report.description), ""]
    out += [link, ""] if link else []
    for name, path in paths.items():
        out += [f"![{as_markdown(report.alt(name))}]({path})", ""]
    if report.claims:
        marks = ["yes" if claim["holds"] else "**NO**" for claim in report.claims]
        rows = [_cells(claim) for claim in report.claims]
        marked = zip(rows, marks, strict=True)
        out += markdown_table(COLUMNS, [[*row, mark] for row, mark in marked])
    out += ["```sh", facts.pop("command"), "```", ""]
    commits = {claim["git_commit"] for claim in report.claims}
    if commits - {facts["git commit"]}:
        facts["claims tested at"] = ", ".join(sorted(commits))
    out += [*(f"- {name}: {as_markdown(fact)}" for name, fact in facts.items()), ""]
    return "\n".join(out) + "\n"


def _cells(claim: dict[str, Any]) -> list[str]:
    """The cells of a claim except the last; each measured value is on its own line."""
    lines = "<br>".join(map(as_markdown, claims_lib.lines_of(claim["measured"])))
    statement = claim["statement"]
    if claim["less"]:
        statement += f" (Not tested: {claim['less']}.)"
    texts = (claim["id"], claim["place"], statement, claim["expected"])
    return [*map(as_markdown, texts), lines]


def anchor(heading: str) -> str:
    """The id that Markdown renderers give a heading.

    >>> anchor("K3 phase diagram (paper)")
    'k3-phase-diagram-paper'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def origin(commits: Sequence[str]) -> str:
    """A sentence that names the commits of the reports.

    >>> origin(["8aa4", "8aa4"])
    'All from commit 8aa4.'
    >>> origin(["8aa423b5d164c7", "17bc-dirty", "8aa423b5d164c7"])
    'From several commits: 8aa423b5d1 (2), 17bc-dirty (1).'
    """
    counts = {commit: commits.count(commit) for commit in commits}
    if len(counts) == 1:
        return f"All from commit {commits[0]}."
    short = {commit: re.sub(r"^(\w{10})\w+", r"\1", commit) for commit in counts}
    listed = ", ".join(f"{short[each]} ({n})" for each, n in counts.items())
    return f"From several commits: {listed}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, whose cells must already be escaped, and an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def as_markdown(text: str) -> str:
    """The text on one line, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_<\[\]|]|&(?=#?\w+;))", r"\\\1", " ".join(text.split()))


def write(reports: Sequence[Report], out: Path | None, markdown: Path) -> None:
    """Writes the HTML page into `out` (None: no page), the summary and its figures.

    Raises:
      workdirs.WorkdirError: a file cannot be written, or `markdown` is another file.
    """
    figures = markdown.parent / "figures"
    try:
        before = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
        if before and not before.startswith("# Report: "):
            raise workdirs.WorkdirError(
                f"{markdown} is not a summary of reports; give another --summary."
            )
        figures.mkdir(parents=True, exist_ok=True)
        for report in reports:
            for name, png in report.figures.items():
                (figures / f"{report.key}_{name}.png").write_bytes(png)
        others = stored(markdown) if before and out is None else []
        found = {each.name: each for each in [*others, *reports]}  # in the old place
        placed = side_by_side(list(found.values()))
        plain = [each.as_json() for each in placed]
        workdirs.write_json(markdown.with_suffix(".json"), plain)
        markdown.write_text(summary(placed, kept(before)), encoding="utf-8")
        for name in _figure_files(others) - _figure_files(placed):
            (figures / name).unlink(missing_ok=True)  # of a run that is replaced
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "index.html").write_text(page(reports), encoding="utf-8")
    except OSError as error:
        raise workdirs.WorkdirError(
            f"{error.filename or out} cannot be written: {error.strerror}."
        ) from error


def write_explorers(
    reports: Sequence[Report], folders: Sequence[Path], out: Path
) -> None:
    """Writes the interactive page of each finished run folder into `out`.

    Raises:
      workdirs.WorkdirError: results cannot be read or a page cannot be written.
    """
    for report, folder in zip(reports, folders, strict=True):
        if not report.explored:
            continue
        shown = explorer.explore(
            workdirs.read_results(workdirs.Workdir(folder).results),
            claims=report.claims,
            name=report.name,
            description=report.description,
            facts={**report.facts, "t train and t test": _times(report.settings)},
            back=f"../index.html#{anchor(report.name)}",
        )
        path = out / _EXPLORE / f"{report.key}.html"
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(explorer.page(shown), encoding="utf-8")
        except OSError as error:
            raise workdirs.WorkdirError(
                f"{path} cannot be written: {error.strerror}."
            ) from error


def _times(settings: Mapping[str, Any]) -> str:
    """When a run counts as fitted and as generalised, in the words of its settings."""
    names = [name for name in settings if name.startswith("grok.")]
    return ", ".join(f"{name[5:]} {settings[name]}" for name in names) or "unknown"


def side_by_side(reports: Sequence[Report]) -> list[Report]:
    """The reports in their order, but the other presets of a page after it."""
    names = [each.name for each in reports]

    def place(report: Report) -> int:
        page = re.sub(r" \(\w+\)$", "", report.name)
        return names.index(page if page in names else report.name)

    return sorted(reports, key=place)


def _figure_files(reports: Sequence[Report]) -> set[str]:
    return {f"{each.key}_{name}.png" for each in reports for name in each.figures}


def stored(markdown: Path) -> list[Report]:
    """The reports of an existing summary, from the JSON beside it.

    Raises:
      workdirs.WorkdirError: it is missing or damaged.
    """
    path = markdown.with_suffix(".json")
    try:
        return [Report.from_json(plain) for plain in workdirs.read_json(path)]
    except (KeyError, TypeError) as error:
        raise workdirs.WorkdirError(
            f"{path} is damaged: it is not a list of reports."
        ) from error


def kept(text: str) -> str:
    """What a summary keeps when it is written anew: the marked lines."""
    found = re.search(r"^<!-- kept -->\n.*?^<!-- /kept -->\n", text, re.M | re.S)
    return f"{found[0]}\n" if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options, folders = _flags(list(sys.argv if argv is None else argv))
        out = Path(options.out) if options.out else None
        markdown = Path(options.summary or f"{options.out}/summary.md")
        for folder in (out or markdown.parent, markdown.parent):
            if (folder / "config.json").exists():
                raise SettingError(f"{folder} is a run folder; give another folder.")
        folders = _with_runs(folders)
        named = zip(folders, _keys(folders), strict=True)
        reports = []
        for path, key in named:
            with workdirs.reachable(path):
                reports.append(read(path, key))
        reports = _told_apart(reports)
        write(reports, out, markdown)
        if out is not None:
            write_explorers(reports, folders, out)
    except (SettingError, workdirs.WorkdirError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    print(f"{verdict(reports)}; see {out / 'index.html' if out else markdown}")
    return DONE


def _with_runs(folders: Sequence[Path]) -> list[Path]:
    """The folders but for those that hold folders of runs, such as a gallery, which
    `runs/*` names as well; they are said."""
    several = [path for path in folders if next(path.glob("*/config.json"), None)]
    nested = [path for path in several if not (path / "config.json").exists()]
    if len(nested) == len(folders):
        return list(folders)
    for path in nested:
        print(f"Left out: {path} holds no run but folders of runs.")
    return [path for path in folders if path not in nested]


def _keys(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, numbered where several have the same name."""
    names = [path.resolve().name for path in folders]
    return [
        f"{name}-{names[:i].count(name) + 1}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _told_apart(reports: Sequence[Report]) -> list[Report]:
    """The reports with unique anchors: where names share one, the key is added."""
    anchors = [anchor(report.name) for report in reports]
    return [
        report._replace(name=f"{report.name}, {report.key}")
        if anchors.count(anchor(report.name)) > 1
        else report
        for report in reports
    ]


def _flags(argv: Sequence[str]) -> tuple[Any, list[Path]]:
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "Folder for the report.", flag_values=values)
    flags.DEFINE_string("summary", None, "Path of the Markdown.", flag_values=values)
    options, folders = command_line.parse(values, argv, __doc__, takes_words=True)
    if not folders:
        raise SettingError("Give the run folders to report: WORKDIR...")
    if not (options.out or options.summary):
        raise SettingError("Give --out=DIR, the folder for the report.")
    for name in ("out", "summary"):
        if remote.is_remote(options[name].value):
            raise SettingError(
                f"--{name} is written on this machine; give a path here."
            )
    return options, [remote.path(folder) for folder in folders]


if __name__ == "__main__":
    sys.exit(main())
