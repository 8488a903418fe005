"""What may stand in a bundle: names of members, fields of lines, limits, and hashes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, get_args

from harness.api import Kind
from harness.errors import UserError
from harness.records import Costs, Forgetting, Status
from harness.schema import RANK_BY

VERSION = 1
"""Raised when a bundle of before could be misread."""
MANIFEST = "bundle.json"
TABLES = ("methods", "tasks", "suites", "stacks", "runs")
MOST_MEMBERS = 200_000
MOST_BYTES = 2 * 2**30
"""Of all members together, unpacked."""
MOST_MEMBER_BYTES = 256 * 2**20
MOST_RATIO = 400
"""Unpacked to packed bytes of one member beyond `SMALL`; JSON of predictions stays far below."""
SMALL = 4 * 2**20
ARRAY = re.compile(r"arrays/([0-9a-f]{64})\.json")

Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    """A text without zero bytes, which databases keep in no text."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


def name(value: Any) -> bool:
    """A text of some length that fits on a line."""
    return text(value) and 0 < len(value) <= 500 and value.isprintable()


def whole(value: Any) -> bool:
    """A whole number that a database column can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def number(value: Any) -> bool:
    """A finite number, a whole one within 64 bits."""
    return whole(value) or (isinstance(value, float) and math.isfinite(value))


def count(value: Any) -> bool:
    """A whole number from 0 on that fits into 32 bits: epochs, steps, versions."""
    return whole(value) and 0 <= value < 2**31


def score(value: Any) -> bool:
    """A number that a metric can be."""
    return number(value) and -1 <= value <= 1


def truth(value: Any) -> bool:
    """true or false."""
    return isinstance(value, bool)


def table(value: Any) -> bool:
    """An object."""
    return isinstance(value, dict)


def holding(**checks: Check) -> Check:
    """An object in which these keys, if it has them, hold null or what their check accepts."""
    return lambda value: table(value) and all(optional(check)(value.get(key)) for key, check in checks.items())


def names(value: Any) -> bool:
    """A list of names, at least one."""
    return isinstance(value, list) and bool(value) and all(map(name, value))


def moment(value: Any) -> bool:
    """A time with its zone, as ISO 8601 has it."""
    try:
        return isinstance(value, str) and len(value) <= 40 and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def optional(check: Check) -> Check:
    """null, or what `check` accepts."""
    return lambda value: value is None or check(value)


def one_of(*choices: str) -> Check:
    """One of these texts."""
    return lambda value: isinstance(value, str) and value in choices


def digits(length: int) -> Check:
    """So many lower-case hexadecimal digits."""
    pattern = re.compile(rf"[0-9a-f]{{{length}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def listed(*checks: Check) -> Check:
    """A list of lists, each with one value for every check."""
    return lambda value: (
        isinstance(value, list)
        and all(
            isinstance(item, list)
            and len(item) == len(checks)
            and all(check(part) for check, part in zip(checks, item, strict=True))
            for item in value
        )
    )


_WHOLE_COSTS = {"pack_trials": count, "peak_memory_bytes": whole, "adapter_bytes": whole}
STACK = holding(threads=count)
PROVENANCE = holding(
    commit=text, dirty=truth, backbone_sha256=text, data_sha256=text, start_head=text, whole_batches=truth
)
"""What columns and commands take from it; the rest is only shown and compared."""
FIELDS: dict[str, dict[str, Check]] = {
    "manifest": {
        "version": whole,
        "harness": name,
        "schema": whole,
        "origin": optional(name),
        "made_at": moment,
        "sha256": table,
    },
    "methods": {"name": name, "title": name, "paper": text, "formula": text, "summary": text, "control": truth},
    "tasks": {
        "name": name,
        "version": count,
        "title": name,
        "kind": one_of(*get_args(Kind)),
        "metrics": names,
        "tests": names,
        "source": text,
    },
    "suites": {
        "name": name,
        "title": name,
        "description": text,
        "rank_by": one_of(*RANK_BY),
        "members": listed(name, name, digits(16)),
    },
    "stacks": {"id": digits(16), "details": STACK},
    "runs": {
        "id": digits(12),
        "trial": table,
        "stack": optional(digits(16)),
        "status": one_of(*get_args(Status)),
        "reason": text,
        "traceback": text,
        "started_at": moment,
        "finished_at": moment,
        "parameters": optional(lambda value: isinstance(value, list) and len(value) == 3 and all(map(whole, value))),
        "costs": table,
        "forgetting": table,
        "scores": listed(count, name, name, optional(score)),
        "losses": listed(count, optional(number)),
        "predictions": listed(name, count, digits(64), digits(64), digits(64)),
        "provenance": PROVENANCE,
        "origin": optional(name),
        "sha256": digits(64),
    },
    "costs": {item.name: optional(_WHOLE_COSTS.get(item.name, number)) for item in fields(Costs)},
    "forgetting": {item.name: optional(number) for item in fields(Forgetting)},
}
"""What each line, and each table inside one, must have: every field, no other, each of its type."""


def checked(kind: str, value: Any, where: str) -> dict[str, Any]:
    """The value, if it has exactly the fields of its kind, each of its type; else a UserError."""
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object.")
    known = FIELDS[kind]
    for key in value:
        if key not in known:
            raise UserError(f"{where} has a field {shown(key)} that bundles of version {VERSION} do not know.")
    for key, check in known.items():
        if key not in value:
            raise UserError(f"{where} lacks the field '{key}'.")
        if not check(value[key]):
            raise UserError(f"{where}: {key} = {shown(value[key])} is not what belongs there.")
    return value


def shown(value: Any) -> str:
    """A value for a message, on one line and short."""
    written = repr(value)
    return written if len(written) <= 60 else f"{written[:57]}..."


def canonical(value: Any) -> bytes:
    """The JSON that hashes are of: sorted keys, no spaces, nothing that is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def run_sha256(run: Mapping[str, Any]) -> str:
    """Hash of what a run says: all of its line but the hash itself and who submitted it."""
    return sha256(canonical({key: value for key, value in run.items() if key not in ("sha256", "origin")}))
