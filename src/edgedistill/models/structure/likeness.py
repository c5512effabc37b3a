"""How alike two sets of states are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_cosine(first: Tensor, second: Tensor) -> float:
    """Mean over the tokens of the cosine of their states; ``[n, h]`` twice, in [-1, 1].

    One minus it is the "block influence" of the layer between (Men et al. 2024, arXiv 2403.03853,
    equation 1).
    """
    return float(F.cosine_similarity(first.double(), second.double(), dim=1).mean())


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of ``[n, p]`` and ``[n, q]``, in [0, 1].

    Kornblith et al. 2019, arXiv 1905.00414, section 3; 0 where one of them does not vary.
    """
    x, y = (states.double() - states.double().mean(0) for states in (first, second))
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    if own == 0:
        return 0.0
    return float(torch.linalg.matrix_norm(x.T @ y).square() / own)
