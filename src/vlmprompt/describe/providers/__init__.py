"""Providers of descriptions, one a file."""
