"""What kind of file system a path lies on, as far as Linux tells."""

from __future__ import annotations

from pathlib import Path

NETWORK = ("nfs", "cifs", "smb", "smb3", "afs", "9p", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "fuse.sshfs")
"""Types whose locks between machines SQLite cannot rely on."""
MOUNTS = Path("/proc/self/mounts")


def network_type(path: Path) -> str | None:
    """The type of the network file system that `path` (which need not exist yet) lies on; None for a local disk."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return None
    absolute = path.expanduser().resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if absolute.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if kind.startswith("nfs") or kind in NETWORK else None


def warning(path: Path) -> str | None:
    """What to say of a database at `path`, if it lies on a network file system."""
    kind = network_type(path)
    if kind is None:
        return None
    return (
        f"'{path}' lies on a network file system ({kind}), whose locks SQLite cannot rely on: let one machine "
        "write it, or use a server with --db postgresql+psycopg://..."
    )
