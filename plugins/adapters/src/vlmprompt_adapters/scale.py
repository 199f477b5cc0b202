"""The logit scale of codes that write it as a number."""

from __future__ import annotations

# OpenAI's towers learned this scale. Codes that write the number use it with any tower, whatever its own scale is.
SCALE = 100.0
