"""The engine: text and image towers on prompt embeddings. Only the folder `openclip` imports open_clip."""
