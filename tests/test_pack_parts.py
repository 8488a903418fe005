"""The parts of a pack against torch's own: optimizer, clipping, losses, grouping."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from factories import make_trial
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.encoded import IGNORED
from harness.errors import UserError
from harness.loop import rate_schedule
from harness.pack.batches import merge, trial_losses
from harness.pack.blocks import Block
from harness.pack.plan import MOST_TOGETHER, check_pack, make_packs, pack_key
from harness.plugins import discover
from harness.trial import Recipe, Start, Trial

PLUGINS = discover()


class Row:
    """What a block asks of a slot, without a model."""

    def __init__(self, values: dict[str, Tensor], rates: dict[str, float], recipe: Recipe, steps: int) -> None:
        self.parameters = {name: nn.Parameter(value.clone()) for name, value in values.items()}
        self.rates, self.recipe = rates, recipe
        self.factor = rate_schedule(recipe, steps)
        self.progress = SimpleNamespace(steps=0)
        self.moments = torch.zeros(2, sum(value.numel() for value in values.values()))

    def flat(self) -> Tensor:
        return torch.cat([value.detach().reshape(-1) for value in self.parameters.values()])

    def adopt(self, values: Tensor, moments: Tensor) -> None:
        self.moments = moments
        start = 0
        for parameter in self.parameters.values():
            parameter.data = values[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()


@pytest.mark.filterwarnings("ignore:grad and param do not obey the gradient layout contract")
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_a_block_updates_each_trial_as_torch_does_alone(clip: float) -> None:
    generator = torch.Generator().manual_seed(0)
    steps, shapes = 7, {"A": (3, 4), "B": (5,), "head": (2, 2)}
    recipes = [
        Recipe(learning_rate=1e-2, head_learning_rate=3e-2, weight_decay=0.1, clip=clip),
        Recipe(learning_rate=5e-2, head_learning_rate=5e-2, weight_decay=0.0, clip=1.0, schedule="cosine"),
        Recipe(learning_rate=2e-2, head_learning_rate=1e-3, warmup_ratio=0.5, clip=clip),
    ]
    rows, alone = [], []
    for recipe in recipes:
        values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        rates = {"A": recipe.learning_rate, "B": 4 * recipe.learning_rate, "head": recipe.head_learning_rate}
        rows.append(Row(values, rates, recipe, steps))
        own = {name: nn.Parameter(value.clone()) for name, value in values.items()}
        groups: list[dict[str, Any]] = [{"params": [own[name]], "lr": rates[name]} for name in own]
        optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        alone.append((own, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate_schedule(recipe, steps))))
    block = Block(cast(Any, rows))
    for step in range(steps):
        if step == 4:  # trials may be stacked anew in mid-training, in another order
            rows, alone = rows[::-1], alone[::-1]
            block = Block(cast(Any, rows))
        gradients = {name: torch.randn(len(rows), *shape, generator=generator) for name, shape in shapes.items()}
        sum((block.leaf(name) * gradient).sum() for name, gradient in gradients.items()).backward()  # type: ignore[union-attr]
        block.update()
        for number, (row, (own, optimizer, schedule)) in enumerate(zip(rows, alone, strict=True)):
            row.progress.steps += 1
            for name, parameter in own.items():
                parameter.grad = gradients[name][number].clone()
            if row.recipe.clip:
                nn.utils.clip_grad_norm_(own.values(), row.recipe.clip)
            optimizer.step()
            schedule.step()
    for row, (own, _, _) in zip(rows, alone, strict=True):
        for name, parameter in own.items():
            torch.testing.assert_close(row.parameters[name].data, parameter.data, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:grad and param do not obey the gradient layout contract")
def test_a_gradient_that_is_no_number_stays_in_its_row() -> None:
    rows = [Row({"A": torch.ones(3)}, {"A": 0.1}, Recipe(schedule="constant"), 5) for _ in range(2)]
    block = Block(cast(Any, rows))
    (block.leaf("A") * torch.tensor([[1.0], [float("nan")]])).sum().backward()
    block.update()
    assert rows[0].parameters["A"].isfinite().all()
    assert rows[1].parameters["A"].isnan().all()


def make_batch(rows: int, length: int, labels: Tensor) -> dict[str, Tensor]:
    return {
        "input_ids": torch.full((rows, length), 7),
        "attention_mask": torch.ones(rows, length, dtype=torch.int64),
        "labels": labels,
    }


def test_merged_batches_keep_each_trials_rows_and_mark_the_rest_as_padding() -> None:
    merged = merge([make_batch(2, 3, torch.tensor([0, 1])), None, make_batch(1, 4, torch.tensor([1]))], pad_id=9)
    ids, mask = merged["input_ids"].view(3, 2, 4), merged["attention_mask"].view(3, 2, 4)
    assert ids[0].tolist() == [[7, 7, 7, 9]] * 2
    assert ids[2].tolist() == [[7] * 4, [9] * 4]
    assert merged["labels"].view(3, 2).tolist() == [[0, 1], [IGNORED, IGNORED], [1, IGNORED]]
    assert mask.sum(-1).tolist() == [[3, 3], [1, 1], [4, 1]]  # a row must attend to something


@pytest.mark.parametrize("kind", ["classification", "regression", "generation"])
def test_each_trials_loss_is_that_of_transformers(kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    trials, rows, length, classes = 3, 4, 5, 6
    counts = [4, 2, 3]
    shape = {"classification": (classes,), "regression": (1,), "generation": (length, classes)}[kind]
    logits = torch.randn(trials, rows, *shape, generator=generator)
    if kind == "regression":
        labels = torch.randn(trials, rows, generator=generator)
    else:
        size = (trials, rows, length) if kind == "generation" else (trials, rows)
        labels = torch.randint(classes, size, generator=generator)
    if kind == "generation":
        labels[..., :2] = IGNORED
    for trial, count in enumerate(counts):
        labels[trial, count:] = float("nan") if kind == "regression" else IGNORED
    items = torch.tensor([count * (length - 2 if kind == "generation" else 1) for count in counts])
    losses = trial_losses(logits.flatten(0, 1), labels.flatten(0, 1), items, kind)
    for trial, count in enumerate(counts):
        mine, theirs = logits[trial, :count], labels[trial, :count]
        if kind == "regression":
            expected = nn.functional.mse_loss(mine[:, 0], theirs)
        elif kind == "generation":
            expected = nn.functional.cross_entropy(mine[:, :-1].flatten(0, 1), theirs[:, 1:].flatten())
        else:
            expected = nn.functional.cross_entropy(mine, theirs)
        torch.testing.assert_close(losses[trial], expected)


def changed(**changes: Any) -> Trial:
    trial = make_trial(task="mrpc", method=changes.pop("method", "lora"))
    names = {item.name for item in dataclasses.fields(Recipe)}
    recipe = {name: changes.pop(name) for name in list(changes) if name in names}
    return dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, **recipe), **changes)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ({}, {"method": "pissa"}, True),
        ({}, {"learning_rate": 1.0, "epochs": 9, "schedule": "cosine", "clip": 0.0}, True),
        ({}, {"seed": 3, "train_size": 100}, True),
        ({}, {"task": "rte"}, True),
        ({}, {"task": "mnli"}, False),
        ({}, {"task": "stsb"}, False),
        ({}, {"batch_size": 8}, False),
        ({}, {"backbone_dropout": 0.0}, False),
        ({}, {"precision": "bf16"}, False),
        ({}, {"start": Start("warmup", 1, 1e-3)}, False),
        ({"start": Start("warmup", 1, 1e-3)}, {"start": Start("warmup", 1, 1e-3), "method": "vera"}, True),
        ({"start": Start("warmup", 1, 1e-3)}, {"start": Start("warmup", 1, 1e-3), "seed": 1}, False),
    ],
)
def test_trials_share_a_model_if_a_step_has_one_shape(first: Any, second: Any, shared: bool) -> None:
    keys = [pack_key(changed(**changes), PLUGINS) for changes in (first, second)]
    assert None not in keys
    assert (keys[0] == keys[1]) is shared


@pytest.mark.parametrize("method", ["ft", "bitfit", "majority", "warmup_only", "peft:ADALORA"])
def test_what_trains_more_than_maps_and_head_runs_alone(method: str) -> None:
    assert pack_key(changed(method=method), PLUGINS) is None


def test_rows_packed_into_one_and_transferred_adapters_run_alone() -> None:
    assert pack_key(changed(packing=True), PLUGINS) is None
    assert pack_key(changed(cache_prefix=True), PLUGINS) is None
    assert pack_key(changed(start=Start("transfer", 1, 1e-3, "mnli", 1, "adapter")), PLUGINS) is None


@given(
    methods=st.lists(st.sampled_from(["lora", "pissa", "ft", "head_only"]), min_size=1, max_size=90),
    pack=st.sampled_from(["auto", "off", "verify", "1", "3", "50"]),
    jobs=st.integers(1, 4),
)
def test_every_trial_is_in_one_pack(methods: list[str], pack: str, jobs: int) -> None:
    trials = [changed(method=method, seed=seed % 5, learning_rate=seed / 100) for seed, method in enumerate(methods)]
    packs = make_packs(trials, PLUGINS, pack, jobs)
    assert sorted(trial.id for part in packs for trial in part) == sorted(trial.id for trial in trials)
    most = {"auto": MOST_TOGETHER, "verify": MOST_TOGETHER, "off": 1}.get(pack) or int(pack)
    assert all(1 <= len(part) <= most for part in packs)
    assert all(len(part) == 1 for part in packs if part[0].method == "ft")
    assert all(len({pack_key(trial, PLUGINS) for trial in part}) == 1 for part in packs)


@pytest.mark.parametrize(
    ("start", "order"),
    [
        (Start(), [("ft", 0), ("lora", 0), ("ft", 1), ("lora", 1), ("ft", 2), ("lora", 2)]),
        (Start("warmup", 1, 1e-3), [("ft", 0), ("ft", 1), ("ft", 2), ("lora", 0), ("lora", 1), ("lora", 2)]),
    ],
)
def test_trials_of_one_row_or_of_one_trained_start_take_turns(start: Start, order: list[tuple[str, int]]) -> None:
    trials = [changed(method=name, start=start, seed=seed) for name in ("ft", "lora") for seed in range(3)]
    assert [(trial.method, trial.seed) for (trial,) in make_packs(trials, PLUGINS, "off", 2)] == order


def test_packs_begin_with_different_rows() -> None:
    trials = [changed(method=method, seed=seed) for method in ("lora", "dora", "vera", "pissa") for seed in range(2)]
    packs = make_packs(trials, PLUGINS, "auto", 2)
    assert [[(trial.method, trial.seed) for trial in part] for part in packs] == [
        [("lora", 0), ("dora", 0), ("vera", 0), ("pissa", 0)],
        [("vera", 1), ("pissa", 1), ("lora", 1), ("dora", 1)],
    ]


@pytest.mark.parametrize(
    ("count", "jobs", "sizes"), [(120, 2, [30] * 4), (65, 2, [17, 17, 17, 14]), (33, 1, [17, 16]), (6, 4, [2, 2, 2])]
)
def test_no_process_is_left_with_a_pack_more_than_the_others(count: int, jobs: int, sizes: list[int]) -> None:
    trials = [changed(seed=seed) for seed in range(count)]
    assert [len(part) for part in make_packs(trials, PLUGINS, "auto", jobs)] == sizes


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "1.5"])
def test_a_pack_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--pack"):
        check_pack(text)
