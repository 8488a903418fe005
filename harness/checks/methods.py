"""Checks of method plugins on whole models: each a function of a configured method that raises `Broken`."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.api import Method
from harness.checks import maps
from harness.checks.specimens import (
    BACKBONES,
    SHAPES,
    Rig,
    attach,
    batch,
    logits,
    new_model,
    one_map,
    require_formula,
    rigs,
)
from harness.checks.verdicts import Broken, NotApplicable, require_close
from harness.errors import UserError
from harness.measure import count_parameters

Check = Callable[[Method], None]
_NEAR = 1e-3
"""Largest difference that is rounding at the start, where some papers draw parameters close to zero (LoRA-XS)."""


def works_on_encoder(method: Method) -> None:
    """It attaches to a RoBERTa-like encoder, and trains."""
    _works(method, 0)


def works_on_decoder(method: Method) -> None:
    """It attaches to a Llama-like decoder, and trains."""
    _works(method, 1)


def _works(method: Method, number: int) -> None:
    try:
        rig = attach(method, BACKBONES[number])
    except UserError as error:
        raise Broken(
            f"a method that attaches to the small {BACKBONES[number]}", str(error), "targets, or exemptions()"
        ) from None
    if rig.trainable:
        rig.steps(1)
    if not torch.isfinite(rig.logits()).all():
        raise Broken("finite outputs after a step", "inf or nan", "forward and init")


def starts_as_backbone(method: Method) -> None:
    """At step 0 the adapted model computes what the backbone computes."""
    for rig in rigs(method):
        before, after = logits(new_model(rig.backbone), rig.backbone), rig.logits()
        require_close(
            after, before, "the backbone's outputs at step 0", "init, or name the reason in exemptions()", _NEAR
        )


def moves_what_it_declares(method: Method) -> None:
    """After an evaluation pass and three steps every trainable tensor has moved."""
    for rig in _training_rigs(method):
        rig.logits()
        before = _state(rig)
        rig.steps(3)
        still = [name for name in rig.trainable if torch.equal(rig.model.state_dict()[name], before[name])]
        if still:
            raise Broken("every trainable tensor to move", f"{still[0]} unmoved", "forward: is it used?")


def leaves_the_rest_alone(method: Method) -> None:
    """After an evaluation pass and three steps everything frozen has the very same bits."""
    for rig in _training_rigs(method):
        rig.logits()
        before, trainable = _state(rig), set(rig.trainable)
        rig.steps(3)
        after = rig.model.state_dict()
        moved = [name for name in before if name not in trainable and not torch.equal(after[name], before[name])]
        if moved:
            raise Broken("frozen tensors to keep their bits", f"{moved[0]} changed", "in-place operations on buffers")


def reaches_every_tensor(method: Method) -> None:
    """Every trainable tensor has a gradient other than zero within three steps."""
    for rig in _training_rigs(method):
        reached: set[str] = set()
        for _ in range(3):
            rig.model(**batch(rig.backbone)).loss.backward()
            reached |= {name for name, value in rig.trainable.items() if value.grad is not None and value.grad.any()}
            rig.model.zero_grad()
            rig.steps(1)
        missed = sorted(set(rig.trainable) - reached)
        if missed:
            raise Broken(
                "a gradient for every trainable tensor", f"none for {missed[0]}", "forward, and what init marks"
            )


def merges_to_its_forward(method: Method) -> None:
    """The merged plain maps compute what the adapted ones compute."""
    require_formula(method)
    for rig in rigs(method):
        rig.steps(2)
        adapted = rig.logits()
        rig.attachment.merge()
        require_close(rig.logits(), adapted, "merged outputs equal to forward's", "merge, against forward")


def prints_nothing(method: Method) -> None:
    """Attaching and training write nothing to standard output, which belongs to the commands."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        for rig in rigs(method):
            if rig.trainable:
                rig.steps(1)
    if written.getvalue():
        line = written.getvalue().split("\n")[0][:60]
        raise Broken("nothing on standard output", f"'{line}'", "print: use the logging module")


