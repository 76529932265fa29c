"""Tests: gateway.codecs.chat."""
