"""What a report says of a run folder, and all of it as one HTML page."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from grok_jax import claims as claims_lib

HEAD = ("experiment", "claims held", "runs", "duration", "device", "state")
COLUMNS = ("claim", "figure", "statement", "expected", "measured", "holds")


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


def total(reports: Sequence[Report]) -> str:
    """How many claims of all reports hold, in words."""
    claims = sum(len(report.claims) for report in reports)
    return f"{sum(report.held for report in reports)} of {claims} claims hold"


def overview(report: Report) -> list[str]:
    """The cells of the table at the top, but for the name."""
    return [report.score, *(report.facts[column] for column in HEAD[2:])]


def cells(claim: dict[str, Any], safe: Callable[[str], str]) -> list[str]:
    """The cells of a claim but for the last; a line for each measured value."""
    measured = claim["measured"]
    several = isinstance(measured, dict)
    parts = [{k: v} for k, v in measured.items()] if several else [measured]
    lines = "<br>".join(safe(claims_lib.format_value(part)) for part in parts)
    own = ("id", "figure", "statement", "expected")
    return [*(safe(str(claim[name])) for name in own), lines]


def origin(commits: Sequence[str]) -> str:
    """From which commits reports are, in a sentence.

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


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--back:#fff;--line:#d0d7de;--soft:#f3f5f7;
--yes:#116329;--no:#b3131d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--back:#12161b;--line:#3a424c;
--soft:#1d232b;--yes:#5fd38d;--no:#ff8a85}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);
max-width:80rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1,h2{line-height:1.25}section{border-top:2px solid var(--line);margin-top:2.5rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;
vertical-align:top}
th{background:var(--soft)}a{color:inherit}th,td:first-child{overflow-wrap:normal}
.yes{color:var(--yes)}.no{color:var(--no);font-weight:700}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{opacity:.75}
dd{margin:0}pre{white-space:pre-wrap;background:var(--soft);padding:.6rem .8rem;
border-radius:.3rem}summary{cursor:pointer}
figure{margin:1rem 0;overflow-x:auto}img{max-width:100%;height:auto;background:#fff;
width:var(--wide);display:block}
.top{position:fixed;right:1rem;bottom:1rem;padding:.3rem .8rem;background:var(--soft);
border:1px solid var(--line);border-radius:1rem;text-decoration:none}
@media(min-width:44.01rem){.claims td:nth-child(n+3):nth-child(-n+5){width:28%}
.overview td:not(:nth-child(3)):not(:last-child){white-space:nowrap}}
@media(max-width:44rem){thead{display:none}tr,td,dl{display:block}td{border:0;
padding:.1rem 0}tr{border-bottom:2px solid var(--line);padding:.5rem 0}
dd{margin-bottom:.3rem}
td::before{content:attr(data-label) ": ";opacity:.75}
.claims td:first-child{font-weight:700}td:first-child::before{content:none}
.overview tr{display:flex;justify-content:space-between;gap:1rem}
.overview td:nth-child(n+3),.overview td::before{display:none}
.overview td:nth-child(2){white-space:nowrap}
img{max-width:none;width:calc(.7*var(--wide))}h1{font-size:1.6rem}h2{font-size:1.3rem}}
@media print{.top{display:none}section{break-inside:avoid-page}}
"""


def page(reports: Sequence[Report]) -> str:
    """The report as one HTML page that needs nothing beside itself."""
    rows = [
        [f'<a href="#{_id(report)}">{escape(report.name)}</a>']
        + [escape(text) for text in overview(report)]
        for report in reports
    ]
    commits = origin([report.facts["git commit"] for report in reports])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta '
        'name="viewport" content="width=device-width,initial-scale=1"><title>grok_jax: '
        f'{total(reports)}</title><style>{_STYLE}</style></head><body><main id="top">'
        f"<h1>{total(reports)}</h1><p>{escape(commits)}</p>"
        f"{_table('overview', HEAD, rows)}{''.join(map(_section, reports))}</main>"
        '<a class="top" href="#top">\u2191 top</a></body></html>\n'
    )


def _section(report: Report) -> str:
    """Figures first, then what they are to show, then how they were made."""
    facts = dict(report.facts)
    command = f"<pre>{escape(facts.pop('command'))}</pre>"
    first = {name: facts.pop(name) for name in HEAD[2:]}
    marks = {True: '<span class="yes">yes</span>', False: '<span class="no">NO</span>'}
    rows = [[*cells(c, escape), marks[bool(c["holds"])]] for c in report.claims]
    figures = "".join(_figure(report, name) for name in report.figures)
    return (
        f'<section id="{_id(report)}"><h2>{escape(report.name)}: claims held: '
        f"{report.score}</h2><p>{escape(report.description)}</p>{figures}"
        f"{_table('claims', COLUMNS, rows) if rows else ''}{command}{_facts(first)}"
        f"<details><summary>versions and settings</summary>{_facts(facts)}"
        f"<pre>{escape(json.dumps(report.settings, indent=1))}</pre></details>"
        "</section>"
    )


def _figure(report: Report, name: str) -> str:
    """At 100 pixels an inch where there is room; a phone shows it at 70 and scrolls."""
    png = report.figures[name]
    wide = int.from_bytes(png[16:20], "big") * 2 // 3  # plot.save: 150 an inch
    caption = f"<figcaption>{escape(name)}</figcaption>" if name != "figure" else ""
    return (
        f'<figure><img alt="{escape(report.alt(name))}" style="--wide:{wide}px" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">{caption}'
        "</figure>"
    )


def _facts(facts: dict[str, str]) -> str:
    pairs = (f"<dt>{name}</dt><dd>{escape(f)}</dd>" for name, f in facts.items())
    return f"<dl>{''.join(pairs)}</dl>"


def _id(report: Report) -> str:
    return re.sub(r"\W", "-", report.key)


def _table(kind: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML cells; on a narrow screen each row is a card."""

    def row(cells: Sequence[str]) -> str:
        named = zip(head, cells, strict=True)
        return "".join(f'<td data-label="{name}">{cell}</td>' for name, cell in named)

    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{row(cells)}</tr>" for cells in rows)
    return (
        f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody>'
        "</table>"
    )
