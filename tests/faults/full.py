"""The full fault run: many kills, 10,000 fuzzed inputs; its figures go into a JSON file and `docs/reliability.md`.

make faults        (or: python tests/faults/full.py --kills 50 --fuzz 10000)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kills

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "reliability.md"
FIGURES = HERE / "figures.json"
BLOCK = re.compile(r"(?<=<!-- figures:start -->\n).*?(?=<!-- figures:end -->)", re.S)


def fuzz(inputs: int) -> dict[str, Any]:
    """Run the fuzzing tests on so many inputs; how many there were of each kind, and whether all were well."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.json"
        tests = map(str, sorted(HERE.glob("test_fuzzing*.py")))
        command = [sys.executable, "-m", "pytest", *tests, "-q", "--timeout", "3600"]
        environment = {**os.environ, "HARNESS_FUZZ": str(inputs), "HARNESS_FUZZ_JSON": str(counts)}
        done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=HERE.parent.parent, env=environment)
        tried = json.loads(counts.read_text())
    return {"inputs": tried, "all_well": done.returncode == 0, "seconds": time.monotonic() - began}


def figures(found: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    killed, fuzzed = found["kills"], found["fuzzing"]
    inputs = fuzzed["inputs"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in inputs.items())
    seconds = killed["seconds"] + fuzzed["seconds"]
    rows = [
        ("Kills (SIGKILL) of the running command", killed["kills"]),
        ("Ctrl-C and SIGTERM", killed["interrupts"]),
        ("Kills of a worker process", killed["worker_kills"]),
        ("Suites completed all the same", killed["rounds"]),
        ("Runs compared bit for bit with undisturbed ones", killed["runs_compared"]),
        ("Of these, gone on from a checkpoint", killed["resumed"]),
        ("**Runs lost**", killed["lost"]),
        ("**Runs doubled**", killed["doubled"]),
        ("**Runs that differ**", killed["different"]),
        ("**Databases damaged**", killed["damaged"]),
        ("Fuzzed inputs", f"{sum(inputs.values()):,} ({kinds})"),
        ("**Tracebacks, writes outside, changed databases**", 0 if fuzzed["all_well"] else "some: see the output"),
    ]
    lines = ["| What | Count |", "|:---|---:|", *(f"| {name} | {count} |" for name, count in rows)]
    where = f"{found['date']}, {found['machine']}, Python {found['python']}, {seconds / 60:.0f} minutes"
    return "\n".join([f"Last full run: {where}.", "", *lines, ""])


def main() -> None:
    """Run everything, write the figures; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--worker-kills", type=int, default=4)
    parser.add_argument("--fuzz", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    fuzzed = fuzz(options.fuzz)
    tally = kills.session(options.kills, options.worker_kills, options.seed)
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "seed": options.seed,
        "kills": dataclasses.asdict(tally),
        "fuzzing": fuzzed,
    }
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")
    if DOCUMENT.is_file():
        DOCUMENT.write_text(BLOCK.sub(lambda _: figures(found), DOCUMENT.read_text()))
    print(figures(found))
    bad = tally.lost + tally.doubled + tally.different + tally.damaged
    sys.exit(1 if bad or not fuzzed["all_well"] else 0)


if __name__ == "__main__":
    main()
