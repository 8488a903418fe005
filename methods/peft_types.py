"""`peft:TYPE`: any tuner that the installed PEFT library ships, from its config's keyword arguments.

`--method peft:ADALORA --set init_r=12`. The configuration is the config class's own fields of plain type; which maps
are adapted is said as everywhere, by canonical names (`targets`, `layers`), and so are other lists of modules
(`--set feedforward_modules=down`). Types that wrap a model's forward (prompts, prefixes) have no place here.
AdaLoRA moves its budget after each step; the orthogonality penalty that PEFT adds in its own forward is left out.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.api import AttachContext, Method, MethodFamily
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_PLAIN = (bool, int, float, str, type(None))
_REFUSED = {
    "POLY": "its forward wants task ids beside the text",
    "SHADOW": "it runs a second model beside the backbone",
    "TRAINABLE_TOKENS": "it adapts embeddings of chosen tokens, not maps",
    "XLORA": "it mixes adapters that were trained before",
}
# Set by the harness, or about saving and loading.
_OWN_BUSINESS = {
    *("task_type", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
    *(
        "inference_mode",
        "target_modules",
        "modules_to_save",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    ),
    *("targets", "layers"),
    "orth_reg_weight",  # of the penalty that is left out
}


@dataclass(frozen=True)
class _PeftMethod(Method):
    """What all bridged types have in common; subclasses add the fields of one config class."""

    type_name: ClassVar[str]

    targets: str = "q,v"
    """Canonical names, or "re:" and a regex, as for linear methods; empty leaves it to PEFT."""
    layers: str = "all"

    def exemptions(self) -> Mapping[str, str]:
        return {"reaches_every_tensor": "PEFT decides what is trainable"}

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        import torch
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        from peft.utils import PeftType

        kind = PeftType(self.type_name)
        config_class = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
        values: dict[str, Any] = {name: getattr(self, name) for name in _fields(config_class)}
        if self.targets:
            values["target_modules"] = list(context.select(self.targets, self.layers))
        for name, value in values.items():
            if name.endswith("_modules") and isinstance(value, str):
                values[name] = list(context.select(value, self.layers))
        with torch.random.fork_rng():  # PEFT draws from the global generator
            torch.manual_seed(context.generator.initial_seed())
            try:
                tuner = PEFT_TYPE_TO_TUNER_MAPPING[kind](model, config_class(**values), adapter_name="default")
            except (TypeError, ValueError, NotImplementedError, KeyError, AttributeError) as error:
                line = " ".join(str(error).split())
                raise UserError(f"{self.name}: PEFT refuses this: {type(error).__name__}: {line}") from error
        # State that maps share lives on the tuner; past the module registry, for it holds the model in turn.
        model.__dict__["_peft_tuner"] = tuner

    def after_update(self, model: nn.Module, step: int) -> None:
        allocate = getattr(model.__dict__["_peft_tuner"], "update_and_allocate", None)
        if allocate is not None:  # AdaLoRA's budget
            allocate(step)

    def plain(self, model: nn.Module) -> nn.Module:
        try:
            merged: nn.Module = model.__dict__["_peft_tuner"].merge_and_unload()
        except (NotImplementedError, AttributeError, ValueError, TypeError) as error:
            raise UserError(f"{self.name}: PEFT cannot merge this type: {error}") from error
        return merged


class PeftTypes(MethodFamily):
    """The types of the installed PEFT library."""

    prefix: ClassVar[str] = "peft"
    title: ClassVar[str] = "A tuner of PEFT"

    def member(self, name: str) -> type[Method]:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        from peft.utils import PeftType

        known = {kind.value for kind in PEFT_TYPE_TO_TUNER_MAPPING}
        if name not in known:
            nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
            hint = f"did you mean 'peft:{nearest[0]}'?" if nearest else f"known: {', '.join(sorted(known))}."
            raise UserError(f"unknown method 'peft:{name}': {hint}")
        config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)]
        reason = _REFUSED.get(name)
        if "target_modules" not in {item.name for item in dataclasses.fields(config_class)} or _prompts(config_class):
            reason = reason or "it wraps the model's forward instead of adapting its maps"
        if reason:
            raise UserError(f"'peft:{name}' cannot be benchmarked here: {reason}.")
        fields = [
            (field, hint, dataclasses.field(default=value)) for field, (hint, value) in _fields(config_class).items()
        ]
        namespace = {
            "name": f"peft:{name}",
            "title": f"{name} (PEFT)",
            "formula": "as PEFT implements it" + (", without the orthogonality penalty" if name == "ADALORA" else ""),
            "paper": "see the PEFT library",
            "type_name": name,
            "__module__": __name__,
        }
        return dataclasses.make_dataclass(f"Peft{name}", fields, bases=(_PeftMethod,), namespace=namespace, frozen=True)


def _prompts(config_class: type[Any]) -> bool:
    from peft import AdaptionPromptConfig, PromptLearningConfig

    return issubclass(config_class, PromptLearningConfig | AdaptionPromptConfig)


def _fields(config_class: type[Any]) -> dict[str, tuple[Any, Any]]:
    """The config's fields of plain type with the type to hold a user's value to, and their defaults."""
    found = {}
    for item in dataclasses.fields(config_class):
        plain = item.default is not dataclasses.MISSING and isinstance(item.default, _PLAIN)
        if plain and item.init and item.name not in _OWN_BUSINESS:
            # a default of one type says little about what else is allowed, but for switches and fractions
            hint = type(item.default) if isinstance(item.default, bool | float) else object
            found[item.name] = (hint, item.default)
    return found
