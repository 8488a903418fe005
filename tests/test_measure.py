"""What a run cost: counted numbers against formulas and files."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForSequenceClassification

from harness import measure, memory
from harness.flops import Step
from harness.records import Costs, Forgetting, ParameterCounts

CPU = torch.device("cpu")
WIDTH, INNER, LAYERS, VOCABULARY, CLASSES = 16, 40, 2, 50, 3
KEY_WIDTH = WIDTH // 2  # Llama with half as many key heads as query heads
RANK = 3


def encoder() -> RobertaForSequenceClassification:
    torch.manual_seed(0)
    return RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            max_position_embeddings=80,
            num_labels=CLASSES,
        )
    )


def decoder(tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )


def batch(length: int, rows: int = 4, generation: bool = False) -> dict[str, Tensor]:
    ids = torch.arange(rows * length).reshape(rows, length) % (VOCABULARY - 5) + 3
    labels = ids if generation else torch.arange(rows) % CLASSES
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def trains(model: nn.Module) -> Step:
    def step(inputs: Mapping[str, Tensor]) -> object:
        return model(**inputs).loss.backward()

    return step


def counted(model: nn.Module, lengths: tuple[int, ...] = (8, 12, 24), generation: bool = False) -> measure.LengthCost:
    return measure.flops_by_length(model, trains(model), [batch(n, generation=generation) for n in lengths])


def encoder_forward(rows: int, length: int) -> int:
    """Four square maps and two of the inner width per token, attention over all pairs, the head once per row."""
    maps = LAYERS * 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) * length
    attention = LAYERS * 2 * 2 * length * length * WIDTH
    head = 2 * WIDTH * WIDTH + 2 * WIDTH * CLASSES
    return rows * (maps + attention + head)


class TestParameters:
    def test_splits_trainable_scalars_into_adapter_and_head(self) -> None:
        model = encoder().requires_grad_(False)
        model.classifier.requires_grad_(True)
        model.roberta.encoder.layer[0].attention.self.query.weight.requires_grad_(True)
        head = WIDTH * WIDTH + WIDTH + WIDTH * CLASSES + CLASSES
        counts = measure.count_parameters(model, ("classifier",))
        assert counts == ParameterCounts(WIDTH * WIDTH, head, sum(value.numel() for value in model.parameters()))
        assert measure.trainable_parameters(model, ("classifier",)) == counts.trainable == WIDTH * WIDTH + head

    def test_a_tied_output_embedding_counts_once_and_as_head(self) -> None:
        model = decoder(tied=True).requires_grad_(False)
        model.lm_head.requires_grad_(True)
        counts = measure.count_parameters(model, ("lm_head",))
        untied = sum(value.numel() for value in decoder(tied=False).parameters())
        assert counts == ParameterCounts(0, VOCABULARY * WIDTH, untied - VOCABULARY * WIDTH)

    def test_buffers_of_a_method_do_not_count(self) -> None:
        model = nn.Linear(3, 2)
        before = measure.count_parameters(model, ())
        model.register_buffer("basis", torch.zeros(7))
        assert measure.count_parameters(model, ()) == before


class TestFlops:
    @pytest.mark.parametrize(("rows", "length"), [(4, 8), (4, 24), (32, 17), (1, 61)])
    def test_full_training_of_an_encoder_is_three_forwards(self, rows: int, length: int) -> None:
        assert counted(encoder()).flops(rows, length) == pytest.approx(3 * encoder_forward(rows, length), rel=1e-9)

    @pytest.mark.parametrize(("rows", "length"), [(4, 12), (9, 33)])
    def test_inference_is_one_forward(self, rows: int, length: int) -> None:
        model = encoder()
        cost = measure.flops_by_length(
            model, lambda inputs: model(**inputs), [batch(n) for n in (8, 12, 24)], training=False
        )
        assert cost.flops(rows, length) == pytest.approx(encoder_forward(rows, length), rel=1e-9)

    def test_a_trained_head_alone_needs_no_backward_through_the_backbone(self) -> None:
        model = encoder()
        model.roberta.requires_grad_(False)
        head = 2 * WIDTH * WIDTH + 2 * WIDTH * CLASSES
        backward = 2 * head - 2 * WIDTH * WIDTH  # the features need no gradient
        expected = 4 * backward + encoder_forward(4, 20)
        assert counted(model).flops(4, 20) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(("rows", "length"), [(4, 8), (6, 31)])
    def test_low_rank_maps_in_a_frozen_decoder(self, rows: int, length: int) -> None:
        model = decoder().requires_grad_(False)
        for layer in model.model.layers:
            layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj)
            layer.self_attn.v_proj = LowRank(layer.self_attn.v_proj)
        cost = counted(model, generation=True)
        assert cost.flops(rows, length) == pytest.approx(rows * length * low_rank_flops_per_token(length), rel=1e-9)

    def test_work_that_does_not_grow_with_the_rows_is_told_apart(self) -> None:
        model = Rebuilding(nn.Linear(WIDTH, WIDTH))
        cost = measure.flops_by_length(model, lambda inputs: model(inputs["input_ids"]), [batch(8)], training=False)
        rebuilt, applied = 2 * WIDTH * RANK * WIDTH, 2 * 8 * WIDTH * WIDTH
        assert cost.flops(1, 8) == pytest.approx(rebuilt + applied)
        assert cost.flops(50, 8) == pytest.approx(rebuilt + 50 * applied)

    @pytest.mark.parametrize("lengths", [(1,), (3,), (4,), (10,), (1, 9), (10, 10, 16), (4, 8), (30, 7, 20, 11)])
    def test_whichever_lengths_are_at_hand_every_length_is_met(self, lengths: tuple[int, ...]) -> None:
        cost = counted(encoder(), lengths)
        for length in (1, 10, 16, 40):
            assert cost.flops(4, length) == 3 * encoder_forward(4, length)

    def test_batches_of_one_row_are_enough(self) -> None:
        model = encoder()
        cost = measure.flops_by_length(model, trains(model), [batch(n, rows=1) for n in (8, 12, 24)])
        assert cost.flops(1, 20) == pytest.approx(3 * encoder_forward(1, 20), rel=1e-9)

    def test_counting_leaves_gradients_mode_and_random_state_alone(self) -> None:
        model = encoder().eval()
        kept = torch.ones_like(model.classifier.dense.weight)
        model.classifier.dense.weight.grad = kept
        state = torch.get_rng_state()
        counted(model)
        assert model.classifier.dense.weight.grad is kept
        assert torch.equal(kept, torch.ones_like(kept))
        assert model.roberta.embeddings.word_embeddings.weight.grad is None
        assert not model.training
        assert torch.equal(torch.get_rng_state(), state)

    def test_training_adds_up_every_shape(self) -> None:
        cost = measure.LengthCost(per_batch=(5.0, 0.0, 0.0), per_row=(1.0, 10.0, 100.0))
        assert measure.train_flops(cost, {(2, 3): 4, (1, 1): 1}) == 4 * (5 + 2 * (1 + 30 + 900)) + (5 + 111)
        assert measure.inference_flops_per_example(cost, [1, 3]) == 5 + (111 + 931) / 2


class LowRank(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.zeros(RANK, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (x @ self.A.T) @ self.B.T


class Rebuilding(nn.Module):
    """Builds its weight anew at each step."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.zeros(RANK, WIDTH))
        self.B = nn.Parameter(torch.zeros(WIDTH, RANK))

    def forward(self, ids: Tensor) -> Tensor:
        features = torch.zeros(*ids.shape, WIDTH)
        return features @ (self.base.weight + self.B @ self.A).T


