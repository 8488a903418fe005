"""When something began, by two clocks: the calendar's for people, and one that never goes backwards for durations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class Began:
    """A beginning. The calendar may be set back while a trial runs; what is said here never ends before it began."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)
    """time.perf_counter, in seconds."""

    @property
    def seconds(self) -> float:
        """Seconds since."""
        return time.perf_counter() - self.clock

    def now(self) -> datetime:
        """The calendar's time of the beginning and the seconds since."""
        return self.at + timedelta(seconds=self.seconds)
