"""All that knows open_clip: names of models, their loading, and how the parts of a model become towers."""
