"""Tests: auth_service/passwords."""
