"""Signing keys: what a key is, which one signs, and how one follows another."""