def detaches_without_trace(method: Method) -> None:
    """Detached, the backbone has its own bits back."""
    require_formula(method)
    for rig in rigs(method):
        before = new_model(rig.backbone).state_dict()
        rig.steps(2)
        rig.attachment.detach()
        after = rig.model.state_dict()
        if set(after) != set(before):
            raise Broken("the backbone's own tensors", f"{sorted(set(after) ^ set(before))[0]}", "attach")
        changed = [
            name for name in before if not name.startswith(rig.head) and not torch.equal(after[name], before[name])
        ]
        if (rig.head and changed) or (not rig.head and changed):
            raise Broken("the backbone's own bits", f"{changed[0]} changed", "in-place changes of the weight in init")


def counts_what_it_trains(method: Method) -> None:
    """`count` says how many scalars are trained, on a model and for maps of any shape."""
    linear = require_formula(method)
    for shape in SHAPES:
        declared = linear.count(*shape)
        if declared is None:
            raise NotApplicable("the count depends on the weights' values")
        made = one_map(linear, shape)
        counted = sum(made.tensors[name].numel() for name in made.trainable)
        if counted != declared:
            raise Broken(f"count{shape} = {counted}, what init makes trainable", str(declared), "count")
    for rig in rigs(method):
        maps = [rig.attachment.adapted(name).base for name in rig.attachment.originals]
        declared = sum(linear.count(m.out_features, m.in_features) or 0 for m in maps)
        biases = sum(m.bias.numel() for m in maps if linear.bias and m.bias is not None)
        counted = count_parameters(rig.model, rig.head).adapter
        if counted != declared + biases:
            raise Broken(f"{counted} adapter parameters, as counted", str(declared + biases), "count")


def survives_a_round_trip(method: Method) -> None:
    """Stored tensors, loaded into a fresh attachment, give the same bits of output."""
    from safetensors.torch import load, save

    for rig in _training_rigs(method):
        rig.steps(2)
        content = save({name: value.contiguous() for name, value in rig.attachment.stored_tensors().items()})
        other = attach(method, rig.backbone)
        places = dict(other.model.named_parameters()) | dict(other.model.named_buffers())
        with torch.no_grad():
            for name, value in load(content).items():
                places[name].copy_(value)
        if not torch.equal(other.logits(), rig.logits()):
            raise Broken("the same bits after loading", "other outputs", "state outside tensors; Frozen(stored=True)")


def leaves_global_randomness(method: Method) -> None:
    """Attaching neither draws from nor reseeds the generators of torch, NumPy and Python."""
    torch.rand(1), np.random.random(), random.random()  # off any state that the method could reseed to
    before = _global_states()
    for _ in rigs(method):
        for library, state in _global_states().items():
            if state != before[library]:
                raise Broken(f"{library}'s global generator as it was", "another state", "init: use context.generator")


def _global_states() -> dict[str, object]:
    numpy_state = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state().tolist(),
        "NumPy": str(numpy_state),
        "Python": random.getstate(),
    }


def trains_under_bf16(method: Method) -> None:
    """Under bfloat16 autocast losses and gradients are finite and trainable tensors stay float32."""
    for rig in _training_rigs(method):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = rig.model(**batch(rig.backbone)).loss
        loss.backward()
        wrong = [name for name, value in rig.trainable.items() if value.dtype != torch.float32]
        if wrong:
            raise Broken("trainable tensors in float32", f"{wrong[0]} is {rig.trainable[wrong[0]].dtype}", "init")
        gradients = [value.grad for value in rig.trainable.values() if value.grad is not None]
        if not torch.isfinite(loss) or not all(torch.isfinite(gradient).all() for gradient in gradients):
            raise Broken("finite loss and gradients", "inf or nan", "forward: divisions and norms in bfloat16")


CHECKS: tuple[Check, ...] = (
    maps.keeps_shape,
    works_on_encoder,
    works_on_decoder,
    starts_as_backbone,
    moves_what_it_declares,
    leaves_the_rest_alone,
    reaches_every_tensor,
    merges_to_its_forward,
    maps.exports_what_it_adds,
    detaches_without_trace,
    counts_what_it_trains,
    survives_a_round_trip,
    maps.follows_its_seed,
    leaves_global_randomness,
    prints_nothing,
    trains_under_bf16,
    maps.runs_under_vmap,
)
"""In the order in which they are run. A check's name is its function's."""


def _training_rigs(method: Method) -> list[Rig]:
    found = [rig for rig in rigs(method) if rig.trainable]
    if not found:
        raise NotApplicable("it trains nothing")
    return found


def _state(rig: Rig) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in rig.model.state_dict().items()}
