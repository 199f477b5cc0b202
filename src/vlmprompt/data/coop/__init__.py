"""`coop:<name>`: the benchmark data sets of CLIP prompt learning, as CoOp lays them out and splits them.

`benchmarks.toml` says what is known of each; the modules read any of them by those facts.
"""
