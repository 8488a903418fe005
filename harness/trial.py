"""A trial: one point of a grid, frozen, with an id that is the hash of its canonical JSON.

Also the named random streams. All methods under one seed draw the same subset, data order, head
initialisation and dropout seeds, so that comparisons between methods are paired.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.api import later, settings_of

Stream = Literal["subset", "order", "head", "adapter", "dropout", "gradient"]


@dataclass(frozen=True)
class Recipe:
    """How a trial is trained. Learning rates are per optimizer step, lengths in tokens."""

    epochs: int = 3
    batch_size: int = 32
    accumulation: int = 1
    """Micro-batches per optimizer step; each holds batch_size / accumulation rows."""
    length_pool: int = 4
    """Batches whose rows are sorted by length together: more means less padding, and rows that are more alike.

    1 draws batches at random. Length often says something about the label, so that large pools cost scores.
    """
    learning_rate: float = 5e-4
    """0: what the method added stays as the start left it, and the head alone learns: what the start is worth."""
    head_learning_rate: float = 5e-4
    weight_decay: float = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.06
    """Share of the optimizer steps over which the learning rate rises from zero."""
    clip: float = 1.0
    """Largest gradient norm over all trainable tensors; 0 turns clipping off."""
    max_length: int = 128
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """"fp32"; "tf32": float32 whose matrix products may round their factors to TF32 (CUDA; elsewhere the same as
    fp32); "bf16": autocast to bfloat16, parameters stay float32."""
    backbone_dropout: float = -1.0
    """Dropout inside the backbone and before the head; -1 keeps what its configuration says."""
    eval_batch_size: int = 64
    select_rows: int = 0
    """Rows of `select` to choose an epoch on, the first in the mirror's order; 0 takes all that the task sets aside."""
    long_answers: Literal["refuse", "drop"] = later("refuse")
    """What happens to training rows whose answer leaves no room for a prompt within `max_length` (generation).

    "refuse" ends the trial; "drop" trains on the other rows, and the run's provenance counts the `dropped_rows`.
    """
    packing: bool = later(False)
    """Train on each micro-batch as one long row without padding, its rows kept apart (generation); the same losses."""
    gradient_checkpointing: bool = later(False)
    """Keep no activations inside layers and compute them again in backward: less memory, more time, the same losses."""
    chat_template: bool = later(False)
    """Put each prompt into the tokenizer's chat template, as the message of a user (generation)."""
    forgetting: str = later("")
    """Held-out general text whose perplexity is taken before and after training (generation); empty: none.

    A text file, or parquet with a column `text`, by path or below the data root.
    """
    forgetting_sha256: str = later("")
    """First digits of the text's hash; filled in when trials are planned. A suite that names it pins the text."""
    forgetting_tokens: int = later(65536)
    """Tokens of the text that are read, from its beginning; 0 takes all."""
    cache_prefix: bool = later(False)
    """Compute what lies below the first trained layer once per row and look it up from then on; see `harness.prefix`.

    Only without dropout there, for methods that leave the lower layers frozen; the same losses to rounding.
    """
    shards: int = later(1)
    """Processes that hold one model together, each its share of every weight, and compute their rows of each batch.

    For a model larger than a GPU: one process on each (CPU: any number). The same losses to rounding, but for dropout,
    which every process draws for itself; see `harness.sharding`.
    """


@dataclass(frozen=True)
class Start:
    """Where training starts: the pretrained weights, or training on the same or on another task first."""

    kind: Literal["pretrained", "warmup", "transfer"] = "pretrained"
    """"warmup": full fine-tuning on the same task, size and seed. "transfer": training on `task`, all its rows."""
    epochs: int = 0
    learning_rate: float = 0.0
    task: str = later("")
    """The task that a transfer comes from."""
    task_version: int = later(0)
    """Its version; filled in when trials are planned."""
    what: Literal["model", "adapter"] = later("model")
    """What a transfer trains there and brings along: the whole model, or the method's own adapter. The head comes too
    where its shape fits."""
    train_size: int = later(0)
    """Rows of `task` to train on; 0 means all."""

    def __str__(self) -> str:
        if self.kind == "pretrained":
            return self.kind
        length = f"{self.epochs} epochs, lr {self.learning_rate:g}"
        if self.kind == "warmup":
            return f"warmup({length})"
        rows = f"{self.train_size} rows of " if self.train_size else ""
        return f"transfer({self.what} from {rows}{self.task}, {length})"


@dataclass(frozen=True)
class Backbone:
    """A pretrained model by name and revision.

    The revision is a hub commit, or "sha256:" and the first 16 digits of the weights' hash for local ones.
    """

    name: str
    revision: str


@dataclass(frozen=True)
class Trial:
    """backbone x task x method x recipe x train size x start x seed."""

    backbone: Backbone
    task: str
    task_version: int
    method: str
    parameters: dict[str, Any]
    """The method's complete configuration, defaults filled in."""
    recipe: Recipe
    seed: int
    train_size: int = 0
    """Training rows; 0 means all that the task has."""
    start: Start = field(default_factory=Start)

    @functools.cached_property
    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces; see `harness.api.later` for what it leaves out."""
        parts = {"recipe": settings_of(self.recipe), "start": settings_of(self.start)}
        return json.dumps({**asdict(self), **parts}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @functools.cached_property
    def id(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.canonical)


def stream_seed(seed: int, stream: Stream, *salt: str) -> int:
    """Seed in [0, 2^63) of one named stream; `salt` tells apart uses of a stream (task, module name)."""
    text = "/".join(("harness", str(seed), stream, *salt))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def trial_from_json(text: str) -> Trial:
    """The trial that `Trial.canonical` wrote."""
    data = json.loads(text)
    return Trial(
        **{
            **data,
            "backbone": Backbone(**data["backbone"]),
            "recipe": Recipe(**data["recipe"]),
            "start": Start(**data["start"]),
        }
    )
