"""Whatever stands in a config.json: it is planned, or refused in words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.core.errors import EdgeDistillError
from edgedistill.sizing.architectures.catalogue import ARCHITECTURES, network_of
from edgedistill.sizing.config_file import known_names, parsed, read_config
from edgedistill.sizing.memory import peak
from edgedistill.sizing.schemes import schemes_for

CONFIGS = {name: dict(read_config(name).values) for name in known_names()}
KEYS = sorted({key for values in CONFIGS.values() for key in values} | {
    "head_dim", "layer_types", "rope_scaling", "rope_parameters", "num_experts", "id2label",
    "num_local_experts", "quantization_config", "tie_word_embeddings", "n_inner", "dtype",
    "embedding_size", "position_buckets", "conv_kernel_size", "use_sliding_window", "num_labels",
    "mlp_only_layers", "decoder_sparse_step", "relative_attention", "share_att_key",
})  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.integers(), st.floats(),
    st.text(max_size=5), st.lists(st.text(max_size=9), max_size=3),
    st.sampled_from(sorted(ARCHITECTURES)), st.dictionaries(st.text(max_size=9), st.integers()),
)  # fmt: skip


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(CONFIGS)), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_a_changed_config_is_planned_or_refused_in_words(
    name: str, changes: dict[str, Any]
) -> None:
    values = CONFIGS[name] | {"num_hidden_layers": 2, "n_layer": 2, "n_layers": 2} | changes
    refusal = None
    try:
        network = network_of(parsed(json.dumps(values), where="changed"))
    except EdgeDistillError as error:
        refusal = error
    if refusal is not None:
        assert refusal.where == "changed"
        assert refusal.fix
        return
    assert network.num_parameters > 0
    assert len({tensor.name for tensor in network.tensors}) == len(network.tensors)
    for scheme in schemes_for(network):
        sized = scheme.store(network)
        assert sized.size_bytes >= sum(sized.by_role().values()) > 0
        assert peak(network, sized.size_bytes, 100, "q4_0").peak_bytes > sized.size_bytes
