"""Answers of a small decoder, scored through lm-eval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness import batching, data, evaluation, metrics
from harness.api import DataRoot, GenerationTask, Text
from harness.errors import UserError
from harness.generation import evaluate_generation, load_scorer

load_scorer()
from lm_eval.api.instance import Instance  # noqa: E402

from harness.language_model import AdaptedModel  # noqa: E402

CHARACTERS = "0123456789+=#? \n"


class Echo(GenerationTask):
    """Repeat a digit after "#"."""

    name = "echo"
    title = "Echo"
    metrics = ("exact_match",)
    columns = ("digit",)
    stop: ClassVar[tuple[str, ...]] = ("\n", "?")
    max_new_tokens = 6

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": rows(), "test": rows()}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(f"{row['digit']}=")

    def answer(self, row: Mapping[str, Any]) -> str:
        return f"#{row['digit'][-1]}\n"

    def extract(self, text: str) -> str | None:
        return text.rpartition("#")[2].strip()


def rows(count: int = 12) -> pd.DataFrame:
    digits = ["7" * (number % 4) + str(number % 10) for number in range(count)]
    return pd.DataFrame({"id": [str(number) for number in range(count)], "digit": digits, "label": digits})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", *CHARACTERS])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    characters.decoder = decoders.Fuse()
    characters.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=characters, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="right"
    )


def decoder(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=3 + len(CHARACTERS),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            initializer_range=0.5,
        )
    )


@pytest.fixture(scope="module")
def trained(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A decoder that has learned Echo with the encoding that training uses."""
    encoded = batching.encode(Echo(), rows(), tokenizer, 32)
    batch = data.collate(encoded, range(12), tokenizer.pad_token_id)
    model = decoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return model


