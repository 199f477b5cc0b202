"""The text engine: class names under learnable prompts, on any kind of text tower."""
