"""For the API page: docstrings name arguments as in `width: neurons of every agent`, here they become a list."""

import re
from typing import Any

from griffe import Docstring, Extension, Object

ARGUMENT = re.compile(r"(?!Source)(\w+(?:, \w+)*): \S")


class Arguments(Extension):
    """Turns every line `name: text` of a docstring, with its indented lines, into an item of a list."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(text: str) -> str:
    """The same in Markdown; fenced or indented examples stay as they are."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if found := ARGUMENT.match(line):
            names, rest = found[1], line[len(found[1]) + 2 :]
            lines += [] if inside else [""]
            lines.append(f"- **{names}**: {rest}")
            inside = True
        else:
            if inside and line.strip() and not line.startswith(" "):
                lines.append("")
                inside = False
            lines.append(line)
    return "\n".join(lines)
