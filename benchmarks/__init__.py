"""What must be fast, and how it is shown: `python -m benchmarks.run` (or `nox -s bench`).

Every figure is a ratio of two things timed side by side in one process, medians of several repeats, so that
it means the same on any machine; the reference paths in `plain.py` use nothing but open_clip's own blocks.
"""
