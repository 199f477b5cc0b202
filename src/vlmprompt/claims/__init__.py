"""Who is at work on what, among processes of one machine or of several that share a folder."""
