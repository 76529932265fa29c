"""The page: whole by itself, and nothing that is written in a run can act in it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser

import msgspec
import pytest

from loadtests.kit.result import Audit, Broken, Result
from loadtests.reports import page
from loadtests.reports.verdict import TIMES
from tests.support import results

HOSTILE = "</style></title><script>alert(1)</script><img src=//evil.example onerror=alert(1)>\"'{{7*7}}\x00\u202e&lt;"
VOID = {"meta", "link", "img", "br"}


RUNS = {"good": results.good, "bad": results.bad, "saturated": results.saturated}


@cache
def drawn(name: str) -> str:
    """Return the page of a run; drawing takes a while."""
    return page.html(RUNS[name]())


class Reader(HTMLParser):
    """Reads a page: its tags, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it: those of a drawing close themselves."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """See that tags are nested."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Keep it."""
        if "style" not in self.open:
            self.text.append(data)


def hostile(result: Result) -> Result:
    """Return the run with something hostile in each of its texts that a server or a file may choose."""
    return msgspec.structs.replace(
        result,
        scenario=HOSTILE,
        target=HOSTILE,
        command=HOSTILE,
        started=HOSTILE,
        profile={**result.profile, "about": HOSTILE, "namespace": HOSTILE},
        versions=dict.fromkeys(result.versions, HOSTILE),
        machine=msgspec.structs.replace(result.machine, model=HOSTILE, system=HOSTILE, python=HOSTILE),
        nodes=[msgspec.structs.replace(it, node=HOSTILE + it.node) for it in result.nodes],
        remarks=[HOSTILE for _ in result.remarks],
        audit=msgspec.structs.replace(
            result.audit,
            offences=[HOSTILE for _ in result.audit.offences],
            told={f"{HOSTILE}{number}": count for number, count in enumerate(result.audit.told.values())},
        ),
        broken=[
            msgspec.structs.replace(it, name=it.name if it.name in TIMES else HOSTILE, why=HOSTILE)
            for it in result.broken
        ],
        figures={f"{HOSTILE}{number}": value for number, value in enumerate(result.figures.values())},
        closes={f"{HOSTILE}{number}": value for number, value in enumerate(result.closes.values())},
        refusals={f"{HOSTILE}{number}": value for number, value in enumerate(result.refusals.values())},
        connect=msgspec.structs.replace(result.connect, hdr=HOSTILE),
    )


def test_the_verdict_comes_first() -> None:
    """Before figures, drawings and tables; each run in its colour."""
    for run, kind, words in (
        ("good", "passed", "PASSED"),
        ("bad", "failed", "FAILED: 6 things"),
        ("saturated", "void", "VOID: the generator was saturated"),
    ):
        text = drawn(run)
        assert f'<section class="verdict {kind}">' in text
        order = [text.index(words, text.index("<body>")), text.index("<svg"), text.index("<table"), text.index("<pre>")]
        assert sorted(order) == order


def test_a_page_holds_all_of_a_run() -> None:
    """Figures, drawings, every table, the profile, the machine, and the command that repeats it."""
    text = " ".join(" ".join(Reader(drawn("bad")).text).split())
    for words in ("20,000", "26.5 ms", "deliveries a second", "silent gap in load:1", "no pong", "could not be read"):
        assert words in text
    for words in ("expect.lost", "A Processor 9000", "Valkey 8.1.8", "python -m loadtests run fan-out --target"):
        assert words in text


def test_a_page_shows_what_only_some_runs_have() -> None:
    """Figures of the scenario, why an expectation could not be judged, what never came, who was slow."""
    text = " ".join(" ".join(Reader(drawn("bad")).text).split())
    for words in ("back 95 2.3 s", "but nothing of this was measured", "never delivered 8",
                  "clients slow lag p99", "closed for not reading, a second"):  # fmt: skip
        assert words in text


def test_a_void_page_shows_no_latency_and_no_rate() -> None:
    """But why, and what to do."""
    text, good = drawn("saturated"), drawn("good")
    assert "--processes 4" in text
    for words in ("26.5 ms", "deliveries a second", "latency by percentile", "p99.9", "best second"):
        assert (True, False) == (words in good, words in text)
    assert "34.2 ms" not in text


def test_a_page_is_the_same_each_time() -> None:
    """The same run, the same text."""
    assert drawn("bad") == page.html(results.bad())


def test_a_page_asks_for_nothing() -> None:
    """No script, no style beside its own, no address that a browser would fetch."""
    text = drawn("bad")
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "a", "use", "image"} & set(read.tags)
    assert not {it for it in read.attributes if it[1] in {"src", "href", "style", "srcset", "action", "xlink:href"}}
    assert not [it for it in read.attributes if it[1].startswith("on")]
    assert not re.search(r"@import|url\((?!#p)", text)
    assert 1 == read.tags["style"]


@pytest.mark.parametrize("run", ["good", "saturated"])
def test_the_policy_allows_the_style_of_the_page_alone(run: str) -> None:
    """Its digest is that of what stands between the tags, so that the style applies and no other does."""
    text = drawn(run)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    (policy,) = [value for tag, name, value in Reader(text).attributes if (tag, name) == ("meta", "content")][:1]
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" == policy


@pytest.mark.parametrize("run", ["bad", "saturated"])
def test_hostile_texts_stay_texts(run: str) -> None:
    """Not a tag nor an attribute more than with harmless ones, whatever a server or a file calls itself."""
    text = page.html(hostile(RUNS[run]()))
    harmless, attacked = Reader(drawn(run)), Reader(text)
    structure = Counter({tag: count for tag, count in harmless.tags.items() if tag not in {"text", "g"}})
    assert structure == Counter({tag: count for tag, count in attacked.tags.items() if tag not in {"text", "g"}})
    names = {(tag, name) for tag, name, _ in harmless.attributes}
    assert {(tag, name) for tag, name, _ in attacked.attributes} <= names
    seen = " ".join(attacked.text)
    assert "<script>alert(1)</script>" in seen
    assert "{{7*7}}" in seen
    assert not re.search("[\x00\u202e]", text)


def test_a_run_of_nearly_nothing_has_a_page() -> None:
    """Ended at once: no second, no node, no process."""
    empty = msgspec.structs.replace(
        results.good(nodes=[]),
        seconds=[],
        generators=[],
        measured=0.0,
        profile={},
        audit=Audit(),
        broken=[Broken(name="p99", wanted=1.0, seen=0.0, why="nothing of this was measured")],
    )
    text = page.html(empty)
    assert "VOID: nothing was measured" in text
    assert "nothing of this was measured" in text
