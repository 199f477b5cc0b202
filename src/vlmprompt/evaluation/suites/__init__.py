"""Suites: one file each."""
