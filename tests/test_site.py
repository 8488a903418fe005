"""The static site: same bytes, no dead link, no network, nothing from the database taken for markup."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from factories import METHODS, make_record, make_suite
from report_support import MAJORITY, TASKS, Page, fill_example, fill_hostile, make_run

from harness.errors import UserError
from harness.measure import DEFINITIONS
from harness.store import open_store
from reports.claims import ClaimLine
from reports.names import slug
from reports.site import build_site


def built(database: Path, folder: Path) -> dict[str, str]:
    """The files of a fresh build by name."""
    with open_store(str(database), create=False) as store:
        build_site(store, folder)
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def html(files: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in files.items() if name.endswith(".html")}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "board.db"
    with open_store(str(path)) as store:
        fill_example(store)
    return path


@pytest.fixture(scope="module")
def site(database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return built(database, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A site on which everything that has a name has a hostile one."""
    folder = tmp_path_factory.mktemp("hostile")
    with open_store(str(folder / "board.db")) as store:
        fill_hostile(store)
    return built(folder / "board.db", folder / "site")


def test_the_same_database_gives_the_same_bytes(database: Path, site: dict[str, str], tmp_path: Path) -> None:
    assert built(database, tmp_path) == site


def test_every_suite_has_its_pages_and_data(site: dict[str, str]) -> None:
    assert {"index.html", "about.html", "suites/glue-tiny.html", "data/glue-tiny.csv"} <= set(site)
    rows = {f"suites/glue-tiny/{label}.html" for label in ("ft", "lora", "head_only", "majority")}
    assert rows <= set(site)
    assert len(json.loads(site["data/glue-tiny.json"])) == 36


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_every_link_leads_to_a_file_and_an_anchor_that_exist(which: str, request: pytest.FixtureRequest) -> None:
    files: dict[str, str] = request.getfixturevalue(which)
    pages = {name: Page(text) for name, text in html(files).items()}
    links = 0
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: an id stands twice"
        for link in page.links:
            target, _, anchor = unquote(link).partition("#")
            path = (Path("/") / Path(name).parent / target).resolve() if target else Path("/") / name
            found = str(path.relative_to("/"))
            assert found in files, f"{name}: {link}"
            assert not anchor or anchor in pages[found].ids, f"{name}: {link}"
            links += 1
    assert links > 20


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_scripts_and_styles_are_files_beside_the_pages_and_nothing_is_inline(
    which: str, request: pytest.FixtureRequest
) -> None:
    files: dict[str, str] = request.getfixturevalue(which)
    for name, text in html(files).items():
        page = Page(text)
        (policy,) = [
            value for tag, key, value in page.attributes if tag == "meta" and key == "content" and "src" in value
        ]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert not "".join(body for bodies in page.inline.values() for body in bodies).strip(), name
        for tag, key, value in page.attributes:
            if (tag, key) in (("script", "src"), ("link", "href")) and not value.startswith("data:"):
                found = (Path("/") / Path(name).parent / value).resolve().relative_to("/")
                assert str(found) in files, f"{name}: {value}"


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_pages_ask_for_nothing_from_elsewhere(which: str, request: pytest.FixtureRequest) -> None:
    for name, text in html(request.getfixturevalue(which)).items():
        for tag, key, value in Page(text).attributes:
            assert key != "style", f"{name}: the policy forbids style attributes"
            assert not key.startswith("on"), f"{name}: {tag} {key}"
            if key in ("src", "href", "data", "poster", "action"):
                assert not re.match(r"(https?:|//|javascript:)", value), f"{name}: {value}"


def test_hostile_names_are_shown_as_text(hostile: dict[str, str]) -> None:
    suite = next(name for name in hostile if re.fullmatch(r"suites/[^/]+\.html", name))
    page = Page(hostile[suite])
    assert "<script>alert('x')</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert not any("\u202e" in text for text in html(hostile).values())
    assert all(re.fullmatch(r"[\w./-]{1,160}", name) for name in hostile)


def test_numbers_and_failures_are_on_the_suites_page(site: dict[str, str]) -> None:
    text = Page(site["suites/glue-tiny.html"]).text
    assert "85.4 ± 0.4" in text
    assert "out of memory at step 3" in text
    assert "rows that begin at one rank share it" in text
    assert "No rank: FT, LoRA (no stored predictions of the shown epoch" in text
    assert "Controls" in text


def test_every_plot_of_a_suite_is_also_a_file_that_its_page_leads_to(site: dict[str, str]) -> None:
    page = site["suites/glue-tiny.html"]
    files = {name for name in site if name.endswith(".svg")}
    links = {"suites/" + link.removeprefix("../suites/") for link in Page(page).links if link.endswith(".svg")}
    assert files == links
    assert {re.split("[-.]", Path(name).name)[0] for name in files} == {"costs", "profiles", "score", "size", "wins"}
    assert page.count('role="img"') == len(files)


def test_chart_and_table_show_the_same_rows(site: dict[str, str]) -> None:
    page = site["suites/glue-tiny.html"]
    chart = page[page.index("Score over parameters") : page.index("Time and memory")]
    drawn = set(re.findall(r"<text[^>]*>(FT|LoRA|Head only|Majority)</text>", chart))
    assert drawn == {"FT", "LoRA"}
    assert "Below the chart: Head only (64.4), Majority (34.4)." in Page(chart).text


