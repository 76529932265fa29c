"""`make compare`: this gateway beside servers that others build with, each one on the same core in turn."""
