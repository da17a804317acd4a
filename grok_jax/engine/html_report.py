"""Renders a report's Markdown as one self-contained HTML page."""

import base64
import json
import re
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

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
pre{white-space:pre-wrap;background:var(--soft);padding:.6rem .8rem;
border-radius:.3rem}summary{cursor:pointer}
p:has(>img){overflow-x:auto}img{max-width:100%;height:auto;background:#fff;
width:var(--wide);display:block}
.top{position:fixed;right:1rem;bottom:1rem;padding:.3rem .8rem;background:var(--soft);
border:1px solid var(--line);border-radius:1rem;text-decoration:none}
@media(min-width:44.01rem){.claims td:nth-child(n+3):nth-child(-n+5){width:28%}
.overview td:not(:nth-child(3)):not(:last-child){white-space:nowrap}}
@media(max-width:44rem){thead{display:none}tr,td{display:block}td{border:0;
padding:.1rem 0}tr{border-bottom:2px solid var(--line);padding:.5rem 0}
td::before{content:attr(data-label) ": ";opacity:.75}
.claims td:first-child{font-weight:700}td:first-child::before{content:none}
.overview tr{display:flex;justify-content:space-between;gap:1rem}
.overview td:nth-child(n+3),.overview td::before{display:none}
.overview td:nth-child(2){white-space:nowrap}
img{max-width:none;width:calc(.7*var(--wide))}h1{font-size:1.6rem}h2{font-size:1.3rem}}
@media print{.top{display:none}section{break-inside:avoid-page}}
"""


def page(top: str, sections: Mapping[str, str], details: Mapping[str, Any]) -> str:
    """The HTML page of a report: its first lines (`top`), then the sections by the ids
    of their headings. Figures must be `data:` addresses (see `embedded`).

    Args:
      details: for each section, what is shown on demand, as JSON.
    """
    title = escape(top.splitlines()[0].removeprefix("# Report: "))
    body = "".join(
        f'<section id="{name}">{_as_html(section)}<details><summary>settings</summary>'
        f"<pre>{escape(json.dumps(details[name], indent=1))}</pre></details></section>"
        for name, section in sections.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta '
        'name="viewport" content="width=device-width,initial-scale=1"><title>grok_jax: '
        f'{title}</title><style>{_STYLE}</style></head><body><main id="top">'
        f"{_as_html(top)}{body}</main>"
        '<nav aria-label="page"><a class="top" href="#top">\u2191 top</a></nav>'
        "</body></html>\n"
    )


def embedded(png: bytes) -> str:
    """The `data:` address of a figure that is part of the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _as_html(markdown: str) -> str:
    parser = MarkdownIt("commonmark", {"xhtmlOut": False}).enable("table")
    parser.validateLink = lambda url: True  # for embedded figures; text has no links
    tokens = parser.parse(markdown)
    _label(tokens)
    for before, token in pairwise(tokens):
        for child in token.children or []:
            if child.type == "image":
                _widen(child)
                before.attrSet("tabindex", "0")  # where it scrolls, by keyboard too
    html = parser.renderer.render(tokens, parser.options, {})
    html = re.sub(
        r'(<td data-label="holds">)(yes)', r'\1<span class="yes">\2</span>', html
    )
    return html.replace("<strong>NO</strong>", '<span class="no">NO</span>')


def _label(tokens: list[Token]) -> None:
    """Labels each cell with the head of its column, since on a narrow screen a row is a
    card, and sets the class of each table: `overview` or `claims`."""
    heads: list[str] = []
    column, table = 0, None
    for token, inside in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            heads, table = [], token
        elif token.type == "tr_open":
            column = 0
        elif token.type == "th_open" and inside and table:
            heads.append(inside.content)
            token.attrSet("scope", "col")
            kind = "claims" if heads[0] == "claim" else "overview"
            table.attrSet("class", kind)
        elif token.type == "td_open":
            token.attrSet("data-label", heads[column])
            column += 1


def _widen(image: Token) -> None:
    """Sets an image's width: 100 pixels per inch, but on a phone 70, with scrolling."""
    head = base64.b64decode(str(image.attrGet("src")).partition(",")[2][:32])
    wide = int.from_bytes(head[16:20], "big") * 2 // 3  # plot.save: 150 per inch
    image.attrSet("style", f"--wide:{wide}px")
