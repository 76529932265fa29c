"""Tests: gateway.codecs.centrifuge_json."""
