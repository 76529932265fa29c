"""Tests: gateway.codecs."""
