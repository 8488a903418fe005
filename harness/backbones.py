"""Backbones: a name becomes files, a configuration, a model on the meta device, or a loaded model with tokenizer.

A name is looked up in this order: a folder path, the bundled starters, a folder below the models root
(`<root>/<name>`), the hub. A backbone whose dimensions ship (`harness.shipped`) is found by its short name and by its
hub id alike. Remote code is never run; weights are read from safetensors only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import Task
from harness.errors import UserError, unknown
from harness.settings import Settings
from harness.shipped import canonical, config_names, find_shipped
from harness.trial import Backbone, stream_seed

if TYPE_CHECKING:
    from torch import nn

BUNDLED = Path(__file__).parent / "bundled"
HEADS = ("classifier", "score", "pre_classifier", "pooler", "classification_head", "sequence_summary", "logits_proj")
"""Modules that transformers' sequence-classification models put on top, freshly initialised."""


@dataclass
class Loaded:
    """A model ready to be adapted, with its tokenizer and what identifies its weights."""

    model: nn.Module
    tokenizer: Any
    head: tuple[str, ...]
    """Names of the freshly initialised modules on top; empty for generation."""
    output: tuple[str, ...]
    """Names of the modules whose trained parameters count as head: `head`, or the output embedding."""
    sha256: str


def bundled_names() -> list[str]:
    """Backbones that ship inside the package."""
    return sorted(folder.name for folder in BUNDLED.iterdir() if (folder / "config.json").is_file())


def find_folder(name: str, settings: Settings) -> Path | None:
    """The local folder of a backbone, or None if only the hub can have it."""
    shipped = find_shipped(name)
    names = (shipped.name, shipped.hub_id) if shipped else (name,)
    candidates = [place for name in names for place in (Path(name).expanduser(), BUNDLED / name)]
    if settings.models_root is not None:
        if not settings.models_root.is_dir():
            raise UserError(f"the models root {settings.models_root} is not a folder; check --models-root.")
        candidates += [settings.models_root / name for name in names]
    return next((folder for folder in candidates if (folder / "config.json").is_file()), None)


def resolve(name: str, settings: Settings, revision: str = "") -> Backbone:
    """The backbone's identity. It is the same wherever it is asked for, with or without a network:

    local weights are their hash; a shipped name without a revision is the commit that ships with its dimensions, on
    whose weights only a run insists (`check_weights`); for any other name the hub is asked for the commit behind
    `revision`, and without an answer there is no trial.
    """
    folder = find_folder(name, settings)
    if folder is not None:
        return Backbone(canonical(name), f"sha256:{weights_sha256(folder)[:16]}")
    shipped = find_shipped(name)
    if shipped is not None and not revision:
        return Backbone(shipped.hub_id, shipped.revision)
    _require_known(name, settings)
    return Backbone(canonical(name), _hub_commit(canonical(name), revision, settings))


def check_weights(backbone: Backbone, settings: Settings) -> None:
    """Raise UserError unless the backbone is in a local folder, in the hub's cache, or can be had from the hub."""
    if find_folder(backbone.name, settings) is not None:
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(backbone.name, "config.json", revision=backbone.revision, etag_timeout=20)
    except Exception as error:  # the hub client raises its own, its transport's and the system's errors
        raise _out_of_reach(backbone.name, settings, error) from error


def weights_sha256(folder: Path) -> str:
    """sha256 of the safetensors file; of several, the hash of their hashes in name order."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"backbone folder {folder} holds no .safetensors file; other weight formats are not read.")
    digests = [_file_sha256(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _file_sha256(file: Path, mtime_ns: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def configuration(name: str, settings: Settings, revision: str = "") -> Any:
    """The transformers configuration of a backbone for counting: local folder, shipped dimensions, or hub."""
    from transformers import AutoConfig

    folder, shipped = find_folder(name, settings), find_shipped(name)
    if folder is None and shipped is not None:
        values = dict(shipped.dimensions)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    if folder is None:
        _require_known(name, settings)
    return _read_configuration(name, folder, revision)


def _read_configuration(name: str, folder: Path | None, revision: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder or name, revision=_plain(revision), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"backbone '{name}' has no readable configuration: {_first_line(error)}") from error


def _require_known(name: str, settings: Settings) -> None:
    """Raise UserError for a name that cannot be a hub id and is none of ours."""
    if "/" not in canonical(name):
        raise unknown("backbone", name, [*bundled_names(), *config_names()], advice=_where_looked(settings))


def meta_model(name: str, kind: str, labels: int, settings: Settings) -> tuple[nn.Module, tuple[str, ...]]:
    """The model on the meta device (shapes, no memory) and its head's module names."""
    import torch

    config = configuration(name, settings)
    _set_labels(config, kind, labels)
    with torch.device("meta"):
        model = auto_class(kind).from_config(config)
    return model, _head_names(model)


