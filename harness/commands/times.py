"""Times as options write them: 2h, 90m, 1h30m, 45s."""

from __future__ import annotations

import re

from harness.errors import UserError

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(option: str, text: str) -> float:
    """Seconds, more than none; UserError names the option if `text` is no time."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text, re.ASCII)
    found = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < found < 1e9:
        raise UserError(f"{option} {text}: give a time such as 2h, 90m, 1h30m or 45s.")
    return found
