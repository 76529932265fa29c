"""Writes the manifests that repeat another file of `deploy/`; a test compares them with what they were written from."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent
from typing import Final

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
TARGET: Final = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "rules.yaml"
HEAD: Final = """\
# Written by scripts/manifests.py from deploy/prometheus/rules.yml: change that, then run the script.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: gateway
spec:
"""


def prometheus_rule() -> str:
    """Return the rules as the Prometheus operator takes them; their text and its comments stay as they are."""
    before, marker, groups = RULES.read_text(encoding="utf-8").partition("\ngroups:\n")
    if not marker:
        raise SystemExit(f"{RULES.relative_to(ROOT)} has no line `groups:`")
    return HEAD + indent(f"{before}\ngroups:\n{groups}", "  ")


def main() -> int:
    """Write what has changed."""
    text = prometheus_rule()
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        TARGET.write_text(text, encoding="utf-8")
        print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