def test_definitions_are_the_docstrings_of_what_is_measured(site: dict[str, str]) -> None:
    page = Page(site["about.html"])
    assert set(DEFINITIONS) <= set(page.ids)
    assert {"last", "selected", "optimistic"} <= set(page.ids)
    first = (DEFINITIONS["train_flops"].__doc__ or "").split(".")[0]
    assert " ".join(first.split()).replace("`", "") in page.text


def test_tables_have_captions_and_header_scopes(site: dict[str, str]) -> None:
    for name, text in html(site).items():
        assert text.count("<table") == text.count("<caption"), name
        assert not re.search(r"<th(?![^>]*\bscope=)[ >]", text), name
        assert text.count("<svg") == len(re.findall(r'<svg[^>]*(?:aria-hidden="true"|role="img" aria-label)', text)), (
            name
        )


def test_an_empty_database_gives_a_page_that_says_what_to_run(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "empty.db")):
        pass
    files = built(tmp_path / "empty.db", tmp_path / "site")
    assert "python -m harness run --all" in Page(files["index.html"]).text


@pytest.mark.parametrize("status", ["planned", "failed"])
def test_a_suite_without_a_good_run_has_a_page(tmp_path: Path, status: str) -> None:
    record = make_record(status="failed", reason="no luck", scores=[], parameters=None)
    with open_store(str(tmp_path / "board.db")) as store:
        store.describe([*METHODS, MAJORITY], TASKS)
        store.set_suite(make_suite([record.trial]))
        if status == "failed":
            store.add_run(record)
    text = Page(built(tmp_path / "board.db", tmp_path / "site")["suites/glue-tiny.html"]).text
    assert "No run of this suite has ended well yet" in text
    assert ("1 not run yet" in text) == (status == "planned")
    assert ("no luck" in text) == (status == "failed")


def test_one_seed_is_shown_with_n_and_without_spread(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        record = make_run("lora", "mrpc", 0, 0.8)
        store.describe([*METHODS, MAJORITY], TASKS)
        store.set_suite(make_suite([record.trial]))
        store.add_run(record)
    text = Page(built(tmp_path / "board.db", tmp_path / "site")["suites/glue-tiny.html"]).text
    assert "n=1 79.0 ± –" in text
    assert "With one seed there is no spread, no interval and no rank" in text
    assert "No rank: LoRA (one seed: nothing is known of its spread)." in text


def test_a_rebuild_removes_its_own_old_pages_and_nothing_else(database: Path, tmp_path: Path) -> None:
    built(database, tmp_path / "site")
    (tmp_path / "site" / "CNAME").write_text("mine")
    (tmp_path / "outside.txt").write_text("mine")
    manifest = tmp_path / "site" / "data" / "files.txt"
    manifest.write_text(manifest.read_text() + "../outside.txt\n")
    with open_store(str(tmp_path / "empty.db")):
        pass
    files = built(tmp_path / "empty.db", tmp_path / "site")
    kept = sorted(name for name in files if not name.startswith("assets/"))
    wide = ("404", "about", "failures", "index", "methods", "stacks", "suites", "tasks")
    assert kept == sorted([".nojekyll", "CNAME", "data/files.txt", *(f"{name}.html" for name in wide)])
    assert (tmp_path / "outside.txt").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(database: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with open_store(str(database), create=False) as store, pytest.raises(UserError, match="cannot write the site"):
        build_site(store, tmp_path / "taken")


def test_slugs_are_plain_distinct_and_short() -> None:
    names = ["lora_xs", "LoRA", "lora", "a/b", "a b", "../..", "", "x" * 300]
    slugs = [slug(name) for name in names]
    assert slugs[0] == "lora_xs"
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,80}", found) for found in slugs)


def test_building_a_site_imports_neither_torch_nor_pandas_nor_the_chart_engine(database: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from harness.store import open_store; from reports.site import build_site\n"
        "with open_store(sys.argv[1], create=False) as store: build_site(store, Path(sys.argv[2]))\n"
        "print({'torch', 'pandas', 'vl_convert'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(database), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_claims_page_has_every_claim_escaped_and_is_linked_from_all_pages(database: Path, tmp_path: Path) -> None:
    lines = [
        ClaimLine("a", "LoRA", "Hu et al. 2021", "2", "<b>A</b> is above B", "partly", "A - B = +1.0 & more"),
        ClaimLine("b", "LoRA-XS", "Balazy et al. 2024", "1", "C", "holds", "92,160 = 92,160"),
    ]
    with open_store(str(database), create=False) as store:
        files = build_site(store, tmp_path / "site", lines).files
        bare = build_site(store, tmp_path / "bare").files
    pages, bare_pages = ([name for name in names if name.endswith(".html")] for names in (files, bare))
    page = (tmp_path / "site" / "claims.html").read_text()
    assert "&lt;b&gt;A&lt;/b&gt; is above B" in page
    assert "A - B = +1.0 &amp; more" in page
    assert all("claims.html" in (tmp_path / "site" / name).read_text() for name in pages)
    assert not any("claims.html" in (tmp_path / "bare" / name).read_text() for name in bare_pages)
