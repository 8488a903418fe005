"""`publish` and `serve`: the site for others to see, and for a local look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from harness.commands.options import DATABASE, Database
from harness.commands.reporting import build
from harness.errors import UserError

BRANCH = "gh-pages"


def publish(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Folder to write; else --gh-pages.")] = None,
    gh_pages: Annotated[
        bool, typer.Option("--gh-pages", help=f"Commit to the branch {BRANCH} of this repository; nothing is pushed.")
    ] = False,
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="Where the site will be: for canonical links and a sitemap.")
    ] = "",
    db: Database = DATABASE,
) -> None:
    """Write the site ready for any static host: into a folder, or as a commit on the branch gh-pages.

    Working tree, index and current branch stay as they are. docs/publish.md tells how hosts take it from there.
    """
    from harness.store import open_store

    if (folder is None) != gh_pages:
        raise UserError("say either a folder or --gh-pages.")
    if base_url and urlsplit(base_url).scheme not in ("http", "https"):
        raise UserError(f"--base-url '{base_url}' must begin with https:// or http://.")
    if folder is not None:
        with open_store(db, create=False) as store:
            build(store, folder, base_url)
        typer.echo(folder / "index.html")
        return
    from reports.branch import commit_folder, repository

    here = Path.cwd()
    made = repository(here) / "harness-site"
    with open_store(db, create=False) as store:
        build(store, made, base_url)
    changed = commit_folder(made, BRANCH, "Leaderboard", here)
    typer.echo(
        f"{BRANCH} {'has a new commit' if changed else 'was up to date'}; `git push origin {BRANCH}` publishes it."
    )


def serve(
    port: Annotated[int, typer.Option(metavar="N", help="Port; 0 takes any free one.")] = 8000,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the site.")] = Path("site"),
    db: Database = DATABASE,
) -> None:
    """Bring the site up to date and show it at a local address until Ctrl-C. Other machines cannot reach it."""
    from harness.store import open_store
    from reports.server import local_server

    with open_store(db, create=False) as store:
        build(store, out)
    with local_server(out, port) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")
