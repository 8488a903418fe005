"""The model card of a pretrained backbone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from harness.pretrain_recipes import PretrainRecipe


@dataclass(frozen=True)
class CurvePoint:
    """Mean training loss over the steps since the previous point."""

    step: int
    loss: float


@dataclass(frozen=True)
class HeldOut:
    """Mean cross-entropy per predicted token, in nats, on text that was not trained on."""

    prose: float
    generated: float


@dataclass(frozen=True)
class Result:
    """What a pretraining left behind beside the weights."""

    seed: int
    corpus_sha256: str
    seconds: float
    curve: list[CurvePoint]
    held_out: HeldOut


def write_card(out: Path, recipe: PretrainRecipe, result: Result) -> None:
    """Write README.md into the backbone's folder."""
    kind = "encoder (RoBERTa)" if recipe.objective == "masked" else "decoder (Llama)"
    settings = {**asdict(recipe), **asdict(recipe.size)}
    settings.pop("size")
    lines = [
        f"# {recipe.name}",
        "",
        f"A small {kind} for the embedded suite of this project: large enough that fine-tuning methods differ on it,",
        "small enough to train hundreds of times on a CPU. It is of no use outside the suite.",
        "",
        "Made by",
        "",
        f"    python -m harness backbone build {recipe.name} --corpus CORPUS --out FOLDER --seed {result.seed}",
        "",
        "Text: public-domain novels (the corpus), and sentences from the grammar of the suite's tasks that share no",
        "content with their rows (`tasks/_content/`): no task labels, no task's questions.",
        "",
        "| | |",
        "|---|---|",
        f"| corpus sha256 | `{result.corpus_sha256}` |",
        f"| seed | {result.seed} |",
        f"| seconds | {result.seconds:.0f} |",
        f"| torch, transformers | {version('torch')}, {version('transformers')} |",
        f"| held-out prose: loss, perplexity | {result.held_out.prose:.4f}, {math.exp(result.held_out.prose):.2f} |",
        f"| held-out generated text: loss, perplexity | {result.held_out.generated:.4f}, "
        f"{math.exp(result.held_out.generated):.2f} |",
        "",
        "## Recipe",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in settings.items() if name != "name"),
        "",
        "## Training loss",
        "",
        "| step | loss |",
        "|---|---|",
        *(f"| {point.step} | {point.loss:.4f} |" for point in result.curve),
        "",
    ]
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")
