"""Faults of the machine, which may pass and are tried again after a while; faults of a trial never are."""

from __future__ import annotations

import errno

AGAIN = (1.0, 5.0, 25.0)
"""Seconds to wait before each further try."""

_PASSING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)


def may_pass(error: BaseException) -> bool:
    """Whether the error is the machine's (disk full, files all taken, network away) and not the trial's."""
    return isinstance(error, OSError) and error.errno in _PASSING
