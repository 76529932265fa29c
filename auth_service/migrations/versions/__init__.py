"""One file a revision; they are never changed once released."""
