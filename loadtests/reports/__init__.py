"""What a reader sees of a run: drawings, tables in the terminal, one page, and the file they come from."""
