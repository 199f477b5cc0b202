"""Data sets: readers, few-shot sampling, transforms and the device loader."""
