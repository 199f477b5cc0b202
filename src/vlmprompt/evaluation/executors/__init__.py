"""Executors: who carries out the runs of a sweep elsewhere than in this process."""
