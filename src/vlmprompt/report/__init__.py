"""The page of what was measured: runs as they are read for it, its sections, and the file that holds it."""
