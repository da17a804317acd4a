"""python -m grok_jax.report WORKDIR... --out=DIR [--summary=FILE.md]

WORKDIR may lie in an object store (gs://BUCKET/FOLDER); DIR and FILE are local.

Writes DIR/index.html (self-contained) and DIR/summary.md (with DIR/figures) about run
folders, finished or not: which claims held, the figures, and how it was run.
`--summary` puts the Markdown elsewhere, its figures beside it in `figures/`; what such
a file already says of other experiments stays in it.

Exit status: 0 done; 2 wrong usage or a damaged folder; nothing was written then.
"""

import base64
import json
import re
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from grok_jax import claims as claims_lib
from grok_jax import record, remote
from grok_jax.settings import SettingError, nearest

DONE, WRONG_USAGE = 0, 2
_COUNTS = ("runs", "memorised", "generalised", "diverged")
_HEAD = ("experiment", "claims held", "runs", "duration", "device", "state")
_COLUMNS = ("claim", "figure", "statement", "expected", "measured", "holds")


class Report(NamedTuple):
    """What one run folder has to say."""

    key: str  # unique among the reported folders; its figure files begin with it
    name: str
    description: str
    facts: dict[str, str]  # how it was run, in the order of the report
    settings: dict[str, Any]
    claims: list[dict[str, Any]]
    figures: dict[str, bytes]  # name -> PNG

    @property
    def held(self) -> int:
        return sum(bool(claim["holds"]) for claim in self.claims)

    @property
    def score(self) -> str:
        return f"{self.held} of {len(self.claims)}" if self.claims else "none tested"

    def alt(self, figure: str) -> str:
        return f"{figure} of {self.name}: {self.description}"


def read(path: Path, key: str) -> Report:
    """The report of a run folder.

    Raises:
      record.RecordError: no such folder, not a run folder, or a damaged file in it.
    """
    workdir = record.Workdir(path)
    started = workdir.config.exists()  # asked first: where a store refuses, it says so
    if not (started or path.is_dir()):
        raise record.RecordError(f"There is no folder {path}.")
    if not started:
        raise record.RecordError(
            f"{path} holds no config.json; it is not a folder of grok_jax.launch."
        )
    about = record.read_json(workdir.config)
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
        figures = sorted(workdir.figures.glob("*.png"), key=_natural)
        return Report(
            key=key,
            name=about["name"] or key,
            description=about["description"],
            facts=facts,
            settings=about["config"],
            claims=claims,
            figures={each.stem: _png(each) for each in figures},
        )
    except (KeyError, TypeError) as error:
        raise record.RecordError(
            f"{path} was not written by this version of grok_jax ({error} is missing)."
        ) from error


def _progress(workdir: record.Workdir) -> tuple[str, float, dict[str, int]]:
    """(state, seconds, counts of runs)."""
    if workdir.results.exists():
        results = record.read_results(workdir.results)
        reached = [results[name].notnull().sum() for name in ("t_train", "t_test")]
        numbers = (results["diverged"].size, *reached, results["diverged"].sum())
        state = "finished" if workdir.claims.exists() else "finished, claims not tested"
        counts: dict[str, int] = dict(zip(_COUNTS, map(int, numbers), strict=True))
        return state, float(results.attrs["seconds"]), counts
    if not workdir.progress.exists():
        return "UNFINISHED: no step yet", 0.0, {}
    held = record.read_json(workdir.progress)
    share = held["run_steps"] / max(held["run_steps_total"], 1)
    left = f", at most {clock(held['eta'])} left" if held["eta"] == held["eta"] else ""
    state = f"UNFINISHED: {share:.0%} of the steps done{left}"
    return state, held["seconds"], {name: held[name] for name in _COUNTS}


def _claims(path: Path) -> list[dict[str, Any]]:
    claims, fields = record.read_json(path), set(claims_lib.Claim._fields)
    whole = isinstance(claims, list) and all(
        isinstance(each, dict) and fields <= each.keys() for each in claims
    )
    if not whole:
        raise record.RecordError(f"{path} is damaged: it is no list of whole claims.")
    return claims


