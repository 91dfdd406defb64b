"""Which operators an exported program may call: those of PyTorch that compute with tensors."""

from __future__ import annotations

import re
from functools import cache

import torch

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision)\.(\w+)\.(\w+)")
_VISION = frozenset("deform_conv2d nms ps_roi_align ps_roi_pool roi_align roi_pool".split())
_HIGHER = frozenset(
    "associative_scan checkpoint cond map map_impl scan tag_activation_checkpoint while_loop wrap wrap_with_autocast "
    "wrap_with_set_grad_enabled".split()
)
_FUNCTIONS = frozenset(
    [f"_operator.{name}" for name in (
        "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lshift", "lt", "mod", "mul", "ne", "neg", "or_",
        "pos", "pow", "rshift", "sub", "truediv",
    )]
    + [f"torch.sym_{name}" for name in ("float", "int", "ite", "max", "min", "not", "sqrt")]
    + ["math.trunc", "math.ceil", "math.floor"]
    + [f"torch._functorch.predispatch.{name}" for name in (
        "_add_batch_dim", "_remove_batch_dim", "_vmap_increment_nesting", "_vmap_decrement_nesting",
    )]
)  # fmt: skip
_REFUSED = re.compile(
    r"from_file|save|set_|set_data|set|record_stream|_print|_test_\w*|_cufft_\w*|_linalg_check_errors|resize\w*"
    r"|_?unsafe_\w*|\w*_unsafe(_\w*)?|quantized_\w*"
)
"""Of aten: what touches files, streams and storages, or leaves out the checks of bounds."""
_UNSAFE_BY_NAME_ALONE = frozenset(("_unsafe_view", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"))
"""They may not be written into, that is all."""


def is_allowed(target: str) -> bool:
    """Whether it is an operator on tensors or sizes, by the name that torch.export writes."""
    if target in _FUNCTIONS:
        return True
    if target.startswith("torch.ops.higher_order."):
        return target.removeprefix("torch.ops.higher_order.") in _HIGHER
    match = _OPERATOR.fullmatch(target)
    if match is None:
        return False
    space, name, overload = match.groups()
    if space == "torchvision":
        return name in _VISION
    if _REFUSED.fullmatch(name) and name not in _UNSAFE_BY_NAME_ALONE:
        return False
    return f"{space}::{name}" + ("" if overload == "default" else f".{overload}") in _known()


@cache
def _known() -> frozenset[str]:
    """Of the dispatcher. TorchScript has more under ``aten``, such as one that writes files."""
    return frozenset(torch._C._dispatch_get_all_op_names())
