"""Evaluation: suites say what is measured, the runner measures what is not done yet."""
