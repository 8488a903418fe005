"""Templates and what all of them may use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from harness import __version__
from harness.settings import default_cache_root
from reports import formats
from reports.assets import POLICY, SCRIPTS, STYLES
from reports.commands import run_again
from reports.names import method_file
from reports.ranks import RANKS_SAY

ERRORS = "404.html"
TEMPLATES = Path(__file__).parent / "templates"
KEPT_FACTS = 4096
"""Names with values that are kept as they are written."""
KEPT_LISTS = 512
"""Whole lists of these."""


BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters without a form of their own that turn the direction of what follows them, other people's words too."""


def without_controls(text: str) -> str:
    """The text without characters that turn its direction; letters of any script keep theirs."""
    for control in BIDI_CONTROLS:
        if control in text:
            text = text.replace(control, "")
    return text


class Renderer:
    """Call it with a template, the path where the page will lie, and the template's context."""

    def __init__(self, has_claims: bool, base_url: str = "") -> None:
        self._environment = _environment()
        self.has_claims = has_claims
        self.base_url = base_url = base_url and base_url.rstrip("/") + "/"
        self._base_path = urlsplit(base_url).path
        self._environment.globals.update(has_claims=has_claims, base_url=base_url)

    def __reduce__(self) -> tuple[Callable[[bool, str], Renderer], tuple[bool, str]]:
        """For another process, which compiles the templates once."""
        return _renderer, (self.has_claims, self.base_url)

    def __call__(self, template: str, path: str, **context: Any) -> str:
        # A host shows the page of errors under any address: from there only a full one leads back.
        root = self._base_path if path == ERRORS and self._base_path else "../" * path.count("/")
        if "page" in context:
            context["page"] = context["page"].at(root)
        return without_controls(self._environment.get_template(template).render(root=root, path=path, **context))


@lru_cache
def _renderer(has_claims: bool, base_url: str) -> Renderer:
    return Renderer(has_claims, base_url)


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Compiled templates, as Python keeps compiled modules; where no file can be read or written, none are kept."""

    def __init__(self, folder: Path) -> None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        super().__init__(str(folder))

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        bytecode_cache=_Compiled(default_cache_root() / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        score=formats.score,
        signed=formats.signed,
        share=formats.share,
        p_value=formats.p_value,
        interval=formats.interval,
        ends=formats.ends,
        rank=formats.rank,
        seeds=formats.seeds,
        ranks=formats.ranks,
        spread=formats.spread,
        count=formats.count,
        span=formats.span,
        tasks_scored=formats.tasks_scored,
        quantity=formats.quantity,
        seconds=formats.seconds,
        perplexity=formats.perplexity,
        plural=formats.plural,
        size=formats.train_size,
        time=formats.time,
        command=run_again,
    )
    environment.filters["facts"] = _facts(environment)
    environment.globals.update(
        method_file=method_file,
        ranks_say=RANKS_SAY,
        policy=escape(POLICY),
        styles=STYLES,
        scripts=SCRIPTS,
        version=__version__,
    )
    return environment


def _facts(environment: jinja2.Environment) -> Callable[[tuple[tuple[str, str], ...]], Markup]:
    """Names and values as the items of a description list. Most are those of the run before."""
    macros: Any = environment.get_template("macros.html").module
    fact = lru_cache(KEPT_FACTS)(macros.fact)

    @lru_cache(KEPT_LISTS)
    def facts(items: tuple[tuple[str, str], ...]) -> Markup:
        return Markup("".join(fact(name, value) for name, value in items))

    return facts
