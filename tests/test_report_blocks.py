"""Documents whose numbers come from the database: each kind of block, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import fill
from report_support import RATES, fill_example, make_answered_run, sized_trial

from harness.errors import UserError
from harness.records import RunRecord
from harness.store import Store, open_store
from reports.blocks import KINDS, Source
from reports.blocks import fill as fill_block
from reports.claims import ClaimLine
from reports.documents import update_document
from reports.rows import load_suite
from reports.views import suite_view

CLAIMS = [
    ClaimLine("a", "Paper", "arXiv:1", "Table 1", "A beats B.", "holds", "89 > 88"),
    ClaimLine("b", "Paper", "arXiv:1", "Table 2", "A beats C.", "inconclusive", "A - C = 0.1 [-1, 1]"),
    ClaimLine("c", "Paper", "arXiv:1", "Table 3", "A beats D.", "not run", "no run"),
]


def run(method: str, seed: int) -> RunRecord:
    """One that took half an hour."""
    record = make_answered_run(method, seed)
    return dataclasses.replace(record, costs=dataclasses.replace(record.costs, train_seconds=1800.0, eval_seconds=0.0))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """FT far above LoRA, four seeds."""
    with open_store(str(tmp_path_factory.mktemp("ranked") / "board.db")) as store:
        fill(store, [run(method, seed) for method in RATES for seed in range(4)])
        yield store


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "example.db")) as store:
        fill_example(store)
        yield store


def text(store: Store, kind: str, **options: str) -> str:
    return fill_block(Source(store, lambda: CLAIMS), kind, options, "A.md").text


def marked(file: Path, kind: str, options: str = " suite=glue-tiny") -> str:
    content = f"before\n<!-- {kind}:start{options} -->\nformer\n<!-- {kind}:end -->\nafter\n"
    file.write_text(content)
    return content


def test_the_rows_that_may_be_the_best_are_named_with_their_intervals(ranked: Store) -> None:
    (line,) = text(ranked, "best", suite="glue-tiny").splitlines()  # one task: its average is itself
    view = suite_view(load_suite(ranked, "glue-tiny"))
    assert view.main is not None
    mean = view.main.contenders[0].average.mean or 0.0
    assert line.startswith(f"- MRPC (f1): 1 of 2 rows may be the best: FT {100 * mean:.1f} [")


def test_pairs_that_are_told_apart_are_named_the_better_first(ranked: Store) -> None:
    assert text(ranked, "order", suite="glue-tiny") == "1 of 1 pair are told apart.\n\n- FT above LoRA.\n"


def test_without_predictions_no_order_is_claimed(example: Store) -> None:
    assert text(example, "order", suite="glue-tiny") == "0 of 1 pair are told apart.\n"
    lines = text(example, "best", suite="glue-tiny").splitlines()
    assert lines == [f"- {title}: no row has a rank." for title in ("Average", "MRPC (f1)", "RTE (accuracy)")]


def test_every_protocol_has_a_column_the_suites_own_first(ranked: Store) -> None:
    lines = text(ranked, "protocols", suite="glue-tiny").splitlines()
    assert lines[0] == "| Average | selected | last | optimistic |"
    boards = suite_view(load_suite(ranked, "glue-tiny")).sections[0].boards
    shown = [f"{100 * (board.contenders[0].average.mean or 0.0):.1f}" for board in boards]
    assert [cell.split(" ")[0] for cell in lines[2].split(" | ")[1:]] == shown


def test_the_front_names_every_cost(ranked: Store) -> None:
    header = text(ranked, "fronts", suite="glue-tiny").splitlines()[0]
    assert header == "| Row | Adapter parameters | Training FLOPs | Training seconds | Peak memory |"


def test_scores_over_sizes_are_a_table(example: Store) -> None:
    lines = text(example, "sizes", suite="glue-tiny", grid="train-size").splitlines()
    assert lines[0] == "| MRPC (f1) | 250 rows | 1,000 rows |"
    assert lines[2].startswith("| FT | 77.0 ± 0.0 | 83.0 ± 0.0 |")


def test_curves_that_cross_are_told(tmp_path: Path) -> None:
    """LoRA answers as well as FT at 250 rows and the other way round at 1,000."""
    other = {"ft": "lora", "lora": "ft"}
    records = [
        dataclasses.replace(run(other[method] if size == 250 else method, seed), trial=sized_trial(method, seed, size))
        for method in other
        for size in (250, 1000)
        for seed in range(3)
    ]
    with open_store(str(tmp_path / "sizes.db")) as store:
        fill(store, records)
        last = text(store, "sizes", suite="glue-tiny", grid="main").splitlines()[-1]
    assert last == "- LoRA is ahead at 250 rows (sure to > 99 %), FT at 1,000 (sure to > 99 %)."


def test_how_the_runs_were_made_is_counted(ranked: Store) -> None:
    lines = text(ranked, "made", suite="glue-tiny").splitlines()
    assert lines[0].startswith("- 12 trials done, 0 not run yet, 0 ended badly; from 2026-")
    assert lines[0].endswith("6.0 hours of training and evaluation in all.")
    assert lines[-1].startswith("- 12 runs on ")


def test_claims_are_counted_and_those_that_runs_judged_are_told(ranked: Store) -> None:
    found = text(ranked, "claims")
    assert "| Paper | holds | inconclusive | not run |" in found
    assert "| Paper | 1 | 1 | 1 |" in found
    assert r"- Paper, Table 2: A beats C. **inconclusive**: A - C = 0.1 \[-1, 1\]" in found
    assert "A beats D" not in found


def test_a_plot_lies_beside_the_document(ranked: Store, tmp_path: Path) -> None:
    marked(tmp_path / "A.md", "plot")
    assert update_document(tmp_path / "A.md", Source(ranked, lambda: CLAIMS))
    assert "](pictures/glue-tiny.svg)" in (tmp_path / "A.md").read_text()
    assert (tmp_path / "pictures" / "glue-tiny.svg").read_text().splitlines()[1].startswith("<svg")


def test_a_document_is_updated_between_its_markers_and_only_once(example: Store, tmp_path: Path) -> None:
    file, source = tmp_path / "README.md", Source(example, lambda: CLAIMS)
    marked(file, "leaderboard")
    assert update_document(file, source)
    filled = file.read_text()
    assert filled.startswith("before\n<!-- leaderboard:start suite=glue-tiny -->\n\n| Method |")
    assert filled.endswith("\n\n<!-- leaderboard:end -->\nafter\n")
    assert "former" not in filled
    assert not update_document(file, source)
    assert file.read_text() == filled


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("leaderboards", " suite=glue-tiny", "unknown kind of block 'leaderboards' in .*did you mean 'leaderboard'"),
        ("leaderboard", " suite=glue-tinny", "did you mean 'glue-tiny'"),
        ("leaderboard", " suite=glue-tiny grid=mian", "unknown grid 'mian' in glue-tiny: did you mean 'main'"),
        ("leaderboard", " suit=glue-tiny", "unknown option of a block 'leaderboard' 'suit'.*did you mean 'suite'"),
        ("leaderboard", "", "a block 'leaderboard' needs suite=NAME"),
        ("sizes", " suite=glue-tiny grid=main", "unknown grid with several training sizes 'main'"),
    ],
)
def test_a_block_that_cannot_be_filled_leaves_the_document_alone(
    example: Store, tmp_path: Path, kind: str, options: str, message: str
) -> None:
    content = marked(tmp_path / "A.md", kind, options)
    with pytest.raises(UserError, match=message):
        update_document(tmp_path / "A.md", Source(example, lambda: CLAIMS))
    assert (tmp_path / "A.md").read_text() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [("nothing here\n", "leaderboard:start suite=NAME"), ("<!-- best:start suite=glue-tiny -->\n", "best:end")],
)
def test_a_document_without_whole_markers_is_refused(
    example: Store, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "A.md").write_text(content)
    with pytest.raises(UserError, match=message):
        update_document(tmp_path / "A.md", Source(example, lambda: CLAIMS))


def test_a_missing_document_is_an_error_that_names_it(example: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NOTHING\.md"):
        update_document(tmp_path / "NOTHING.md", Source(example, lambda: CLAIMS))


def test_every_kind_of_block_says_what_it_is() -> None:
    assert all(kind.__doc__ for kind in KINDS.values())
