"""A trained run as files that other programs use: ONNX, class embeddings, a folder of open_clip."""
