"""Train and test curves drawn with characters, for `grok-jax watch` and for the display
of a run in its own terminal or notebook."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.text import Text

from grok_jax.engine import live

COLOURS = ("cyan", "magenta")
HEIGHT = 12
BESIDE = 90
"""From so many columns on, two charts stand side by side."""


def fits(console: Console) -> bool:
    """Whether the console has room for charts and for a few lines beside them."""
    charts_high = 1 if console.width >= BESIDE else 2
    return console.width >= 50 and console.height >= charts_high * (HEIGHT + 2) + 4


def is_plain(console: Console) -> bool:
    """Whether the console shows ASCII alone."""
    return not console.encoding.lower().startswith("utf")


def charts(
    runs: Sequence[live.Run], width: int, plain: bool = False
) -> RenderableType | None:
    """The median train and test curves of these runs: a chart of the loss and one of
    the accuracy, in at most `width` columns; None without any curve."""
    kinds = [
        kind
        for kind in ("loss", "accuracy")
        if any(len(live.median(runs, name)[0]) for name in _names(kind))
    ]
    if not kinds:
        return None
    beside = len(kinds) > 1 and width >= BESIDE
    wide = min(width // 2 - 2, 70) if beside else min(width, 100)
    drawn = [_chart(runs, kind, wide, plain) for kind in kinds]
    return Columns(drawn, padding=(0, 2)) if beside else Group(*drawn)


def _names(kind: str) -> tuple[str, str]:
    return f"train_{kind}", f"test_{kind}"


def _chart(runs: Sequence[live.Run], kind: str, width: int, plain: bool) -> Text:
    """A chart of the train and test curves of this kind."""
    curves = [live.median(runs, name) for name in _names(kind)]
    margin = 9
    canvas = draw(
        curves,
        width=max(width - margin - 1, 10),
        height=HEIGHT,
        log_y=kind == "loss",
        plain=plain,
    )
    out = Text(f"{kind:>{margin - 1}}")
    for number, name in enumerate(_names(kind)):
        steps, values = curves[number]
        now = f" {values[-1]:.3g}" if len(steps) else ""
        sign = "ox"[number] if plain else "━"
        out.append(f" {sign} {name.split('_')[0]}{now} ", COLOURS[number])
    if canvas is None:
        return out
    labels = [canvas.top, *[""] * (HEIGHT - 2), canvas.bottom]
    edge = "|" if plain else "│"
    for label, row, owner in zip(labels, canvas.rows, canvas.curve, strict=True):
        out.append(f"\n{label:>{margin - 1}}{edge}", "dim")
        for number, signs in groupby(zip(owner, row, strict=True), itemgetter(0)):
            text = "".join(sign for _, sign in signs)
            out.append(text, COLOURS[number] if number >= 0 else "")
    foot = f"step {canvas.left}"
    gap = max(len(canvas.rows[0]) - len(foot) - len(canvas.right), 1)
    out.append(f"\n{'':{margin}}{foot}{'':{gap}}{canvas.right}", "dim")
    return out


_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""The bits of a braille character, by row and column of its eight dots."""


class Canvas(NamedTuple):
    """Lines of characters, the number of the curve that each shows (-1: none), and the
    texts at the axes."""

    rows: list[str]
    curve: np.ndarray  # [height, width]
    top: str
    bottom: str
    left: str
    right: str


def draw(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    width: int,
    height: int,
    log_y: bool = False,
    plain: bool = False,
) -> Canvas | None:
    """Draws (steps, values) of each curve over log(1 + step), later ones on top; None
    without a point to draw.

    Args:
      width: in characters, and so is `height`.
      log_y: draws the logarithm of positive values.
      plain: in ASCII and not in braille.
    """
    points = [_points(*curve, log_y) for curve in curves]
    drawn = np.concatenate([*points, np.zeros((0, 2))])
    if not len(drawn):
        return None
    (left, low), (right, high) = drawn.min(0), drawn.max(0)
    down, across = (1, 1) if plain else (4, 2)
    size = np.array([width * across - 1, height * down - 1])
    span = np.where(
        np.array([right - left, high - low]) > 0, drawn.max(0) - [left, low], 1
    )
    cells = np.zeros((height, width), int)
    owner = np.full((height, width), -1)
    for number, each in enumerate(points):
        for x, y in _line((each - [left, low]) / span * size):
            row, column = divmod(int(size[1]) - y, down), divmod(x, across)
            cells[row[0], column[0]] |= _DOTS[row[1], column[1]]
            owner[row[0], column[0]] = number
    signs = "ox+*#@"
    rows = [
        "".join(
            " " if own < 0 else signs[own % 6] if plain else chr(0x2800 + cell)
            for cell, own in zip(*line, strict=True)
        )
        for line in zip(cells, owner, strict=True)
    ]
    ends = (10**high, 10**low) if log_y else (high, low)
    steps = (f"{np.expm1(x):.0f}" for x in (left, right))
    return Canvas(rows, owner, *(f"{value:.3g}" for value in ends), *steps)


def _points(steps: np.ndarray, values: np.ndarray, log_y: bool) -> np.ndarray:
    """[n, 2] of log(1 + step) and the value or its logarithm, where there is one."""
    values = np.asarray(values, float)
    good = np.isfinite(values) & ((values > 0) | (not log_y))
    ys = np.log10(values[good]) if log_y else values[good]
    return np.stack([np.log1p(np.asarray(steps, float)[good]), ys], axis=1)


def _line(points: np.ndarray) -> Iterable[tuple[int, int]]:
    """The dots of the line through these points."""
    for start, end in zip(points, [*points[1:], *points[-1:]], strict=True):
        count = int(np.abs(end - start).max()) + 1
        for share in np.linspace(0, 1, count + 1):
            x, y = np.round(start + share * (end - start)).astype(int)
            yield int(x), int(y)
