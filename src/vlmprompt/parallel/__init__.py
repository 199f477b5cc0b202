"""One run in several processes: who they are, what they say to each other, which part of the work is whose."""
