"""A method that does not come to an end the first time; a plugin file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.api import AttachContext, Method


@dataclass(frozen=True)
class Waits(Method):
    """Writes the number of its process into `file` and sleeps; where there is such a file, learns the head alone."""

    name: ClassVar[str] = "waits"
    title: ClassVar[str] = "Waits"
    file: str = ""

    def attach(self, model: Any, context: AttachContext) -> None:
        place = Path(self.file)
        if place.exists():
            return
        new = place.with_suffix(".new")
        new.write_text(str(os.getpid()))
        new.rename(place)  # whoever sees it can read it
        time.sleep(600)
