"""Count a network's multiply-adds while it runs, without torch's compiler.

torch's own FlopCounterMode, like every operation on the meta device, imports torch._dynamo: 2 s and 150 MB in each
worker just to fill in a model's card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_UNCOUNTED = frozenset(
    {"addmm", "baddbmm", "bilinear", "conv1d", "conv3d", "einsum", "scaled_dot_product_attention", "tensordot"}
)


class MultiplyAdds(TorchFunctionMode):
    """Counts the multiply-adds of convolutions, linear layers and matrix products run inside its context."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        """Multiply-adds so far."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name in _UNCOUNTED:
            raise NotImplementedError(f"{name} is not counted: add its formula here, or the card would be too low")
        count = _FORMULAS.get(name)
        if count is not None:
            self.total += count(args, result)
        return result


_FORMULAS: dict[str, Callable[[Sequence[Any], Tensor], int]] = {
    # A filter has shape (channels of a group, rows, columns); each output value is one product with it.
    "conv2d": lambda args, result: result.numel() * args[1][0].numel(),
    # Transposed, each input value is.
    "conv_transpose2d": lambda args, _: args[0].numel() * args[1][0].numel(),
    "linear": lambda args, result: result.numel() * args[1].shape[-1],
    **dict.fromkeys(("matmul", "mm", "bmm"), lambda args, result: result.numel() * args[0].shape[-1]),
}
