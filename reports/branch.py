"""A folder as the content of a git branch, without touching the working tree, its index or the branch that is out."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from harness.errors import UserError

PLAIN = ("-c", "core.autocrlf=false", "-c", "core.safecrlf=false")
"""Bytes are committed as they are."""


def repository(path: Path) -> Path:
    """The git folder of the repository that `path` lies in; UserError without one."""
    return Path(_git(["rev-parse", "--absolute-git-dir"], path))


def commit_folder(folder: Path, branch: str, message: str, where: Path) -> bool:
    """Make the folder's files the content of the branch in the repository at `where`; False if they are already.

    The branch gets one more commit, or is made. UserError if it is checked out somewhere: the files there would seem
    changed; and for whatever git refuses.
    """
    reference = f"refs/heads/{branch}"
    if f"branch {reference}" in _git(["worktree", "list", "--porcelain"], where).splitlines():
        raise UserError(f"the branch '{branch}' is checked out; switch to another one, then publish.")
    git_dir = repository(where)
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        apart = [*PLAIN, f"--git-dir={git_dir}", f"--work-tree={folder.resolve()}"]
        _git([*apart, "add", "--all", "--force", "."], folder, index)
        tree = _git([*apart, "write-tree"], folder, index)
    parent = _git(["for-each-ref", "--format=%(objectname)", reference], where)
    if parent and _git(["rev-parse", f"{parent}^{{tree}}"], where) == tree:
        return False
    commit = _git(["commit-tree", tree, "-m", message, *(["-p", parent] if parent else [])], where)
    _git(["update-ref", reference, commit, parent or "0" * len(commit)], where)
    return True


def _git(arguments: list[str], where: Path, environment: dict[str, str] | None = None) -> str:
    """What git prints; UserError with its last line if it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=where, env={**os.environ, **(environment or {})}, capture_output=True, text=True
        )
    except OSError as error:
        raise UserError(f"git cannot be run ({error.strerror}); install it, or publish into a folder.") from error
    if done.returncode:
        said = (done.stderr.strip() or "no reason given").splitlines()
        told = next((line for line in said if line.startswith("fatal:")), said[-1])
        command = next(word for word in arguments if not word.startswith("-") and "=" not in word)
        raise UserError(f"git {command} failed: {told.removeprefix('fatal: ')}")
    return done.stdout.strip()
