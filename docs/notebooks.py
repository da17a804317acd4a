"""Tutorials: Python files in cells (jupytext's py:percent), run and shown."""

import ast
import contextlib
import io
from pathlib import Path
from typing import Any

import jupytext


def cells(path: Path) -> list[tuple[str, str]]:
    """(kind, source) of each cell; a kind is "markdown" or "code"."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def shown(
    path: Path, *, runs: bool = True, names: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the site shows of a tutorial: file name -> content. With `runs`, its page
    shows what every cell prints and draws; `names` gets all that it defines."""
    names = {"__name__": path.stem} if names is None else names
    page, files = [], {}
    for kind, source in cells(path):
        if kind == "markdown":
            page.append(source)
            continue
        page.append(f"```python\n{source}\n```")
        printed, figures = run(source, names, path.name) if runs else ("", [])
        if printed:
            page.append(f"```text\n{printed.rstrip()}\n```")
        for content in figures:
            name = f"{path.stem}_{len(files) + 1}.png"
            files[name] = content
            page.append(f"![What the cell above draws]({name})")
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    files[f"{path.stem}.ipynb"] = jupytext.writes(notebook, fmt="ipynb")
    take = f"[Take it as a notebook]({path.stem}.ipynb){{ download }}"
    title, *rest = page
    return {f"{path.stem}.md": "\n\n".join([title, take, *rest, ""]), **files}


def run(source: str, names: dict[str, Any], where: str) -> tuple[str, list[bytes]]:
    """What a cell prints, with the value of its last expression, and the figures that
    it draws with pyplot, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(ast.Module(body, []), where, "exec"), names)
        if last is not None:
            code = compile(ast.Expression(last.value), where, "eval")
            value = eval(code, names)
            if value is not None:
                print(repr(value))
    figures = []
    for number in plt.get_fignums():
        content = io.BytesIO()
        plt.figure(number).savefig(content, dpi=110, bbox_inches="tight")
        figures.append(content.getvalue())
    plt.close("all")
    return out.getvalue(), figures
