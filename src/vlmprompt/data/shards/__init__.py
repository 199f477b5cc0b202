"""`wds:<folder or pattern>`: images in tar files, as webdataset and CLIP_benchmark write them.

`names.py` finds the shards, `index.py` says what is in each, `reader.py` makes a data set of it.
"""
