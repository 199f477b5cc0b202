"""`hf:<name or folder>`: data sets of the Hugging Face hub, or on disk, through the package `datasets`.

`source.py` finds the tables, `files.py` looks into files before the package does, `columns.py` says which columns
are meant, `labels.py` what their labels mean, `reader.py` makes a data set of it.
"""
