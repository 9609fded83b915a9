"""The shell commands and Python blocks of README and docs.

A command is a line of a fenced sh block or of an indented block, or a code span that starts with a program. Output is
fenced as text, so that it is not taken for a command.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "sh", "bash", "shell", "console")
SPAN = re.compile(
    r"`((?:dist-hdnn\s[a-z]|python\s[a-z-]|make\s[a-z]|launch/\S+\.sh|torchrun\s|mpiexec\s|docker\s|pip\sinstall\s)[^`]*)`"
)
INCLUDE = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)  # of pymdownx.snippets, as zensical.toml has it


@dataclass(frozen=True)
class Command:
    """One command of a page; here documents have several lines."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the command, without comments."""
        return shlex.split(self.text.split("\n")[0], comments=True)

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0]}"


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Return (language, text, headings before it) per fenced block; indented blocks count as sh, list items do not."""
    found: list[tuple[str, str, int]] = []
    headings = 0
    lines = page.read_text(encoding="utf-8").splitlines()
    position = 0
    while position < len(lines):
        line = lines[position]
        headings += line.startswith("#")
        if fence := re.match(r"```(\w*)\s*$", line):
            end = lines.index("```", position + 1)
            found.append((fence[1], "\n".join(lines[position + 1 : end]), headings))
            position = end
        elif line.startswith("    ") and (position == 0 or not lines[position - 1].strip()):
            end = position
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            found.append(("sh", "\n".join(text[4:] for text in lines[position:end]), headings))
            position = end - 1
        position += 1
    return found


def commands(page: Path) -> list[Command]:
    """Return every shell command of a page, in order."""
    name, found = page.relative_to(ROOT).as_posix(), []
    for language, text, _ in blocks(page):
        if language in SHELL:
            found += [Command(name, each) for each in _joined(text.splitlines())]
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found += [Command(name, " ".join(span.split())) for span in SPAN.findall(prose) if "..." not in span]
    return found


def python_blocks(page: Path) -> list[str]:
    """Return every fenced Python block of a page, with the files that the site includes."""
    return [
        INCLUDE.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text)
        for language, text, _ in blocks(page)
        if language == "python"
    ]


def arguments(words: list[str]) -> list[str] | None:
    """Return the words after `dist-hdnn` or `-m dist_hdnn`; after a launch script, `train` and its arguments."""
    for name in ("dist-hdnn", "dist_hdnn"):
        if name in words:
            return words[words.index(name) + 1 :]
    script = next((k for k, word in enumerate(words) if word.startswith("launch/")), None)
    if script is None or len(words) == script + 1:
        return None
    rest = words[script + 1 :]
    return ["train", *(rest[1:] if rest[0].isdecimal() else rest)]


def shown_after(page: Path, command: str) -> list[str]:
    """Return the lines of the text block after a command's block in its section, up to a line of dots, or []."""
    found = blocks(page)
    for (_, text, section), (language, output, other) in zip(found, found[1:], strict=False):
        if command in text and language == "text" and section == other:
            return output.split("\n...")[0].splitlines()
    return []


def _joined(lines: list[str]) -> list[str]:
    """Join lines to commands at backslashes and here documents."""
    found: list[str] = []
    until = ""
    for line in lines:
        if until:
            found[-1] += f"\n{line}"
            until = "" if line.strip() == until else until
        elif found and found[-1].endswith("\\"):
            found[-1] = f"{found[-1][:-1].rstrip()} {line.strip()}"
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line.strip())
            opened = re.search(r"<<-?'?(\w+)'?", line)
            until = opened[1] if opened else ""
    return found
