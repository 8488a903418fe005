"""Tokens and passwords never get into the database, a log or an error message: they are struck out on the way."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from harness.records import RunRecord

STRUCK = "[redacted]"
SHORTEST = 6
"""A value with fewer characters is no secret worth the name, and would strike out ordinary words."""

_SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(^|_)AUTH", re.I
)
_NO_SECRETS = frozenset({"TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "RAY_AUTH_MODE"})
_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bhf_[A-Za-z0-9]{16,}",  # Hugging Face
        r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}",
        r"\bsk-[A-Za-z0-9_-]{20,}",
        r"\bAKIA[0-9A-Z]{16}\b",
        r"(?<=Bearer )[^\s'\"]+|(?<=Basic )[A-Za-z0-9+/=]{12,}",
        r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # user and password of a URL
        r"(?i:(?<=token=)|(?<=password=)|(?<=api_key=)|(?<=signature=))[^\s&'\"]{6,}",
    )
)


def redact(text: str) -> str:
    """The text without what looks like a token, and without the value of any environment variable named like one.

    Zero bytes, which PostgreSQL keeps in no text, are spelled out.
    """
    text = text.replace("\0", "\\0")
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, STRUCK)
    for shape in _SHAPES:
        text = shape.sub(STRUCK, text)
    return text


def redact_deep(value: Any) -> Any:
    """The same for every text in a value of JSON's kinds, keys left alone."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_deep(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_deep(item) for item in value]
    return value


def redacted(record: RunRecord) -> RunRecord:
    """The record with its reason, traceback and provenance redacted."""
    return dataclasses.replace(
        record,
        reason=redact(record.reason),
        traceback=redact(record.traceback),
        provenance=redact_deep(record.provenance),
    )


def install() -> None:
    """From now on log messages and the traceback of an error that ends this process are redacted."""
    make = logging.getLogRecordFactory()
    if not getattr(make, "redacts", False):

        def redacting(*arguments: Any, **named: Any) -> logging.LogRecord:
            record = make(*arguments, **named)
            record.msg, record.args = redact(record.getMessage()), ()
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
            return record

        redacting.redacts = True  # type: ignore[attr-defined]
        logging.setLogRecordFactory(redacting)
    sys.excepthook = _print_redacted


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _secrets() -> set[str]:
    return {
        value
        for name, value in os.environ.items()
        if _SECRET_NAMES.search(name) and name not in _NO_SECRETS and len(value) >= SHORTEST
    }
