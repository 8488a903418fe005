"""`publish` and `serve`: what hosts look for, a branch beside the working tree, a server for this machine."""

from __future__ import annotations

import subprocess
import threading
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from report_support import Page, fill_example
from typer.testing import CliRunner

from harness.cli import app
from harness.commands import reporting
from harness.errors import UserError
from harness.store import open_store
from reports.branch import commit_folder
from reports.server import local_server


@pytest.fixture(autouse=True)
def no_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the page of claims, whose counts take longer than all the rest."""
    monkeypatch.setattr(reporting, "_judged_claims", lambda store: [])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("publish") / "board.db"
    with open_store(str(path)) as store:
        fill_example(store)
    return path


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit on `main`, a staged file and an untracked one."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "A")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@example.org")
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "code.txt").write_text("code\n")
    (folder / ".gitignore").write_text("*.json\nruns/\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    (folder / "staged.txt").write_text("staged\n")
    git(folder, "add", "staged.txt")
    (folder / "loose.txt").write_text("loose\n")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_published_folder_has_what_hosts_look_for(database: Path, tmp_path: Path) -> None:
    url = "https://example.org/board"
    done = CliRunner().invoke(app, ["publish", str(tmp_path / "out"), "--base-url", url, "--db", str(database)])
    assert done.exit_code == 0, done.output
    files = files_of(tmp_path / "out")
    assert files[".nojekyll"] == b""
    index, missing = (Page(files[name].decode()) for name in ("index.html", "404.html"))
    assert ("link", "href", f"{url}/") in index.attributes
    assert ("link", "href", "/board/assets/site.css") in missing.attributes  # a host shows it at any address
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    places = [element.text or "" for element in ElementTree.fromstring(files["sitemap.xml"]).iter(f"{space}loc")]
    pages = {f"{url}/{name}" for name in files if name.endswith(".html") and name != "404.html"}
    assert set(places) == pages
    assert not [name for name in files if "build.json" in name]


def test_without_an_address_no_page_claims_one(database: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["publish", str(tmp_path / "out"), "--db", str(database)])
    assert done.exit_code == 0, done.output
    files = files_of(tmp_path / "out")
    assert "sitemap.xml" not in files
    assert b"canonical" not in files["index.html"]


def test_the_branch_holds_the_site_and_everything_else_stays_as_it_was(
    database: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    before = (files_of(checkout / ".git" / "refs" / "heads"), git(checkout, "status", "--porcelain"))
    command = ["publish", "--gh-pages", "--db", str(database)]
    first = CliRunner().invoke(app, command)
    assert (first.exit_code, "has a new commit" in first.output) == (0, True), first.output
    names = git(checkout, "ls-tree", "-r", "--name-only", "gh-pages").splitlines()
    assert {"index.html", ".nojekyll", "data/glue-tiny.json"} <= set(names)  # also what .gitignore leaves out
    assert any(name.startswith("runs/") for name in names)
    assert git(checkout, "show", "gh-pages:404.html").startswith("<!doctype html>")
    assert git(checkout, "status", "--porcelain") == before[1]
    assert git(checkout, "rev-parse", "main").encode() == before[0]["main"].strip()
    commit = git(checkout, "rev-parse", "gh-pages")
    again = CliRunner().invoke(app, command)
    assert "was up to date" in again.output
    assert git(checkout, "rev-parse", "gh-pages") == commit


def test_a_second_commit_follows_the_first(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_bytes(b"one\r\n")
    assert commit_folder(folder, "gh-pages", "one", checkout)
    (folder / "index.html").write_text("two")
    (folder / "other.html").write_text("more")
    assert commit_folder(folder, "gh-pages", "two", checkout)
    assert git(checkout, "log", "--format=%s", "gh-pages").splitlines() == ["two", "one"]
    done = subprocess.run(["git", "show", "gh-pages~:index.html"], cwd=checkout, capture_output=True, check=True)
    assert done.stdout == b"one\r\n"


def test_a_branch_that_is_checked_out_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with pytest.raises(UserError, match="'main' is checked out; switch to another one"):
        commit_folder(tmp_path / "site", "main", "x", checkout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say either a folder or --gh-pages"),
        (["out", "--gh-pages"], "say either a folder or --gh-pages"),
        (["out", "--base-url", "example.org"], "--base-url 'example.org' must begin with https://"),
        (["--gh-pages"], "not a git repository"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], said: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["publish", *arguments, "--db", str(database)], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_without_a_name_for_the_commit_gits_own_words_are_told(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("x")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "")
    with pytest.raises(UserError, match=r"git commit-tree failed: .*(empty ident|identity)"):
        commit_folder(tmp_path / "site", "gh-pages", "x", checkout)
    assert "gh-pages" not in git(checkout, "branch", "--list")


def test_the_workflow_uploads_the_folder_that_it_publishes_into() -> None:
    root = Path(__file__).resolve().parent.parent
    workflow = yaml.safe_load((root / ".github" / "workflows" / "site.yml").read_text())
    steps = workflow["jobs"]["publish"]["steps"]
    (words,) = (step["run"].split() for step in steps if "harness publish" in step.get("run", ""))
    (uploaded,) = (step["with"]["path"] for step in steps if "upload-pages-artifact" in step.get("uses", ""))
    assert words[words.index("publish") + 1] == uploaded


def test_the_server_shows_the_folder_to_this_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    with local_server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            assert server.server_address[0] == "127.0.0.1"
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
                assert answer.read() == b"hello"
                assert answer.headers["Cache-Control"] == "no-cache"
            with pytest.raises(UserError, match="name another with --port"):
                local_server(tmp_path, server.server_port)
        finally:
            server.shutdown()


def test_a_port_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="port 99999 cannot be used"):
        local_server(tmp_path, 99999)
