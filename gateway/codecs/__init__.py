"""Wire protocols, one file or folder each, found by name."""