def greedy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, tokens: int, special: bool = True
) -> str:
    """Plain decoding of one prompt, without cache, batch, or library."""
    ids = tokenizer(prompt, add_special_tokens=special)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + tokens and ids[-1] != tokenizer.eos_token_id:
            ids.append(int(model.eval()(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_a_trained_model_scores_one(trained: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    result = evaluate_generation(trained, tokenizer, Echo(), rows(), batch_size=5)
    assert result.exact_match == 1.0
    assert result.correct == [True] * 12
    assert result.outputs == [f"#{digit[-1]}" for digit in rows()["digit"]]
    assert result.answers == [digit[-1] for digit in rows()["digit"]]


def test_the_score_is_the_share_of_answers_that_equal_the_reference(
    trained: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    frame = rows().assign(digit=["9" if number < 3 else digit for number, digit in enumerate(rows()["digit"])])
    task = Echo()
    result = evaluate_generation(trained, tokenizer, Strict(), frame, batch_size=4)
    expected = [task.extract(text) == "9" for text in result.outputs]
    assert result.correct == expected
    assert result.exact_match == pytest.approx(sum(expected) / len(expected))
    assert 0 < result.exact_match < 1


class Strict(Echo):
    """Counts only nines as right."""

    name = "strict"

    def answer(self, row: Mapping[str, Any]) -> str:
        return "#9"


class Wordy(Echo):
    """An answer counts only after "#"."""

    name = "wordy"

    def extract(self, text: str) -> str | None:
        found = re.search(r"#(\d+)", text)
        return found[1] if found else None


def test_an_output_without_an_answer_is_wrong_and_kept_even_if_it_spells_the_reference(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval's score, the harness's own reading of the same outputs, and a count by hand are one number."""
    outputs = ["#0", "#0", "2", "#3 or", "", "so #5", "#6", "#7", "no", "#9", "#0", "#7"]
    monkeypatch.setattr(AdaptedModel, "generate_until", lambda self, requests, **_: outputs[: len(requests)])
    result = evaluate_generation(decoder(), tokenizer, Wordy(), rows(), batch_size=4)
    references = evaluation.references(Wordy(), rows())
    assert references == [digit[-1] for digit in rows()["digit"]]
    unread = {2: "unparsed: 2", 4: "unparsed: ", 8: "unparsed: no"}
    assert result.answers == [unread.get(n, "".join(re.findall(r"\d", text))) for n, text in enumerate(outputs)]
    assert result.correct == [answer == label for answer, label in zip(result.answers, references, strict=True)]
    assert result.exact_match == metrics.compute("exact_match", result.answers, references) == 7 / 12
    assert metrics.compute("parsed", result.answers, references) == 9 / 12


def test_a_reference_without_an_answer_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    frame = rows().assign(digit="?")
    with pytest.raises(UserError, match="task 'wordy': the reference of row 0 holds no final answer"):
        evaluate_generation(decoder(), tokenizer, Wordy(), frame, batch_size=4)


def test_outputs_are_those_of_plain_greedy_decoding(tokenizer: PreTrainedTokenizerFast) -> None:
    model = decoder(seed=10)
    result = evaluate_generation(model, tokenizer, Echo(), rows(), batch_size=12)
    for digit, output in zip(rows()["digit"], result.outputs, strict=True):
        plain = greedy(model, tokenizer, f"{digit}=", Echo.max_new_tokens)
        assert output == plain.split("\n")[0].split("?")[0]
    assert len(set(result.outputs)) > 8


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batch_size_does_not_change_outputs(tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
    model = decoder(seed=10)
    whole = evaluate_generation(model, tokenizer, Echo(), rows(), batch_size=12)
    assert evaluate_generation(model, tokenizer, Echo(), rows(), batch_size) == whole


def test_decoding_settings_of_a_checkpoint_do_not_matter_and_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    model = decoder(seed=10)
    plain = evaluate_generation(model, tokenizer, Echo(), rows(), batch_size=12)
    model.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=5.0)
    assert evaluate_generation(model, tokenizer, Echo(), rows(), batch_size=12) == plain
    assert model.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_and_random_state_are_left_alone(tokenizer: PreTrainedTokenizerFast, training: bool) -> None:
    model = decoder().train(training)
    state = torch.get_rng_state()
    evaluate_generation(model, tokenizer, Echo(), rows(3), batch_size=2)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_printed(tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_generation(decoder(), tokenizer, Echo(), rows(3), batch_size=2)
    assert capfd.readouterr() == ("", "")


def test_prompts_are_tokenized_as_in_training(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = batching.encode(Echo(), rows(), tokenizer, 32)
    model = decoder()
    seen: list[list[int]] = []
    model.model.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(named["input_ids"][0].tolist()), with_kwargs=True
    )
    evaluate_generation(model, tokenizer, Echo(), rows(1), batch_size=1)
    prompt = seen[0]
    assert prompt[0] == tokenizer.bos_token_id
    assert encoded.input_ids[0][: len(prompt)] == prompt
    assert [label == -100 for label in encoded.labels[0]].index(False) == len(prompt)


def test_two_adapters_share_no_answers_and_nothing_is_cached_on_disk(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same task, rows and base in one process: what differs is what the adapter has learned."""
    monkeypatch.setenv("LM_HARNESS_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    base, adapter = decoder(seed=10), torch.nn.Linear(32, 32, bias=False)
    first = evaluate_generation(base, tokenizer, Echo(), rows(), batch_size=12)
    hook = base.model.layers[0].register_forward_hook(lambda module, inputs, output: output + adapter(output))
    second = evaluate_generation(base, tokenizer, Echo(), rows(), batch_size=12)
    hook.remove()
    assert second.outputs != first.outputs
    assert evaluate_generation(base, tokenizer, Echo(), rows(), batch_size=12) == first
    assert list(tmp_path.iterdir()) == []


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


class TestRequests:
    """The model as lm-eval sees it, whatever task is asked."""

    def test_generation_ends_at_a_stop_string_or_the_limit(
        self, trained: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        adapted = AdaptedModel(trained, tokenizer, batch_size=8)
        settings = [{"until": ["\n"]}, {"until": "6"}, {"until": ["zz"], "max_gen_toks": 1}, {"max_gen_toks": 9}]
        outputs = adapted.generate_until([request("generate_until", "776=", wish) for wish in settings])
        assert outputs == ["#6", "#", "#", "#6\n"]

    def test_a_prompt_that_is_too_long_loses_its_beginning(
        self, trained: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        adapted = AdaptedModel(trained, tokenizer, batch_size=8)
        settings = {"until": ["\n"], "max_gen_toks": 14}
        kept = "1+" * 22 + "776="  # 48 characters, and the model has 64 - 14 positions for a prompt
        prompts = ["5+" * 30 + kept, "0?" + kept]
        long, short = adapted.generate_until([request("generate_until", prompt, settings) for prompt in prompts])
        assert long == greedy(trained, tokenizer, ("5+" + kept), 14, special=False).split("\n")[0]
        assert short == greedy(trained, tokenizer, ("0?" + kept), 14, special=False).split("\n")[0]

    def test_likelihoods_equal_those_of_one_row_without_padding(self, tokenizer: PreTrainedTokenizerFast) -> None:
        model = decoder(seed=1).eval()
        pairs = [("1+1=", "2"), ("7", "7=#7"), ("", "3=3"), ("12+3=", "#15\n")]
        adapted = AdaptedModel(model, tokenizer, batch_size=3)
        scores = adapted.loglikelihood([request("loglikelihood", *pair) for pair in pairs])
        for (context, target), (score, _) in zip(pairs, scores, strict=True):
            assert score == pytest.approx(log_probability(model, tokenizer, context, target), rel=1e-4)

    def test_a_likelihood_tells_whether_decoding_would_give_the_target(
        self, trained: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        adapted = AdaptedModel(trained, tokenizer, batch_size=3)
        scores = adapted.loglikelihood([request("loglikelihood", "776=", text) for text in ("#6", "#5")])
        assert [likely for _, likely in scores] == [True, False]
        assert scores[0][0] > scores[1][0]

    def test_a_text_longer_than_the_model_is_scored_in_windows(self, tokenizer: PreTrainedTokenizerFast) -> None:
        model = decoder(seed=1).eval()
        text = "1+2=3\n" * 15  # 90 tokens, the model has 64 positions
        whole, head = AdaptedModel(model, tokenizer, 4).loglikelihood_rolling(
            [request("loglikelihood_rolling", text), request("loglikelihood_rolling", text[:64])]
        )
        assert head == pytest.approx(log_probability(model, tokenizer, "", text[:64]), rel=1e-4)
        assert math.isfinite(whole)
        assert whole < head


def log_probability(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, context: str, target: str) -> float:
    ids = tokenizer(context + target)["input_ids"]
    first = len(tokenizer(context)["input_ids"])
    with torch.no_grad():
        logarithms = model(input_ids=torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    return sum(float(logarithms[place - 1, ids[place]]) for place in range(first, len(ids)))
