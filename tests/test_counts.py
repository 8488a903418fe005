"""Parameter counts from shapes alone, against what the papers' configurations come to."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness.counts import Counts, Shape, count, natural_kind
from harness.errors import UserError
from harness.plugins import discover, make_method
from harness.settings import Settings
from harness.shipped import config_names

ENCODER = "q,v,o,down"  # 96 maps in roberta-large
DECODER = "q,k,v,o,up,down,gate"  # 224 maps in mistral-7b, 196 in gemma-7b
MATH = "q,k,v,up,down"
ONE_FFN = "up"

# The collected configurations of the LoRA, LoRA-XS, LoRA-SB and QR-LoRA papers with the exact count that each
# comes to; the note is what the paper prints. Rows that need weights (QR-LoRA's ranks) are not here.
PUBLISHED: list[tuple[str, str, dict[str, Any], int]] = [
    ("roberta-base", "lora", {"r": 8}, 294_912),  # LoRA table 2: 0.3M
    ("roberta-large", "lora", {"r": 8}, 786_432),  # LoRA table 2: 0.8M
    ("roberta-large", "lora", {"r": 8, "targets": ENCODER}, 2_162_688),  # LoRA-SB: 39 x 55.3K
    ("roberta-base", "lora", {"r": 2}, 73_728),  # QR-LoRA prints 92,160, which q, v without biases is not
    ("roberta-base", "lora", {"r": 2, "bias": True}, 92_160),  # QR-LoRA: 92,160, with trained biases
    ("roberta-base", "lora", {"r": 2, "targets": ONE_FFN}, 92_160),  # QR-LoRA: 92,160, one FFN matrix per layer
    ("roberta-base", "svd_lora", {"r": 1, "targets": ONE_FFN}, 46_080),  # QR-LoRA: 46,080, one FFN matrix
    ("roberta-base", "svd_lora", {"r": 2, "targets": "q", "bias": True}, 46_080),  # QR-LoRA: 46,080, with biases
    ("roberta-large", "lora_xs", {"r": 25, "targets": ENCODER}, 60_000),  # LoRA-XS table 1: 60K
    ("roberta-large", "lora_xs", {"r": 20, "targets": ENCODER}, 38_400),  # LoRA-XS table 1: 38.4K
    ("roberta-large", "lora_xs", {"r": 16, "targets": ENCODER}, 24_576),  # LoRA-XS table 1: 24.6K
    ("roberta-large", "lora_xs", {"r": 12, "targets": ENCODER}, 13_824),  # LoRA-XS table 1: 13.8K
    ("roberta-large", "lora_xs", {"r": 8, "targets": ENCODER}, 6_144),  # LoRA-XS table 1: 6.1K
    ("roberta-large", "lora_xs", {"r": 4, "targets": ENCODER}, 1_536),  # LoRA-XS table 1: 1.5K
    ("roberta-large", "lora_sb", {"r": 8, "targets": ENCODER}, 6_144),
    ("roberta-large", "lora_sb", {"r": 16, "targets": ENCODER}, 24_576),
    ("roberta-large", "lora_sb", {"r": 24, "targets": ENCODER}, 55_296),
    ("roberta-large", "vera", {"r": 256}, 61_440),  # VeRA: 61K
    ("roberta-base", "vera", {"r": 1024}, 43_008),  # VeRA: 0.043M
    ("roberta-large", "vera", {"r": 16}, 49_920),  # LoRA-XS appendix B prints 50,400, against its own formula
    ("mistral-7b", "lora_xs", {"r": 64, "targets": DECODER}, 917_504),  # LoRA-XS table 3: 0.92M
    ("mistral-7b", "lora_xs", {"r": 32, "targets": DECODER}, 229_376),  # LoRA-XS table 3: 0.23M
    ("mistral-7b", "lora_xs", {"r": 16, "targets": DECODER}, 57_344),  # LoRA-XS table 3: 0.057M
    ("gemma-7b", "lora_xs", {"r": 64, "targets": DECODER}, 802_816),  # LoRA-XS table 3: 0.80M
    ("gemma-7b", "lora_xs", {"r": 32, "targets": DECODER}, 200_704),  # LoRA-XS table 3: 0.20M
    ("gemma-7b", "lora_xs", {"r": 16, "targets": DECODER}, 50_176),  # LoRA-XS table 3: 0.050M
    ("mistral-7b", "lora", {"r": 64, "targets": DECODER}, 167_772_160),  # LoRA-XS table 3: 168M
    ("gemma-7b", "lora", {"r": 64, "targets": DECODER}, 200_015_872),  # LoRA-XS table 3: 200M
    ("mistral-7b", "lora", {"r": 32, "targets": DECODER}, 83_886_080),  # LoRA-SB: 83.88M
    ("gemma-2-9b", "lora", {"r": 32, "targets": DECODER}, 108_036_096),  # LoRA-SB: 90 x 1.20M
    ("llama-3.2-3b", "lora", {"r": 32, "targets": DECODER}, 48_627_712),  # LoRA-SB: 27 x 1.81M
    ("llama-2-7b", "lora", {"r": 32, "targets": MATH}, 56_098_816),  # LoRA-XS table 2: 56M
    ("llama-3-8b", "lora", {"r": 32, "targets": MATH}, 56_623_104),  # LoRA-XS table 2: 57M
]

SETTINGS = Settings(data_root=None, models_root=None, device="cpu")


@functools.cache
def kind_of(backbone: str) -> Any:
    return natural_kind(backbone, SETTINGS)


def counted(backbone: str, method: str, **parameters: Any) -> Counts:
    shape = Shape(backbone, kind_of(backbone))
    return count(make_method(discover().methods[method], parameters), shape, SETTINGS)


@pytest.mark.parametrize(("backbone", "method", "parameters", "expected"), PUBLISHED)
def test_published_configurations_come_to_their_exact_counts(
    backbone: str, method: str, parameters: dict[str, Any], expected: int
) -> None:
    assert counted(backbone, method, **parameters).adapter_params == expected


@pytest.mark.parametrize(("backbone", "expected"), [("roberta-base", 124_647_170), ("roberta-large", 355_361_794)])
def test_full_fine_tuning_trains_the_whole_classifier(backbone: str, expected: int) -> None:
    counts = counted(backbone, "ft")
    assert counts.trainable_params == counts.total_params == expected
    hidden = {"roberta-base": 768, "roberta-large": 1024}[backbone]
    assert counts.head_params == hidden * hidden + hidden + 2 * hidden + 2


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3.2-3b", 3_212_749_824),
        ("mistral-7b", 7_241_732_096),
        ("gemma-7b", 8_537_680_896),
        ("gemma-2-9b", 9_241_705_984),
    ],
)
def test_shipped_dimensions_make_models_of_the_published_size(backbone: str, expected: int) -> None:
    assert counted(backbone, "ft").total_params == expected


def test_every_shipped_configuration_is_counted_above() -> None:
    assert set(config_names()) == {row[0] for row in PUBLISHED}


def test_totals_add_adapters_and_count_trained_biases_once() -> None:
    plain, biased = counted("roberta-base", "lora"), counted("roberta-base", "lora", bias=True)
    backbone = counted("roberta-base", "head_only")
    assert backbone.adapter_params == 0
    assert plain.total_params == backbone.total_params + plain.adapter_params  # type: ignore[operator]
    assert biased.total_params == plain.total_params


def test_a_count_that_depends_on_the_weights_is_unknown_not_zero() -> None:
    counts = counted("roberta-base", "qr_lora")
    assert counts.adapter_params is None
    assert counts.trainable_params is None
    assert len(counts.maps) == 8  # q, v of the last four layers


def test_a_target_that_the_backbone_lacks_lists_what_it_has() -> None:
    with pytest.raises(UserError, match="target 'gate' matches nothing in this backbone; it has: q, k, v, o, up, down"):
        counted("roberta-base", "lora", targets="q,gate")
