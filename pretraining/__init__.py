"""How doodle-clip was made: rendered scenes, captions, training, measurement. Not part of the installed package."""
