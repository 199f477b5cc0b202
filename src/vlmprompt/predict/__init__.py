"""A trained method at work on pictures: classes, probabilities, what it does not know."""
