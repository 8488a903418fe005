"""Which linear maps of a model a method adapts: canonical names, layer scope, or a regex.

Names are matched whole, because a suffix match is a trap: "output.dense" also ends "attention.output.dense".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

# Path of each map below its layer, for BERT / RoBERTa / ELECTRA, DistilBERT, DeBERTa, and the Llama-like decoders
# (Llama, Mistral, Gemma, Qwen, OPT; of Phi some).
CANONICAL: dict[str, str] = {
    "q": r"attention\.self\.query|attention\.q_lin|attention\.self\.query_proj|self_attn\.q_proj",
    "k": r"attention\.self\.key|attention\.k_lin|attention\.self\.key_proj|self_attn\.k_proj",
    "v": r"attention\.self\.value|attention\.v_lin|attention\.self\.value_proj|self_attn\.v_proj",
    "o": r"attention\.output\.dense|attention\.out_lin|self_attn\.o_proj|self_attn\.out_proj",
    "up": r"intermediate\.dense|ffn\.lin1|mlp\.up_proj|fc1",
    "down": r"output\.dense|ffn\.lin2|mlp\.down_proj|fc2",
    "gate": r"mlp\.gate_proj",
}
_LAYER = r"(?:.+\.)?(?:layer|layers|h|block)\.(\d+)\."
_LAST = re.compile(r"last:([1-9]\d*)")
REGEX = "re:"


@dataclass(frozen=True)
class Target:
    """One linear map to adapt."""

    module: str
    layer: int
    """Index of its layer; -1 if its name shows none (regex targets)."""
    shape: tuple[int, int]
    """(out, in) = (m, n)."""


def select_modules(model: nn.Module, targets: str, layers: str, head: Sequence[str] = ()) -> list[Target]:
    """The maps that `targets` and `layers` name, in model order; none at all is a UserError that lists what exists.

    A map within a module of `head`, which is trained whole, is refused. A map in no numbered layer, as a regex may
    name, is in "all" layers and in none of the last.
    """
    from torch import nn

    linear = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    pattern = _pattern(targets)
    matched = [(name, match) for name in linear if (match := pattern.fullmatch(name))]
    found = [Target(name, _layer_of(name), linear[name]) for name, _ in matched]
    if not found:
        _explain_nothing(model, targets, linear)
    if layers != "all":
        depth = max(target.layer for target in found) + 1
        found = [target for target in found if target.layer >= max(0, depth - _last(layers))]
        if not found:
            raise UserError(f"target '{targets}' matches no map of a numbered layer; choose layers = 'all'.")
    for target in found:
        if any(target.module == name or target.module.startswith(f"{name}.") for name in head):
            raise UserError(
                f"target '{targets}' matches {target.module}, a part of the head, which is trained whole; "
                "choose targets without it."
            )
    if not targets.startswith(REGEX):
        _require_each(targets, found, linear)
    return found


def check_scope(layers: str) -> None:
    """Raise UserError unless `layers` is "all" or "last:N"."""
    if layers != "all":
        _last(layers)


def _last(layers: str) -> int:
    match = _LAST.fullmatch(layers)
    if not match:
        raise UserError(f"layers = '{layers}' is neither 'all' nor 'last:N' with N >= 1.")
    return int(match.group(1))


def _pattern(targets: str) -> re.Pattern[str]:
    if targets.startswith(REGEX):
        try:
            return re.compile(targets[len(REGEX) :])
        except re.error as error:
            raise UserError(f"targets = '{targets}' is not a regular expression: {error}.") from error
    names = _names(targets)
    return re.compile(_LAYER + "(?:" + "|".join(CANONICAL[name] for name in names) + ")")


def _names(targets: str) -> Sequence[str]:
    names = [name.strip() for name in targets.split(",") if name.strip()]
    if not names:
        raise UserError("targets is empty: name at least one of " + ", ".join(CANONICAL) + ".")
    for name in names:
        if name not in CANONICAL:
            raise unknown("target", name, CANONICAL, advice="Start with 're:' to give a regular expression.")
    return names


def _layer_of(name: str) -> int:
    match = re.match(_LAYER, name)
    return int(match.group(1)) if match else -1


def _require_each(targets: str, kept: Sequence[Target], linear: dict[str, tuple[int, int]]) -> None:
    for name in _names(targets):
        pattern = re.compile(_LAYER + f"(?:{CANONICAL[name]})")
        if not any(pattern.fullmatch(target.module) for target in kept):
            raise UserError(f"target '{name}' matches nothing in this backbone; it has: {_existing(linear)}.")


def _explain_nothing(model: nn.Module, targets: str, linear: dict[str, tuple[int, int]]) -> None:
    matched = [name for name, _ in model.named_modules() if _pattern(targets).fullmatch(name)]
    if matched:
        kind = type(model.get_submodule(matched[0])).__name__
        raise UserError(f"target '{targets}' matches {matched[0]}, which is a {kind}, not a linear layer.")
    raise UserError(f"target '{targets}' matches nothing in this backbone; it has: {_existing(linear)}.")


def _existing(linear: dict[str, tuple[int, int]]) -> str:
    canonical = [
        name
        for name, pattern in CANONICAL.items()
        if any(re.fullmatch(_LAYER + f"(?:{pattern})", module) for module in linear)
    ]
    if canonical:
        return ", ".join(canonical)
    return ", ".join(list(linear)[:8]) or "no linear layers"
