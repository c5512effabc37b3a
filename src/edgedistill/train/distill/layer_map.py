"""Which layer of the student learns from which layer of the teacher."""

from __future__ import annotations

from edgedistill.core.errors import SpecError
from edgedistill.core.strategies import LayerMap


def layer_pairs(
    layers: LayerMap, num_student: int, num_teacher: int
) -> tuple[tuple[int, int], ...]:
    """Pairs (the student's layer, the teacher's), both counted from 0.

    `uniform`: layer i of S learns from the layer that lies as deep among the teacher's T,
    ⌊(i + 1) T / S⌋ - 1 (PKD-Skip of Sun et al. 2019, arXiv 1908.09355, and TinyBERT, Jiao et al.
    2019, arXiv 1909.10351, where S divides T); a student deeper than its teacher learns twice from
    some. `deepest`: from the teacher's last S in order (PKD-Last of the same). `last`: the last
    layer of each alone (MiniLM, Wang et al. 2020, arXiv 2002.10957).

    Raises:
        SpecError: a pair names a layer that does not exist, or names one twice.
    """
    if layers == "uniform":
        deep = [(i + 1) * num_teacher // num_student - 1 for i in range(num_student)]
        return tuple((i, max(0, layer)) for i, layer in enumerate(deep))
    if layers == "deepest":
        first = num_teacher - num_student
        return tuple((i, max(0, first + i)) for i in range(num_student))
    if layers == "last":
        return ((num_student - 1, num_teacher - 1),)
    for whose, place, num in (("student", 0, num_student), ("teacher", 1, num_teacher)):
        missing = [pair[place] for pair in layers if pair[place] >= num]
        if missing:
            raise SpecError(
                f"layers: the {whose} has no layer {missing[0]}, its {num} are counted from 0",
                fix=f"the last is {num - 1}",
            )
    if len(set(layers)) != len(layers):
        raise SpecError("layers: a pair stands twice", fix="give each pair once")
    return tuple(layers)
