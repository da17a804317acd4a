"""For mkdocstrings: `<K, y>` in a docstring is a product, and no HTML."""

import re
from typing import Any

from griffe import Extension, Object


class Plain(Extension):
    """Escapes what Markdown would take for a tag, but not in code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    if re.match(r"\s*(>>>|\.\.\.)", line):
        return line
    parts = re.split(r"(`[^`]*`)", line)  # every second one is code
    parts[::2] = [re.sub(r"<(?=[A-Za-z/])", "&lt;", part) for part in parts[::2]]
    return "".join(parts)
