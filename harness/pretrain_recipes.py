"""What the two bundled backbones are and how they are made. The weights in `bundled/` are those of these recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Size:
    """Dimensions of a backbone."""

    vocabulary: int
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 256
    positions: int = 256
    """Longest input in tokens."""


@dataclass(frozen=True)
class PretrainRecipe:
    """How one backbone is pretrained. A step sees one batch, either of prose or of generated text."""

    name: str
    objective: Literal["masked", "causal"]
    size: Size
    generator: str
    """Import path of the generated passages: `function(seed)` yields tuples of one or two texts."""
    steps: int
    learning_rate: float
    generated_share: float
    """Share of the steps whose batch is generated text; the others see the corpus."""
    rows: int = 64
    """Rows per batch of generated text; prose rows are as many as hold about the same number of tokens."""
    prose_length: int = 64
    """Tokens per row of prose, and per packed row of the causal objective."""
    mask_rate: float = 0.25
    comparing_words: tuple[str, ...] = ()
    """Words of the generated text that say how two sentences compare."""
    comparing_mask_rate: float = 0.7
    warmup_ratio: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    prose_paragraphs: int = 16_000
    """Paragraphs drawn from the corpus for training; the tokenizer sees an eighth of them."""
    tokenizer_passages: int = 20_000


@dataclass(frozen=True)
class SpecialTokens:
    """The same five tokens for both backbones, in id order."""

    bos: str = "<s>"
    pad: str = "<pad>"
    eos: str = "</s>"
    unknown: str = "<unk>"
    mask: str = "<mask>"
    all: tuple[str, ...] = field(default=("<s>", "<pad>", "</s>", "<unk>", "<mask>"))


SPECIAL = SpecialTokens()

RECIPES: dict[str, PretrainRecipe] = {
    recipe.name: recipe
    for recipe in (
        PretrainRecipe(
            name="starter-encoder",
            objective="masked",
            size=Size(vocabulary=2048),
            generator="tasks._content.pretraining:encoder_passages",
            steps=8000,
            learning_rate=2e-3,
            generated_share=0.9,
            comparing_words=(
                *("that", "another", "again", "then", "equally", "rather"),
                *("therefore", "so", "perhaps", "maybe", "but", "instead"),
                *("indeed", "truly", "also", "likewise", "later", "next", "meanwhile", "elsewhere"),
            ),
        ),
        PretrainRecipe(
            name="starter-decoder",
            objective="causal",
            size=Size(vocabulary=1024),
            generator="tasks._content.pretraining:decoder_passages",
            steps=8000,
            learning_rate=2e-3,
            generated_share=0.9,
            rows=24,
        ),
    )
}
