"""Everything that a plugin may import: methods, linear methods, tasks, and what they are handed.

A *method* adapts a backbone; a *task* brings data, encoding and score. Both are plugins: a file in
`methods/` or `tasks/`, an installed entry point, or a file given with `--plugin`. Every concrete subclass
of `Method` or `Task` that a plugin file defines is found; nothing is registered by hand.

Importing this package does not import torch: listing methods and tasks must stay fast.
"""

from __future__ import annotations

from harness.api.checks import check_at_least, check_choice, check_fraction, check_rank, require
from harness.api.families import MethodFamily, TaskFamily
from harness.api.later import later, settings_of
from harness.api.methods import (
    AttachContext,
    Baseline,
    Common,
    Decompositions,
    Frozen,
    GradientRequest,
    InitContext,
    LinearMethod,
    Method,
    ParameterGroup,
    Parameters,
    Trainable,
    kaiming_uniform,
    parameters_of,
)
from harness.api.tasks import DataRoot, GenerationTask, HubSource, Kind, Task, Text

__all__ = [
    "AttachContext",
    "Baseline",
    "Common",
    "DataRoot",
    "Decompositions",
    "Frozen",
    "GenerationTask",
    "GradientRequest",
    "HubSource",
    "InitContext",
    "Kind",
    "LinearMethod",
    "Method",
    "MethodFamily",
    "ParameterGroup",
    "Parameters",
    "Task",
    "TaskFamily",
    "Text",
    "Trainable",
    "check_at_least",
    "check_choice",
    "check_fraction",
    "check_rank",
    "kaiming_uniform",
    "later",
    "parameters_of",
    "require",
    "settings_of",
]
