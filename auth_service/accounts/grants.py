"""What a live session gets signed beside its access tokens: subscription tokens and tickets."""

from __future__ import annotations

from auth_service.accounts.policy import Caller, SubscriptionPolicy, allows
from auth_service.audit import Audit
from auth_service.errors import Refused
from auth_service.metrics import Metrics
from auth_service.store import Live
from auth_service.tokens import Signed, Tokens


class Grants:
    """The rules."""

    def __init__(self, *, tokens: Tokens, policy: SubscriptionPolicy, metrics: Metrics, audit: Audit) -> None:
        self._tokens = tokens
        self._policy = policy
        self._metrics = metrics
        self._audit = audit

    async def subscription(self, live: Live, channel: str, client: str | None, address: str) -> Signed:
        """Sign a subscription token, if the policy lets this user into this channel. Raises Refused (403)."""
        allowed = await allows(self._policy, Caller(live.user, live.claims.roles), channel)
        result = "ok" if allowed else "refused"
        self._audit.note("token_subscription", result=result, user=live.user, session=live.session_id, address=address)
        if not allowed:
            raise Refused(403, "channel_denied", "you may not subscribe to this channel")
        self._metrics.tokens.labels("subscription").inc()
        return self._tokens.subscription(live, channel, client)

    def ticket(self, live: Live, address: str) -> Signed:
        """Sign a one-time ticket."""
        self._metrics.tokens.labels("ticket").inc()
        self._audit.note("ticket", result="ok", user=live.user, session=live.session_id, address=address)
        return self._tokens.ticket(live)