def low_rank_flops_per_token(length: int) -> float:
    """Forward plus what backward needs, per token of a row of `length`, summed over the decoder's layers."""
    projections = 2 * WIDTH * WIDTH + 2 * 2 * WIDTH * KEY_WIDTH  # q; k and v
    rest = 2 * WIDTH * WIDTH + 3 * 2 * WIDTH * INNER  # o; gate, up, down
    attention = 2 * 2 * length * WIDTH
    down, up = 2 * 2 * RANK * WIDTH, 2 * RANK * (WIDTH + KEY_WIDTH)  # A of q and v; their B
    output = 2 * WIDTH * VOCABULARY
    forward = LAYERS * (projections + rest + attention + down + up) + output
    input_gradients = LAYERS * (projections + rest + 2 * attention + down + up) + output
    weight_gradients = LAYERS * (down + up)
    # nothing below layer 0 learns, so its input needs no gradient, and its keys, which are frozen, none either
    spared = projections + down + attention / 2
    return forward + input_gradients + weight_gradients - spared


class TestClocks:
    def test_a_stopwatch_reads_wall_clock_seconds(self) -> None:
        with measure.train_seconds(CPU) as watch:
            time.sleep(0.02)
        assert 0.02 <= watch.seconds < 1

    def test_a_stopwatch_stops_when_its_block_fails(self) -> None:
        watch = measure.Stopwatch(CPU)
        with pytest.raises(ZeroDivisionError), watch:
            1 / 0  # noqa: B018
        assert watch.seconds > 0

    def test_throughput_counts_real_tokens(self) -> None:
        assert measure.examples_per_second(30, 2.0) == 15
        assert measure.tokens_per_second(90, 2.0) == 45
        assert measure.padding_share(90, 120) == 0.25

    def test_throughput_of_nothing_is_unknown(self) -> None:
        assert measure.examples_per_second(0, 0.0) is None
        assert measure.tokens_per_second(0, 0.0) is None
        assert measure.padding_share(0, 0) is None