def _png(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.endswith(b"IEND\xaeB`\x82"):
        raise record.RecordError(f"{path} is truncated; launch draws it again.")
    return content


def _natural(path: Path) -> list[tuple[str, int]]:
    parts = re.findall(r"(\D*)(\d*)", path.stem)
    return [(word, int(number or 0)) for word, number in parts]


def clock(seconds: float) -> str:
    """
    >>> clock(75.2), clock(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def total(reports: Sequence[Report]) -> str:
    claims = sum(len(report.claims) for report in reports)
    return f"{sum(report.held for report in reports)} of {claims} claims hold"


def _overview(report: Report) -> list[str]:
    """The cells of the table at the top, but for the name."""
    return [report.score, *(report.facts[column] for column in _HEAD[2:])]


def _cells(claim: dict[str, Any], safe: Callable[[str], str]) -> list[str]:
    """The cells of a claim but for the last; a line for each measured value."""
    measured = claim["measured"]
    several = isinstance(measured, dict)
    parts = [{k: v} for k, v in measured.items()] if several else [measured]
    lines = "<br>".join(safe(claims_lib.text(part)) for part in parts)
    own = ("id", "figure", "statement", "expected")
    return [*(safe(str(claim[name])) for name in own), lines]


class Entry(NamedTuple):
    """One experiment in the Markdown: its row in the overview, and its section."""

    name: str
    row: str
    section: str


def entries(text: str) -> list[Entry]:
    """The experiments of a summary that was written before."""
    top, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    rows = [line for line in top.splitlines() if line.startswith("| ")][2:]
    return [
        Entry(section.splitlines()[0].removeprefix("## "), row, section)
        for row, section in zip(rows, sections, strict=True)
    ]


def summary(reports: Sequence[Report], before: str = "") -> str:
    """The report as Markdown, with figures in `figures/`; the experiments of the
    summary `before` keep their place, and what it said unless they are reported now."""
    found = {entry.name: entry for entry in entries(before)}
    found |= {entry.name: entry for entry in map(_entry, reports)}
    scores = [re.findall(r"(\d+) of (\d+)", entry.row)[:1] for entry in found.values()]
    held, claims = (sum(int(s[i]) for score in scores for s in score) for i in (0, 1))
    head = _table_lines(_HEAD, [])[:2]
    rows = [entry.row for entry in found.values()]
    top = [f"# Report: {held} of {claims} claims hold", "", *head, *rows, "", ""]
    return "\n".join(top) + "".join(entry.section for entry in found.values())


def _entry(report: Report) -> Entry:
    facts = dict(report.facts)
    out = [f"## {_md(report.name)}", "", _md(report.description), ""]
    out += ["```sh", facts.pop("command"), "```", ""]
    out += [*(f"- {name}: {_md(fact)}" for name, fact in facts.items()), ""]
    if report.claims:
        marks = ["yes" if claim["holds"] else "**NO**" for claim in report.claims]
        cells = [_cells(claim, _md) for claim in report.claims]
        marked = zip(cells, marks, strict=True)
        out += _table_lines(_COLUMNS, [[*own, mark] for own, mark in marked])
    for name in report.figures:
        path = f"figures/{report.key}_{name}.png".replace(" ", "%20")
        out += [f"![{_md(report.alt(name))}]({path})", ""]
    cells = [_md(report.name), *map(_md, _overview(report))]
    return Entry(_md(report.name), f"| {' | '.join(cells)} |", "\n".join(out) + "\n")


def _table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _md(text: str) -> str:
    return re.sub(r"([\\`*_<\[\]|])", r"\\\1", " ".join(text.split()))


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--back:#fff;--line:#d0d7de;--soft:#f3f5f7;
--yes:#116329;--no:#b3131d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--back:#12161b;--line:#3a424c;
--soft:#1d232b;--yes:#5fd38d;--no:#ff8a85}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);
max-width:70rem;margin:0 auto;padding:1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;
vertical-align:top;overflow-wrap:break-word}
th{background:var(--soft)}a{color:inherit}
.yes{color:var(--yes)}.no{color:var(--no);font-weight:700}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{opacity:.75}
dd{margin:0}dd,pre,code{overflow-wrap:anywhere;white-space:pre-wrap}
figure{margin:1rem 0}img{max-width:100%;height:auto;background:#fff}
@media(max-width:44rem){thead{display:none}tr,td,dl{display:block}td{border:0;
padding:.1rem 0;overflow-wrap:anywhere}tr{border-bottom:2px solid var(--line);
padding:.5rem 0}dd{margin-bottom:.3rem}
td::before{content:attr(data-label) ": ";opacity:.75}}
"""


def page(reports: Sequence[Report]) -> str:
    """The report as one HTML page that needs nothing beside itself."""
    rows = [
        [f'<a href="#{_id(report)}">{escape(report.name)}</a>']
        + [escape(text) for text in _overview(report)]
        for report in reports
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta '
        'name="viewport" content="width=device-width,initial-scale=1"><title>grok_jax: '
        f"{total(reports)}</title><style>{_STYLE}</style></head><body><main><h1>"
        f"{total(reports)}</h1>{_table(_HEAD, rows)}{''.join(map(_section, reports))}"
        "</main></body></html>\n"
    )


def _section(report: Report) -> str:
    facts = "".join(
        f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in report.facts.items()
    )
    marks = {True: '<span class="yes">yes</span>', False: '<span class="no">NO</span>'}
    rows = [[*_cells(c, escape), marks[bool(c["holds"])]] for c in report.claims]
    figures = "".join(
        f'<figure><img alt="{escape(report.alt(name))}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{escape(name)}</figcaption>'
        "</figure>"
        for name, png in report.figures.items()
    )
    return (
        f'<section id="{_id(report)}"><h2>{escape(report.name)}: claims held: '
        f"{report.score}</h2><p>{escape(report.description)}</p><dl>{facts}</dl>"
        f"{_table(_COLUMNS, rows) if rows else ''}{figures}<details><summary>settings"
        f"</summary><pre>{escape(json.dumps(report.settings, indent=1))}</pre>"
        "</details></section>"
    )


def _id(report: Report) -> str:
    return re.sub(r"\W", "-", report.key)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML cells; on a narrow screen each row is a card."""

    def row(cells: Sequence[str]) -> str:
        named = zip(head, cells, strict=True)
        return "".join(f'<td data-label="{name}">{cell}</td>' for name, cell in named)

    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{row(cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def write(reports: Sequence[Report], out: Path | None, markdown: Path) -> None:
    """Writes the page into `out` (None: no page), the summary and its figures.

    Raises:
      record.RecordError: it cannot be written.
    """
    figures = markdown.parent / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for report in reports:
            for name, png in report.figures.items():
                (figures / f"{report.key}_{name}.png").write_bytes(png)
        before = ""
        if out is None and markdown.exists():
            before = markdown.read_text(encoding="utf-8")
        markdown.write_text(summary(reports, before), encoding="utf-8")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "index.html").write_text(page(reports), encoding="utf-8")
    except OSError as error:
        raise record.RecordError(
            f"{error.filename or out} cannot be written: {error.strerror}."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    try:
        options, folders = _flags(list(sys.argv if argv is None else argv))
        out = Path(options.out) if options.out else None
        markdown = Path(options.summary or f"{options.out}/summary.md")
        for folder in (out or markdown.parent, markdown.parent):
            if (folder / "config.json").exists():
                raise SettingError(f"{folder} is a run folder; give another.")
        named = zip(folders, _keys(folders), strict=True)
        reports = []
        for path, key in named:
            with record.reachable(path):
                reports.append(read(path, key))
        write(reports, out, markdown)
    except (SettingError, record.RecordError) as error:
        print(f"grok_jax: {error}", file=sys.stderr)
        return WRONG_USAGE
    print(f"{total(reports)}; see {out / 'index.html' if out else markdown}")
    return DONE


def _keys(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, numbered where two have the same."""
    names = [path.resolve().name for path in folders]
    return [
        f"{name}-{names[:i].count(name) + 1}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _flags(argv: Sequence[str]) -> tuple[Any, list[Path]]:
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "Folder for the report.", flag_values=values)
    flags.DEFINE_string("summary", None, "Path of the Markdown.", flag_values=values)
    flags.DEFINE_bool("help", False, "This text.", flag_values=values)
    try:
        _, *folders = values(argv)
    except flags.UnrecognizedFlagError as error:
        close = nearest(error.flagname, ["out", "summary"])
        raise SettingError(f"There is no flag --{error.flagname}; {close}.") from error
    except flags.Error as error:
        raise SettingError(f"{error}.") from error
    if values.help:
        print(__doc__)
        raise SystemExit(DONE)
    if not folders:
        raise SettingError("Give the run folders to report: WORKDIR...")
    if not (values.out or values.summary):
        raise SettingError("Give --out=DIR, the folder for the report.")
    for name in ("out", "summary"):
        if remote.is_remote(values[name].value):
            raise SettingError(
                f"--{name} is written on this machine; give a path here."
            )
    return values, [remote.path(folder) for folder in folders]


if __name__ == "__main__":
    sys.exit(main())
