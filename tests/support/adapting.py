"""The files in `deploy/`, adapted to a test: addresses, ports and folders are its own, the rest is as it is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).parent.parent.parent / "deploy"
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy stands, and whom it stands before; `changes`: of our files, for this test alone."""

    folder: Path
    port: int
    plain_port: int
    nodes: Sequence[int]
    auth: int
    changes: Mapping[str, str] = field(default_factory=dict)

    def write(self, files: Mapping[Path, Mapping[str, str]]) -> None:
        """Write files with parts replaced, each of which must be there; one that is watched is never seen half."""
        texts = {path: path.read_text(encoding="utf-8") for path in files}
        lost = [old for old in self.changes if not any(old in text for text in texts.values())]
        assert not lost, f"{lost} is in none of {[it.name for it in files]}"
        for path, changes in files.items():
            mine = {old: new for old, new in self.changes.items() if old in texts[path]}
            fresh = self.folder / f"{path.name}.fresh"
            fresh.write_text(adapted(texts[path], {**mine, **changes}), encoding="utf-8")
            fresh.replace(self.folder / path.name)


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """Return a text with parts replaced; each must be there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not there any more"
        text = text.replace(old, new)
    return text
