"""What the names of users may be."""

from __future__ import annotations

from typing import Final

# what `#user` and `dialog#a,b` can carry: no comma, no `#`, nothing that breaks a line
USER_NAME: Final = r"[A-Za-z0-9_.-]{1,64}"
