"""Reads the register of claims: one TOML file for each paper, checked against what the suites really make.

    paper, reference                    the paper's short name and where it is
    [[claim]]                           id, table, quote (one sentence in our own words), kind
                                        and the fields of that kind: see KINDS

A printed number is a text, or { printed = "88.97", cell = "Table 2 | MRPC | accuracy | LoRA" } with its place.
A claim that names a suite, grid, row, task, metric or size that no suite makes is a UserError.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.claims.comparisons import AtLeast, BestOf, Between, Comparison, Crossover, Spread, Value
from harness.claims.confusion import F1Feasible, Grid
from harness.claims.counting import Count
from harness.claims.requirements import Suites
from harness.claims.sums import Difference, Equal, MaximumOf, MeanOf, Ratio, Wins
from harness.errors import UserError, unknown
from harness.fields import declared, describe, fits
from harness.plugins import Plugins
from harness.printed import PrintedNumber

REGISTER = Path(__file__).parent
"""Where the files of claims are."""

Sum = F1Feasible | Grid | MeanOf | MaximumOf | Ratio | Difference | Wins | Equal | Count
KINDS: dict[str, type[Sum | Comparison]] = {
    "at_least": AtLeast,
    "best_of": BestOf,
    "spread": Spread,
    "crossover": Crossover,
    "value": Value,
    "between": Between,
    "f1_feasible": F1Feasible,
    "grid": Grid,
    "mean_of": MeanOf,
    "maximum_of": MaximumOf,
    "ratio": Ratio,
    "difference": Difference,
    "wins": Wins,
    "equal": Equal,
    "count": Count,
}
_HEADER = ("paper", "reference", "claim")
_COMMON = ("id", "table", "quote", "kind")


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as something that can be judged."""

    id: str
    paper: str
    reference: str
    table: str
    quote: str
    kind: str
    test: Sum | Comparison


def load_claims(plugins: Plugins, files: Sequence[Path] = ()) -> list[Claim]:
    """All claims of the register, or of other files, in order; UserError for what no suite makes."""
    suites = Suites(plugins)
    claims = [claim for file in files or sorted(REGISTER.glob("*.toml")) for claim in _read_file(file, suites)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"two claims have the id '{name}'; rename one.")
    return claims


def of_paper(claims: Sequence[Claim], paper: str) -> list[Claim]:
    """The claims of one paper; UserError for one that has none."""
    papers = {claim.paper for claim in claims}
    if paper not in papers:
        raise unknown("paper", paper, papers)
    return [claim for claim in claims if claim.paper == paper]


def _read_file(path: Path, suites: Suites) -> list[Claim]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"claims file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"claims file {path} is not valid TOML: {error}.") from error
    _require(values, _HEADER, _HEADER, str(path))
    tables = values["claim"]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UserError(f"{path}: 'claim' must be written as [[claim]].")
    paper, reference = (_converted(str, values[key], f"{path}, {key}") for key in ("paper", "reference"))
    return [
        _read_claim(table, paper, reference, f"{path}, [[claim]] '{table.get('id', position)}'", suites)
        for position, table in enumerate(tables, start=1)
    ]


def _read_claim(table: dict[str, Any], paper: str, reference: str, where: str, suites: Suites) -> Claim:
    _require(table, _COMMON, [*table], where)
    common = {key: _converted(str, table[key], f"{where}, {key}") for key in _COMMON}
    if common["kind"] not in KINDS:
        raise unknown("kind", common["kind"], KINDS, where)
    own = {key: value for key, value in table.items() if key not in _COMMON}
    test = _built(KINDS[common["kind"]], own, where)
    if isinstance(test, Comparison):
        test = dataclasses.replace(test, needs=suites.checked(test, where))
    return Claim(paper=paper, reference=reference, test=test, **common)


def _built(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a TOML table, strictly."""
    hints = declared(cls)
    required = [
        item.name
        for item in dataclasses.fields(cls)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    _require(values, required, [item.name for item in dataclasses.fields(cls)], where)
    converted = {key: _converted(hints[key], value, f"{where}, {key}") for key, value in values.items()}
    try:
        return cls(**converted)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _converted(hint: Any, value: Any, where: str) -> Any:
    """A TOML value as what a field declares: a number or text, a printed number, a table, or a list of these."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list) or not value:
            raise UserError(f"{where} must be a list of at least one.")
        return tuple(_converted(typing.get_args(hint)[0], item, where) for item in value)
    if hint is PrintedNumber:
        table = {"printed": value} if isinstance(value, str) else value
        if not isinstance(table, dict) or not all(isinstance(item, str) for item in table.values()):
            raise UserError(f'{where} must be a text such as "88.97", or {{ printed = "88.97", cell = "..." }}.')
        return _built(PrintedNumber, {"text" if key == "printed" else key: item for key, item in table.items()}, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a table.")
        return _built(typing.cast("type[Any]", hint), value, where)
    plain = dict if isinstance(origin, type) and issubclass(origin, Mapping) else hint
    if not fits(value, plain):
        raise UserError(f"{where} = {value!r} must be {describe(plain)}.")
    return float(value) if hint is float else value


def _require(values: Mapping[str, Any], required: Sequence[str], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise unknown("key", key, known, where)
    for key in required:
        if key not in values:
            raise UserError(f"{where}: '{key}' is missing.")
