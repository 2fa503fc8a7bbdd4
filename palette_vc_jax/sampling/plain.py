"""The settings that keep the model's own chroma, for the paper's tables and for measurements."""

from typing import Any

# Overrides for `colorize.default_settings`. Importing this file loads no library.
PLAIN: dict[str, Any] = {"neutral_dark": 0.0, "neutral_bright": 1.0, "transitions": "ignore"}
