"""The oracle: what was published against what each client saw; it finds every loss that nobody was told of.

Pure and without a clock. Publishers number their messages per channel and write into a `Ledger`; each client keeps a
`Log` per channel; `verify` compares them. A log stays small however long a run lasts: what arrived in order is one run.
"""

from loadtests.oracle.dumps import LogDump, PageDump, plain, revived
from loadtests.oracle.endings import SPEAKER
from loadtests.oracle.ledger import Ledger
from loadtests.oracle.log import Log
from loadtests.oracle.offences import ANY, KINDS, SHOWN, Ending, How, Kind, Offence
from loadtests.oracle.silence import unanswered, unheard
from loadtests.oracle.tops import agreed
from loadtests.oracle.verdict import Verdict, verify

__all__ = [
    "ANY",
    "KINDS",
    "SHOWN",
    "SPEAKER",
    "Ending",
    "How",
    "Kind",
    "Ledger",
    "Log",
    "LogDump",
    "Offence",
    "PageDump",
    "Verdict",
    "agreed",
    "plain",
    "revived",
    "unanswered",
    "unheard",
    "verify",
]
