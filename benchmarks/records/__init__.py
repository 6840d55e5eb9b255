"""What a run leaves behind, and reading it with care: files, tables, the index."""
