"""Rooms, private messages and history for a bare WebSocket client."""

from __future__ import annotations

from gateway.codecs.chat.codec import ChatCodec
from gateway.contracts.codec import Codec

codec: Codec = ChatCodec()
