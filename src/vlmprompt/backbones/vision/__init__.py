"""The image engines: pooled and local features of images, on any kind of image tower."""
