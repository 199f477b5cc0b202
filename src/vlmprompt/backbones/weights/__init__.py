"""Files of weights as people have them: what each is, its tensors without running it, and how they fit a model."""
