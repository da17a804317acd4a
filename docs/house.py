"""python docs/house.py [PACKAGE] > house.svg

Draws how the modules of a package import each other, read from their source. Each
stands above all that it imports; modules that import each other share a box; an arrow
that follows from others is left out.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import networkx as nx

WIDTH, BOX, ROW, LETTER = 960, 26, 78, 7.2


def rooms(package: str = "grok_jax") -> nx.DiGraph:
    """The modules and packages directly in `package`; an edge from each to what it
    imports. An import inside a function or under `if` counts too."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    paths = [path for path in root.rglob("*.py") if path != root / "__init__.py"]
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted({_room(path, root) for path in paths}))
    for path in sorted(paths):
        for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            head, _, rest = name.partition(f"{package}.")
            imported, own = rest.split(".")[0], _room(path, root)
            if not head and imported in graph and imported != own:
                graph.add_edge(own, imported)
    return graph


def _room(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").parts[0]


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floors(graph: nx.DiGraph) -> tuple[nx.DiGraph, list[list[str]]]:
    """(boxes with the arrows that are needed, boxes by floor from the ground up)."""
    merged = nx.condensation(graph)
    names = {box: ", ".join(sorted(merged.nodes[box]["members"])) for box in merged}
    boxes = nx.relabel_nodes(nx.DiGraph(merged.edges), names)
    boxes.add_nodes_from(names.values())
    levels: dict[str, int] = {}
    for box in reversed(list(nx.lexicographical_topological_sort(boxes))):
        levels[box] = 1 + max((levels[below] for below in boxes[box]), default=-1)
    storeys: list[list[str]] = [[] for _ in range(max(levels.values()) + 1)]
    for box in sorted(boxes):
        storeys[levels[box]].append(box)
    return nx.transitive_reduction(boxes), storeys


def svg(graph: nx.DiGraph, title: str) -> str:
    """The drawing, in the colours of the text around it."""
    boxes, storeys = floors(graph)
    rows: list[list[str]] = []  # a floor that is too wide takes several
    for storey in storeys:
        alone = [box for box in storey if not (boxes.pred[box] or boxes[box])]
        for part in ([box for box in storey if box not in alone], alone):
            row: list[str] = []
            for box in part:
                if row and sum(map(_width, [*row, box])) > WIDTH:
                    rows.append(row)
                    row = []
                row.append(box)
            rows += [row] if row else []
    place = {}
    for height, row in enumerate(reversed(rows)):
        gap = (WIDTH - sum(map(_width, row))) / (len(row) + 1)
        x = gap
        for box in row:
            place[box] = x + _width(box) / 2, 20 + ROW * height
            x += _width(box) + gap
    out = [
        f'<svg class="house" viewBox="0 0 {WIDTH} {ROW * len(rows)}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for upper, lower in sorted(boxes.edges):
        (x1, y1), (x2, y2) = place[upper], place[lower]
        y1, y2 = y1 + BOX / 2, y2 - BOX / 2
        middle = (y1 + y2) / 2
        curve = f"M{x1:.0f},{y1:.0f} C{x1:.0f},{middle:.0f} {x2:.0f},{middle:.0f} "
        out.append(f'<path d="{curve}{x2:.0f},{y2:.0f}"/>')
    for box, (x, y) in sorted(place.items()):
        left, top, width = x - _width(box) / 2 + 5, y - BOX / 2, _width(box) - 10
        out.append(
            f'<g><rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" '
            f'height="{BOX}" rx="4"/><text x="{x:.0f}" y="{y + 4:.0f}">{box}</text></g>'
        )
    return "\n".join([*out, "</svg>"])


def _width(box: str) -> float:
    return LETTER * len(box) + 26


if __name__ == "__main__":
    package = sys.argv[1] if len(sys.argv) > 1 else "grok_jax"
    print(svg(rooms(package), f"Imports in {package}"))
