"""Recipes: a published table, or one of our own, as a grid of runs and the columns to show; data, not code."""
