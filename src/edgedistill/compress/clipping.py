"""Steps of groups that suit an output best: what a group's largest weight loses, the others gain.

The clipping of AWQ (Lin et al. 2024, MLSys, and the code beside it): a group's range is shrunk by
the share that leaves the least error of the layer's output. That error is exact here: it counts
what the output's other groups are off by, so that no choice makes an output worse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgedistill.compress.blocks import Blocks, codes_of, in_groups

#: What is tried of the step that ends at a group's largest weight, plain rounding first. Negative:
#: the side of that weight is the one with a step less.
_SIZES = np.arange(1.1, 0.495, -0.01)
SHARES = (1.0, *(float(share) for share in np.concatenate([_SIZES, -_SIZES])))


def clipped(values: np.ndarray, blocks: Blocks, gram: np.ndarray) -> Blocks:
    """`blocks` with the best of `SHARES` for every output and group, one group after the other.

    Args:
        values: float32 [in, out], of which `blocks` are the plain rounding.
        gram: float64 [in, in], second moments of what `values` are multiplied with.
    """
    groups, scales = in_groups(values), blocks.scales.copy()
    num_groups, size = groups.shape[1:]
    filled = num_groups * size - blocks.width
    # Single precision does for sums of squares, and the products are large.
    gram = np.pad(gram.astype(np.float32), (0, filled))

    def off(group: int, steps: np.ndarray) -> np.ndarray:
        """What a group's weights are off by at a step an output, [out, size]."""
        codes = codes_of(groups[:, group], steps[:, None], blocks.bits).astype(np.float32)
        signed = codes - 2 ** (blocks.bits - 1)
        return np.asarray(signed * steps[:, None] - groups[:, group])

    wrong = np.concatenate([off(group, scales[:, group]) for group in range(num_groups)], axis=1)
    for group in range(num_groups):
        part = slice(group * size, (group + 1) * size)
        wrong[:, part] = 0
        # Twice what the other groups are off by, as this group's inputs meet it.
        others = 2 * wrong @ gram[:, part]
        least = np.full(len(scales), np.inf)
        for share in SHARES:
            steps = blocks.scales[:, group] * np.float32(share)
            tried = off(group, steps)
            added = np.einsum(
                "oi,oi->o", tried, tried @ gram[part, part] + others, dtype=np.float64
            )
            better = added < least
            scales[better, group], least[better] = steps[better], added[better]
        wrong[:, part] = off(group, scales[:, group])
    return replace(blocks, codes=codes_of(groups, scales[..., None], blocks.bits), scales=scales)
