"""`wds:<folder or pattern>`: images in tar files, as webdataset and CLIP_benchmark write them.

`names.py` finds the shards, `braces.py` what a pattern means, `index.py` says what is in each, `pairs.py` which of it
are images with labels, `labels.py` what the labels mean, `reader.py` makes a data set of it.
"""
