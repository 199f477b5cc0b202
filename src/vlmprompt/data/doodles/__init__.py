"""The built-in world: drawn pictures of everyday things, rendered when asked for; nothing is stored or downloaded."""
