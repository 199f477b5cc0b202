"""The engine: text and image towers on prompt embeddings. `openclip` is the only file that imports open_clip."""
