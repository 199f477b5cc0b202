"""Image features on disk, in shards that any number of processes and runs share."""