def positions(model: nn.Module) -> int | None:
    """The longest input in tokens, where a table of position embeddings limits it; None for rotary positions."""
    from torch import nn

    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from padding_idx + 1
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def load_tokenizer(backbone: Backbone, settings: Settings) -> Any:
    """The tokenizer as the checkpoint has it."""
    from transformers import AutoTokenizer

    folder = find_folder(backbone.name, settings)
    revision = None if folder else backbone.revision
    return AutoTokenizer.from_pretrained(str(folder or backbone.name), revision=revision, trust_remote_code=False)


def load(backbone: Backbone, task: Task, seed: int, settings: Settings) -> Loaded:
    """Pretrained weights in float32, with a head drawn from the seed's head stream: the same for every method."""
    import torch

    folder = find_folder(backbone.name, settings)
    source = str(folder or backbone.name)
    revision = None if folder else backbone.revision
    tokenizer = load_tokenizer(backbone, settings)
    config = _read_configuration(backbone.name, folder, backbone.revision)
    _set_labels(config, task.kind, len(task.labels) or 1)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(stream_seed(seed, "head", task.name))
        model, found = auto_class(task.kind).from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        head = _head_names(model)
        _refuse_random(backbone.name, found["missing_keys"], head)
        _redraw(model, head)
    digest = weights_sha256(folder) if folder else backbone.revision
    return Loaded(model, tokenizer, head, head or output_names(model), digest)


def _refuse_random(name: str, missing: Iterable[str], head: tuple[str, ...]) -> None:
    """Raise UserError for weights below the head that the checkpoint lacks: methods would leave them random."""
    below = sorted(key for key in missing if key.split(".")[0] not in head)
    if below:
        more = f" and {len(below) - 1} more" if len(below) > 1 else ""
        raise UserError(
            f"the checkpoint of backbone '{name}' has no {below[0]}{more}, which this architecture has below its head: "
            "it would stay as it is drawn. Use a checkpoint that has all weights."
        )


def draw_head(loaded: Loaded, task: Task, seed: int) -> None:
    """Give a loaded model the head that `load` would have drawn for this task and seed."""
    import torch

    heads = [loaded.model.get_submodule(name) for name in loaded.head]
    devices = [next(head.parameters()).device for head in heads]
    for head in heads:
        head.to("cpu")  # other devices have other random streams
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "head", task.name))
        for _ in ("while loading", "after it"):
            _redraw(loaded.model, loaded.head)
    for head, device in zip(heads, devices, strict=True):
        head.to(device)


def _redraw(model: nn.Module, head: tuple[str, ...]) -> None:
    """Initialise the head again from the current RNG state, whatever loading drew before it."""
    for name in head:
        for module in model.get_submodule(name).modules():
            for owner in (module, *module.parameters(recurse=False)):
                if hasattr(owner, "_is_hf_initialized"):
                    setattr(owner, "_is_hf_initialized", False)  # noqa: B010  (not a declared attribute)
            model._init_weights(module)  # type: ignore[operator]


def _set_labels(config: Any, kind: str, labels: int) -> None:
    if kind != "generation":
        config.num_labels = labels
        config.problem_type = "regression" if kind == "regression" else "single_label_classification"


def auto_class(kind: str) -> Any:
    """The Auto class of transformers that answers tasks of this kind."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return AutoModelForCausalLM if kind == "generation" else AutoModelForSequenceClassification


def _head_names(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in model.named_children() if name in HEADS)


def output_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the output embedding of a generating model."""
    output = model.get_output_embeddings()  # type: ignore[operator]
    return tuple(name for name, module in model.named_modules() if module is output)


def _hub_commit(name: str, revision: str, settings: Settings) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(name, revision=revision or None, timeout=20).sha
    except Exception as error:  # the hub client raises its own, its transport's and the system's errors
        raise _out_of_reach(name, settings, error) from error
    return commit or revision


def _out_of_reach(name: str, settings: Settings, error: Exception) -> UserError:
    reason = f"is not on the hub, or the hub is out of reach ({type(error).__name__})."
    return UserError(f"backbone '{name}' {reason} {_where_looked(settings)}")


def _where_looked(settings: Settings) -> str:
    if settings.models_root is None:
        return "For a local copy, put it below a folder and name that with --models-root or HARNESS_MODELS."
    return f"Not below the models root {settings.models_root} either."


def _plain(revision: str) -> str | None:
    return revision if revision and not revision.startswith("sha256:") else None


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' report on freshly initialised heads (here that is the intention) and what PEFT trips."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
