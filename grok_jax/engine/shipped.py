"""The experiment pages that come with the package, by name.

In an installed package they are data of it (grok_jax/experiments); in a checkout they
are experiments/ beside it.
"""

import ast
import importlib.resources
import re
from pathlib import Path

from grok_jax import settings
from grok_jax.settings import SettingError, natural, nearest


def folder() -> Path:
    """The folder of the shipped pages, with one subfolder for each paper."""
    installed = Path(str(importlib.resources.files("grok_jax"))) / "experiments"
    return installed if installed.is_dir() else installed.parents[1] / "experiments"


def pages() -> dict[str, Path]:
    """name -> file of every shipped page, paper by paper: K2 before K10."""
    found = folder().glob("*/*.py")
    found = sorted(found, key=lambda path: (path.parent.name, natural(path.stem)))
    return {path.stem: path for path in found}


def summary(path: Path) -> str:
    """The first sentence of a page's docstring.

    >>> summary(pages()["k3_laziness"])
    'K3 (Kumar et al. 2024, Fig. 3): laziness and misalignment make the delay.'
    """
    page = ast.parse(path.read_text(encoding="utf-8"))
    return settings.summary(ast.get_docstring(page))


def find(spec: str) -> tuple[Path, str | None]:
    """(file, preset or None) of a page: "FILE.py[:PRESET]", "FILE.yaml", or
    "NAME[:PRESET]" of a shipped one.

    Raises: SettingError if no shipped page has the name.
    """
    file, found, preset = spec.partition(".py:")
    if found:
        return Path(f"{file}.py"), preset
    name, found, preset = spec.partition(":")
    if found and name.endswith((".yaml", ".yml")):
        raise SettingError(f"{name} is one set of settings; it has no preset {preset}.")
    if not re.fullmatch(r"\w+", name):
        return Path(spec), None
    known = pages()
    if name not in known:
        begin = [page for page in known if page.startswith(name)]
        begin += [
            f"{name}{end}" for end in (".py", ".yaml") if Path(f"{name}{end}").is_file()
        ]
        close = f"nearest: {', '.join(begin)}" if begin else nearest(name, known)
        raise SettingError(
            f"There is no page {name!r}; {close}. A file of your own ends in .py or "
            ".yaml."
        )
    return known[name], preset if found else None
