"""One client ahead of all others: whatever keeps a run from being played is said in one sentence before it begins."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from loadtests.clients.conversation import Conversation
from loadtests.clients.dial import AddressError, Dial, Place, look_up, trusting
from loadtests.clients.ground import Ground
from loadtests.clients.link import HandshakeError, Link
from loadtests.clients.publications import Hearsay, Stamp
from loadtests.kit.local import NAMESPACES
from loadtests.kit.profile import Profile
from loadtests.kit.target import Mint, Target, TargetError
from loadtests.oracle import Ledger, Log
from loadtests.scenarios.contract import RefusedError
from loadtests.workers.meters import ProcessMeters

STATUS: Final[Mapping[int, str]] = {
    0: "does not speak WebSocket there: is the path right? the default is /connection/websocket",
    400: "takes the handshake for a bad request: is something in between that does not pass upgrades on?",
    401: "wants credentials before the handshake: does a proxy guard it?",
    403: "refuses the handshake: is the path right (/connection/websocket unless --target names one)?",
    404: "has no WebSocket there: is the path right (/connection/websocket unless --target names one)?",
    429: "takes no more connections from here: see `http_server.connections_per_ip` of the target",
    503: "takes no connections now: see /health/ready, `client.connection_limit` and `client.connection_rate_limit`",
}
TOKEN: Final[Mapping[str, str]] = {
    "none": "it wants a token: give --secret, --key or --tokens",
    "signed": (
        "it does not accept the tokens: are --secret or --key and --kid those that its `client.token` knows, and "
        "--audience and --issuer what it asks for?"
    ),
    "listed": "it does not accept the tokens of the file: are they expired, or of another issuer?",
}
TEMPORARY: Final = 100  # internal error: of a node without the issuer's newest keys, for one
PATIENCE: Final = 20.0  # seconds for such errors to pass
RIGHTS: Final[Mapping[str, str]] = {
    "subscribe": "allow_subscribe_for_client",
    "publish": "allow_publish_for_client",
}


async def probe(target: Target, profile: Profile) -> None:
    """Connect to each node, subscribe, and publish if the profile does. Raises TargetError with what to do."""
    try:
        places = await look_up(target.urls)
        trust = trusting(target.ca, insecure=target.insecure)
    except (AddressError, OSError) as error:
        raise TargetError(f"--ca {target.ca}: {error}" if isinstance(error, OSError) else str(error)) from None
    for place in places:
        await _Probe(target, profile, place, trust).run()


class _Probe:
    """One node's."""

    logs: dict[str, Log]
    member: Callable[[str, str, bool], None] | None = None

    def __init__(self, target: Target, profile: Profile, place: Place, trust: ssl.SSLContext) -> None:
        self._target = target
        self._profile = profile
        self._url = place.node.url
        self._channel = f"{profile.namespace}:" * bool(profile.namespace) + f"probe-{secrets.token_hex(4)}"
        self._code = 0
        stamp = Stamp("probe", profile.size)
        self._ground = Ground(
            dial=Dial([place], trust=trust),
            token=Mint(target.tokens, 0.0).token,
            meters=ProcessMeters(),
            ledger=Ledger(),
            rng=random.Random(0),
            stamp=stamp,
            hearsay=Hearsay(stamp),
            spawn=_nothing,
            recovery=profile.recovery,
            run="probe",
        )
        self.logs = {self._channel: Log("probe", self._channel, self._ground.ledger)}

    def unsubscribed(self, channel: str, code: int) -> None:
        """Of no interest."""

    def read_something(self) -> None:
        """Of no interest."""

    async def run(self) -> None:
        """Raises TargetError. A temporary error is borne for a while: a node asks for new keys only now and then."""
        stop = time.monotonic() + PATIENCE
        while not await self._tried(last=time.monotonic() >= stop):  # noqa: ASYNC110 - nobody tells when it passes
            await asyncio.sleep(1.0)

    # --- inside

    async def _tried(self, *, last: bool) -> bool:
        """Do it all once; False: an error that is temporary, unless this try is the last."""
        talk = Conversation(self, self._ground, timed=False)

        def ended(code: int) -> None:
            self._code = code
            talk.over()

        talk.link = link = await self._dial(talk, ended)
        try:
            if not await self._connected(talk, last=last):
                return False
            await self._may(
                "subscribe",
                talk.subscribe(self._channel, self.logs[self._channel], since=None, recovery=self._profile.recovery),
            )
            if self._profile.rate:
                data = json.loads(self._ground.stamp.data(1, 0))
                await self._may("publish", talk.ask({"publish": {"channel": self._channel, "data": data}}))
        finally:
            link.cut()
        return True

    async def _dial(self, talk: Conversation, ended: Callable[[int], None]) -> Link:
        try:
            return await self._ground.dial.open(0, told=talk.told, ended=ended)
        except HandshakeError as error:
            what = STATUS.get(error.status, f"answers the handshake with {error.status} {error.detail}")
            said = f" ({error.status})" if error.status in STATUS and error.status else ""
            raise TargetError(f"{self._url} {what}{said}") from None
        except ssl.SSLCertVerificationError as error:
            raise TargetError(
                f"{self._url} shows a certificate that is not trusted ({error.verify_message}): give --ca FILE, or "
                "--insecure if it does not matter who answers"
            ) from None
        except ssl.SSLError as error:
            raise TargetError(f"{self._url} does not speak TLS there ({error.reason}): is it http://?") from None
        except ConnectionRefusedError:
            raise TargetError(f"{self._url} refuses connections: does a gateway listen there?") from None
        except TimeoutError:
            raise TargetError(f"{self._url} does not answer: is the address right, and no firewall between?") from None
        except OSError as error:
            raise TargetError(f"{self._url} cannot be reached: {error.strerror or error}") from None

    async def _connected(self, talk: Conversation, *, last: bool) -> bool:
        user = f"load-probe-{secrets.token_hex(4)}"
        try:
            await talk.connect(self._ground.token(user, 0))
        except RefusedError as error:
            code = error.code or self._code
            if code == TEMPORARY and not last:
                return False
            if code in {101, 109, 3500, 3501}:
                raise TargetError(f"{self._url} closes with {code}: {TOKEN[self._target.tokens.kind]}") from None
            raise TargetError(f"{self._url} refuses to let a client in: {error if error.code else code}") from None
        return True

    async def _may(self, what: str, doing: Coroutine[Any, Any, object]) -> None:
        try:
            await doing
        except RefusedError as error:
            raise TargetError(f"{self._url} does not let clients {what}: {self._why(what, error)}") from None

    def _why(self, what: str, error: RefusedError) -> str:
        name = self._profile.namespace
        wanted = json.dumps({"name": name, **NAMESPACES.get(name, {})})
        if error.code == 102:
            return f"it has no namespace {name!r} (102). Add it to `channel.namespaces`: {wanted}"
        where = f"the namespace {name!r}" if name else "`channel.without_namespace`"
        if error.code == 103:
            return f"{where} lacks {RIGHTS[what]} (103)" + f"; the scenario wants {wanted}" * bool(name)
        return f"{error}" if error.code else f"the connection ended with {self._code}"


def _nothing(work: Coroutine[Any, Any, None]) -> None:
    work.close()
