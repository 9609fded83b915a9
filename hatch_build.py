"""What the build of the package does besides copying: the description, and the configs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class DescriptionHook(MetadataHookInterface):
    """Sets the field `readme`, which pyproject.toml lists as dynamic: README.md, to be read without a checkout."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": described(text)}


class ConfigsHook(BuildHookInterface):
    """Puts configs/ into the package; an editable installation has them beside it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["configs"] = "dist_hdnn/configs"


def described(readme: str) -> str:
    """README without pictures, and with the path beside the words where a relative link was."""
    without_pictures = re.sub(r"^<img .*?>\n\n?", "", readme, flags=re.MULTILINE)

    def as_words(link: re.Match[str]) -> str:
        words, target = link[1], link[2]
        return words if words == Path(target).name else f"{words} (`{target}`)"

    return re.sub(r"\[([^\]]+)\]\((?!https?://)([^)]+)\)", as_words, without_pictures)