class TestMemory:
    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its recorded peak")
    def test_the_peak_is_seen_after_the_memory_is_freed_and_each_time_anew(self) -> None:
        size = 48 * 2**20
        for _ in range(2):
            with measure.MemoryGrowth(CPU) as peak:
                torch.ones(size // 4).sum()
            assert peak.bytes is not None
            assert size * 0.9 < peak.bytes < size * 1.6
        with measure.MemoryGrowth(CPU) as idle:
            pass
        assert idle.bytes is not None
        assert idle.bytes < size / 4

    def test_what_nobody_holds_is_no_memory_that_a_cuda_device_held_before(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Tensors:
            """A cycle: only a collection frees it."""

            def __init__(self) -> None:
                self.itself = self

        left = weakref.ref(Tensors())
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10 if left() is None else 100)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 110)
        with measure.MemoryGrowth(torch.device("cuda")) as peak:
            pass
        assert peak.bytes == 100

    def test_a_growth_below_an_older_peak_is_unknown(self) -> None:
        assert memory.growth(memory.Before(resident=2**20, peak=2**60)) is None
        assert memory.growth(memory.Before(resident=2**20, peak=None)) is None

    def test_a_new_record_is_known_without_a_reset(self) -> None:
        grown = memory.growth(memory.Before(resident=2**20, peak=2**24))
        assert grown is not None
        assert grown > 2**24 - 2**20


class TestBytes:
    def test_equals_the_size_of_the_file(self, tmp_path: Path) -> None:
        tensors = {"head.weight": torch.ones(3, 5), "A": torch.ones(7, dtype=torch.bfloat16)}
        save_file(tensors, tmp_path / "adapter.safetensors")
        assert measure.adapter_bytes(tensors) == os.path.getsize(tmp_path / "adapter.safetensors")

    def test_takes_views_and_tensors_without_data(self) -> None:
        whole = torch.ones(6, 4)
        views = {"left": whole[:, :2], "same": whole[:, :2]}
        separate = {name: value.clone().contiguous() for name, value in views.items()}
        assert measure.adapter_bytes(views) == measure.adapter_bytes(separate)
        assert measure.adapter_bytes({"w": torch.empty(9, device="meta")}) == measure.adapter_bytes(
            {"w": torch.ones(9)}
        )


class TestDefinitions:
    def test_every_measured_column_is_defined(self) -> None:
        counts = {f"{name}_params" for name in ("adapter", "head", "trainable", "total")}
        measured = {field.name for part in (Costs, Forgetting) for field in dataclasses.fields(part)}
        assert set(measure.DEFINITIONS) == counts | measured

    def test_definitions_are_sentences_and_differ(self) -> None:
        texts = [str(function.__doc__) for function in measure.DEFINITIONS.values()]
        assert len(set(texts)) == len(texts)
        assert all(len(text) > 40 and "." in text for text in texts)

    def test_definitions_are_read_without_torch(self) -> None:
        code = "import sys; from harness.measure import DEFINITIONS; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"
