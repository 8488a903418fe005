"""The prompt that instruction-tuned tasks share: the one of Alpaca, which LLM-Adapters and MetaMath took over.

Source  Hu et al. 2023, "LLM-Adapters", arXiv:2304.01933, `generate_prompt` of its code. There the lines after the
        first are indented by accident of a Python string; here, as in Alpaca itself, they are not.
"""

from __future__ import annotations

_ALONE = "Below is an instruction that describes a task."
_WITH_INPUT = "Below is an instruction that describes a task, paired with an input that provides further context."
_WISH = "Write a response that appropriately completes the request."

RESPONSE = "### Response:\n"
"""Ends the prompt; what follows is the answer."""
STOP = ("### Instruction:", "### Response:")
"""A model that goes on to a next exercise has finished its answer."""


def instruction_prompt(instruction: str, further: str = "") -> str:
    """The prompt of one exercise; `further` is its input, if the instruction alone does not say all."""
    if further:
        middle = f"### Instruction:\n{instruction}\n\n### Input:\n{further}\n\n"
        return f"{_WITH_INPUT} {_WISH}\n\n{middle}{RESPONSE}"
    return f"{_ALONE} {_WISH}\n\n### Instruction:\n{instruction}\n\n{RESPONSE}"
