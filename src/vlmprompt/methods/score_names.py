"""The names of the scores that tell known classes from all else; light, for whoever only checks a name."""

from __future__ import annotations

SCORES = ("mcm", "l-mcm", "gl-mcm", "max-logit", "energy", "entropy", "var", "msp")
