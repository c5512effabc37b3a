"""A linear layer as the product of two narrow ones."""

from __future__ import annotations

from torch import Tensor, nn

from edgedistill.models.structure.surgery import linear_of
from edgedistill.models.students.bert_blocks import factorise


class LowRankLinear(nn.Module):
    """``y = left(right(x))``: ``[…, in]`` to ``[…, out]`` by way of ``rank`` numbers."""

    def __init__(self, right: nn.Linear, left: nn.Linear) -> None:
        super().__init__()
        self.right: nn.Linear = right
        self.left: nn.Linear = left

    @classmethod
    def of(cls, linear: nn.Linear, rank: int) -> LowRankLinear:
        """The nearest product of this rank: its squared error is the sum of the squared singular
        values that are left out (Eckart and Young 1936)."""
        left, right = factorise(linear.weight.detach(), rank)
        return cls(linear_of(right.T, None), linear_of(left, linear.bias))

    @property
    def rank(self) -> int:
        """Width between the two."""
        return self.right.out_features

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = self.left(self.right(states))
        return result
