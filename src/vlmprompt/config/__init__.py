"""Configuration: pydantic models, layers merged with their source known."""
