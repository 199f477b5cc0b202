"""Class descriptions: asked of a provider once, cached, reviewed as text, found again by data set."""
