"""Takes the trained weights of a stored run apart, family of maps by family of maps, and scores what is left.

For each family (q, v, ...), part (top, middle, bottom) and fraction, the weights of that family in all layers are
replaced, the model is scored on its task's test sets, and the weights are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness import backbones
from harness.analyses.spectra import PARTS, Factors, Part
from harness.errors import UserError
from harness.evaluation import Evaluator
from harness.export.trained import Trained
from harness.targets import select_modules


@dataclass(frozen=True)
class Question:
    """What to take apart, and how finely."""

    families: tuple[str, ...]
    """Canonical names of linear maps, one family each; LoRA-XS prints q, v, k, o, up and down."""
    fractions: tuple[float, ...]
    """Shares of the singular triplets that are kept, 0 to 1."""
    layers: str = "all"

    def check(self) -> None:
        """Raise UserError for fractions outside 0 to 1, or nothing to do."""
        if not self.families:
            raise UserError("--targets is empty: name families of maps, as in --targets q,v.")
        for fraction in self.fractions:
            if not 0 <= fraction <= 1:
                raise UserError(f"--fraction {fraction} is no share: give numbers from 0 to 1.")


@dataclass(frozen=True)
class Answer:
    """The score with one part of one family."""

    family: str
    part: Part
    fraction: float
    score: float
    """The task's first metric, mean over its test sets."""
    energy: float
    """Share of the squared Frobenius norm that was kept of what was taken apart, over the family's maps, 0 to 1."""


@dataclass
class Subject:
    """A run's trained model, its method merged, and the weights that it started from."""

    trained: Trained
    model: nn.Module
    score: float = field(init=False)
    """With all its weights as they were trained."""
    _pretrained: nn.Module | None = None

    def __post_init__(self) -> None:
        self.score = self.measure()

    @classmethod
    def of(cls, trained: Trained) -> Subject:
        """Merge the method; UserError if it cannot be merged."""
        trained.attachment.merge()
        model = trained.bench.method.plain(trained.stage.model)
        return cls(trained, model)

    def measure(self) -> float:
        """The task's first metric, mean over its test sets."""
        bench = self.trained.bench
        tests = {name: bench.splits[name] for name in bench.task.tests}
        evaluator = Evaluator(bench.task, tests, self.trained.stage.loaded.tokenizer, bench.trial.recipe)
        evaluator.evaluate(self.model, 0)
        values = [score.value for score in evaluator.scores if score.metric == bench.task.metrics[0]]
        return sum(values) / len(values)

    def weights(self, family: str, layers: str) -> dict[str, nn.Parameter]:
        """The trained weights [m, n] of one family by module name; UserError for a family that does not exist."""
        targets = select_modules(self.model, family, layers)
        return {target.module: self.model.get_parameter(f"{target.module}.weight") for target in targets}

    def pretrained(self, module: str) -> Tensor:
        """The weight [m, n] of a map in the pretrained checkpoint, before any start."""
        if self._pretrained is None:
            trial, bench = self.trained.wanted.trial, self.trained.bench
            self._pretrained = backbones.load(trial.backbone, bench.task, trial.seed, bench.settings).model
        return self._pretrained.get_parameter(f"{module}.weight").detach().to(self.trained.stage.device)


@dataclass(frozen=True)
class Dissection:
    """One trained weight [m, n] and how to build what stands in its place."""

    weight: nn.Parameter
    original: Tensor
    """A copy of the trained weight."""
    fixed: Tensor
    """What stays whatever is kept: zero for a weight, W for an update of W."""
    cut: Tensor
    """What is taken apart: the weight, or its update."""
    keep: Callable[[Part, float], Tensor]
    """The kept part of `cut`."""


def retention(subject: Subject, question: Question) -> Iterator[Answer]:
    """Scores with only some singular triplets of the trained weights kept (LoRA-XS tables 6 to 8)."""

    def dissect(module: str, weight: nn.Parameter) -> Dissection:
        trained = weight.detach().clone()
        factors = Factors.of(trained)
        return Dissection(
            weight,
            trained,
            torch.zeros_like(trained),
            trained,
            lambda part, fraction: factors.retained(factors.window(part, fraction)),
        )

    return _answers(subject, question, dissect)


def subspaces(subject: Subject, question: Question) -> Iterator[Answer]:
    """Scores with only the part of the update that lies in some singular directions of W (LoRA-XS table 9).

    W is the pretrained weight; the update is the trained weight less W, a warm-up's share of it included. Where W is
    not square, its thin SVD spans one side only in part, so that even all directions leave some of the update out.
    UserError for a family that the run did not change.
    """

    def dissect(module: str, weight: nn.Parameter) -> Dissection:
        trained, pretrained = weight.detach().clone(), subject.pretrained(module)
        update = trained - pretrained
        factors = Factors.of(pretrained)
        return Dissection(
            weight,
            trained,
            pretrained,
            update,
            lambda part, fraction: factors.projected(update, factors.window(part, fraction)),
        )

    return _answers(subject, question, dissect)


def _answers(
    subject: Subject, question: Question, dissect: Callable[[str, nn.Parameter], Dissection]
) -> Iterator[Answer]:
    question.check()
    families = {name: subject.weights(name, question.layers) for name in question.families}  # before any long work
    for family, weights in families.items():
        maps = [dissect(module, weight) for module, weight in weights.items()]
        whole = sum(float(item.cut.square().sum()) for item in maps)
        if whole == 0:
            raise UserError(f"run {subject.trained.wanted.run_id} changed none of the maps '{family}'; name others.")
        for part in PARTS:
            for fraction in question.fractions:
                score, kept = _scored(subject, maps, part, fraction)
                yield Answer(family, part, fraction, score, kept / whole)


def _scored(subject: Subject, maps: Sequence[Dissection], part: Part, fraction: float) -> tuple[float, float]:
    """The score with one part kept, and the squared norm of that part; the weights are put back."""
    kept = 0.0
    try:
        with torch.no_grad():
            for item in maps:
                piece = item.keep(part, fraction)
                kept += float(piece.square().sum())
                item.weight.copy_(item.fixed + piece)
        return subject.measure(), kept
    finally:
        with torch.no_grad():
            for item in maps:
                item.weight.copy_(item.original)
