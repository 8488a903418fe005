"""The members of a bundle's archive, read one at a time within limits."""

from __future__ import annotations

import json
import zipfile
from typing import Any

from harness.bundle import format as form
from harness.bundle.format import ARRAY, MANIFEST, TABLES, shown
from harness.errors import UserError


class Members:
    """The members of an archive by name, read one at a time within the limits."""

    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self._archive = archive
        self._where = where
        self._infos: dict[str, zipfile.ZipInfo] = {}
        if len(archive.infolist()) > form.MOST_MEMBERS:
            raise UserError(f"{where} has {len(archive.infolist())} members; at most {form.MOST_MEMBERS} are read.")
        for info in archive.infolist():
            self._add(info)
        if sum(info.file_size for info in self._infos.values()) > form.MOST_BYTES:
            raise UserError(f"{where} would unpack to more than {form.MOST_BYTES // 2**20} MiB; it is refused.")
        if MANIFEST not in self._infos:
            raise UserError(f"{where} is not a bundle: it has no {MANIFEST}.")

    def _add(self, info: zipfile.ZipInfo) -> None:
        legal = info.filename in {MANIFEST, *(f"{name}.jsonl" for name in TABLES)} or ARRAY.fullmatch(info.filename)
        if not legal:
            raise UserError(f"{self._where} has a member {shown(info.filename)}, which does not belong into a bundle.")
        if info.filename in self._infos:
            raise UserError(f"{self._where} has two members {shown(info.filename)}.")
        bombs = info.file_size > form.SMALL and info.file_size > form.MOST_RATIO * max(1, info.compress_size)
        if bombs or info.file_size > form.MOST_MEMBER_BYTES:
            raise UserError(f"{self._where}: {info.filename} would unpack to {info.file_size} bytes; it is refused.")
        self._infos[info.filename] = info

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def names(self) -> set[str]:
        return set(self._infos)

    def read(self, name: str) -> bytes:
        """The member's content, never more than it announced."""
        info = self._infos[name]
        with self._archive.open(info) as stream:
            content = stream.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise UserError(f"{self._where}: {name} is not as long as it says.")
        return content


def read_json(content: bytes, where: str) -> Any:
    """The value; UserError, which begins with `where`, if it is none."""
    try:
        return json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {str(error).splitlines()[0]}.") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
