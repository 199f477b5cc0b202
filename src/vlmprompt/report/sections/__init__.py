"""Sections of the page, one file each: `section(runs) -> Section | None`."""
