"""The Centrifuge client protocol in JSON, as the official SDKs speak it."""

from __future__ import annotations

from gateway.codecs.centrifuge_json.codec import CentrifugeJsonCodec
from gateway.contracts.codec import Codec

codec: Codec = CentrifugeJsonCodec()
