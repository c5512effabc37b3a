"""The sizes that a specification of an 890-MB system claims, each against exact arithmetic.

The specification: "Cogumi-LLM", 13 November 2025, whose lines are cited. It promises Llama-3.1-8B
with a draft model, adapters, a router and parts for meta-learning in 890 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.cache import cache_bytes
from edgedistill.sizing.config_file import read_config
from edgedistill.sizing.memory import working_bytes
from edgedistill.sizing.parts import Adapters, adapters, router
from edgedistill.sizing.schemes import scheme, schemes_for

#: How far a rounded figure may be from the exact one and still be right.
TOLERANCE = 0.05
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = MODULES[:4]
PARTS = (540, 140, 145, 17, 12, 36)


@dataclass(frozen=True)
class Claim:
    """One line.

    Args:
        lines: where it stands.
        says: what it says.
        value: the exact figure, or what the claim would require, in `unit`.
        bar: what `value` would have to be.
        stands: whether it is so.
        reason: the arithmetic in words.
    """

    lines: str
    says: str
    value: float
    unit: str
    bar: str
    stands: bool
    reason: str


class Claims:
    """All claims, worked out of the config of Llama-3.1-8B and of the draft's."""

    def __init__(self) -> None:
        self.model = network_of(read_config("llama-3.1-8b"))
        self.draft = network_of(read_config("tinyllama-1.1b"))
        self.weights = self.model.num_parameters
        self.least = min(
            (each.store(self.model).size_bytes, each.name) for each in schemes_for(self.model)
        )

    def all(self) -> list[Claim]:
        """In the order of what they are about: weights, parts, memory, training."""
        return [
            *self._weights(), *self._compression(), *self._parts(), *self._memory(),
            *self._training(),
        ]  # fmt: skip

    def _bits(self, megabytes: float, parameters: int) -> float:
        return megabytes * 8e6 / parameters

    def _near(self, claimed: float, exact: float) -> bool:
        return abs(claimed / exact - 1) <= TOLERANCE

    def _weights(self) -> list[Claim]:
        size, name = self.least
        least = 8 * size / self.weights
        whole = scheme("bf16").store(self.model).size_bytes
        return [
            Claim("26, 822, 840", "Llama-3.1-8B has 8.3 B parameters", self.weights / 1e9, "B",
                  "8.3", round(self.weights / 1e9, 1) == 8.3,
                  f"{self.weights:,} of them: rounded, 8.0 B"),
            Claim("527, 1043", "its weights in BF16: 16 GB", whole / 1e9, "GB", "16",
                  self._near(16, whole / 1e9), f"{whole:,} bytes"),
            Claim("297", "base and adapters after training: about 14 GB",
                  self._bits(14_000, self.weights), "bits a weight", "≥ 16", False,
                  "BF16, which it is trained in, takes 16 bits, and the adapters come on top"),
            Claim("5, 27", "the whole system in 890 MB", self._bits(890, self.weights),
                  "bits a weight", f"≥ {least:.2f}", False,
                  "if all of it were the base's; the smallest scheme that this program counts, "
                  f"{name}, takes {size / 1e6:,.0f} MB"),
            Claim("29", "the base model in 540 MB", self._bits(540, self.weights),
                  "bits a weight", f"≥ {least:.2f}", False,
                  f"a single bit for each weight would take {self.weights / 8e6:,.0f} MB"),
        ]  # fmt: skip

    def _compression(self) -> list[Claim]:
        awq = scheme("awq_g128").store(self.model)
        by_role = awq.by_role()
        linear = [each.num_weights for each in self.model.tensors
                  if each.role in ("attention", "mlp")]  # fmt: skip
        own = 8 * (by_role["attention"] + by_role["mlp"]) / sum(linear)
        pruned = 2.9e9
        return [
            Claim("368", "AWQ, 4 bits, group 128: 8.3 B parameters in 1.2 GB",
                  self._bits(1200, self.weights), "bits a weight", f"≥ {own:.2f}", False,
                  f"scales and zeros included a weight takes {own:.5f} bits: "
                  f"{awq.size_bytes / 1e9:.2f} GB as AutoAWQ writes it, tables in FP16, and "
                  f"{scheme('int4_g128').store(self.model).size_bytes / 1e9:.2f} GB with the "
                  "tables in 4 bits too"),
            Claim("360 with 368", "the pruned 2.9 B parameters in those 1.2 GB",
                  self._bits(1200, int(pruned)), "bits a weight", f"≥ {own:.2f}", False,
                  f"2.9 B take {pruned * own / 8e9:.2f} GB"),
            Claim("360 with 29", "the pruned 2.9 B parameters in 540 MB",
                  self._bits(540, int(pruned)), "bits a weight", f"≥ {own:.2f}", False,
                  f"at {own:.2f} bits 540 MB hold {540 * 8e6 / own / 1e9:.2f} B parameters: "
                  f"{1 - 540 * 8e6 / own / self.weights:.0%} would have to go, not 65 %"),
            Claim("360", "65 % sparsity takes 6.5 B to 2.9 B", 100 * (1 - 2.9 / 6.5), "%", "65",
                  False, f"2.9 of 6.5 is 55 % less; 65 % less is {6.5 * 0.35:.2f} B, and of "
                  f"{self.weights / 1e9:.2f} B it is {self.weights * 0.35 / 1e9:.2f} B"),
        ]  # fmt: skip

    def _parts(self) -> list[Claim]:
        least, name = min(
            (each.store(self.draft).size_bytes, each.name) for each in schemes_for(self.draft)
        )
        bits = self._bits(140, self.draft.num_parameters)
        rank_64 = adapters(self.model, Adapters(64, MODULES, count=3, kind="fp16"))
        rank = max(
            each for each in range(1, 65)
            if adapters(self.model, Adapters(each, MODULES, 3)).size_bytes <= 145e6
        )  # fmt: skip
        routed = router((768, 256, 128, 32))
        head = adapters(self.model, Adapters(64, ("lm_head",), kind="fp16"))
        return [
            Claim("29–34", "the parts add up to 890 MB", sum(PARTS), "MB", "890",
                  sum(PARTS) == 890, " + ".join(map(str, PARTS))),
            Claim("30, 265", "a draft model (TinyLlama-1.1B) in 140 MB", bits, "bits a weight",
                  f"≥ {8 * least / self.draft.num_parameters:.2f}", False,
                  f"{self.draft.num_parameters:,} parameters; {name} takes {least / 1e6:,.0f} MB. "
                  f"It has {self.draft.widths.vocabulary:,} tokens and the base "
                  f"{self.model.widths.vocabulary:,}, so that plain speculative decoding cannot "
                  "use it at any size"),
            Claim("328", "the draft after training: about 1 GB",
                  self._bits(1000, self.draft.num_parameters), "bits a weight", "≥ 16", False,
                  "BF16, which it is published in, takes "
                  f"{scheme('bf16').store(self.draft).size_bytes / 1e9:.2f} GB"),
            Claim("31, 269", "three domain modifiers of rank 64 in 145 MB",
                  self._bits(145, rank_64.num_parameters), "bits a weight", "≥ 4", False,
                  f"in FP16 they take {rank_64.size_bytes / 1e6:,.0f} MB; 145 MB hold three of "
                  f"rank {rank}"),
            Claim("32, 345", "a router of 768 → 256 → 128 → 32 in 17 MB", routed.size_bytes / 1e6,
                  "MB", "≤ 17", routed.size_bytes <= 17e6,
                  f"{routed.num_parameters:,} parameters in FP32: a part of it suffices"),
            Claim("33, 859", "meta-learning in 12 MB, taken as the head's adapter of rank 64",
                  self._bits(12, head.num_parameters), "bits a weight", "≥ 8",
                  self._bits(12, head.num_parameters) >= 8,
                  f"{head.num_parameters:,} parameters: {head.size_bytes / 1e6:.1f} MB in FP16, "
                  "within 12 in eight bits"),
        ]  # fmt: skip

    def _memory(self) -> list[Claim]:
        left = 1210e6 - 890e6
        token = cache_bytes(self.model, 4096, "q4_0") / 4096
        work = working_bytes(self.model, 512)
        tokens = (left - work) / token
        shrunk = cache_bytes(self.model, 4096, "f16") / cache_bytes(self.model, 4096, "q4_0")
        reserved = cache_bytes(self.model, 8 * 2048, "f16")
        return [
            Claim("39", "1.21 GB at the peak, cache included", tokens, "tokens", "≥ 2048", False,
                  f"beside 890 MB of weights stay 320 MB, of which computing takes about "
                  f"{work / 1e6:.0f}; at 4.5 bits a token's keys and values take "
                  f"{token:,.0f} bytes. The draft's cache is not counted yet"),
            Claim("350", "keys and values in INT4: a cache 4 times smaller", shrunk, "×", "4",
                  self._near(4, shrunk), "four bits and a scale each 32 numbers are 4.5"),
            Claim("1050, 854", "cache while training: about 2 GB", reserved / 1e9, "GB", "2",
                  self._near(2, reserved / 2**30), "8 texts of 2,048 tokens, in F16: "
                  f"{reserved / 2**30:.2f} GiB"),
        ]  # fmt: skip

    def _training(self) -> list[Claim]:
        attention = adapters(self.model, Adapters(64, ATTENTION)).num_parameters
        everything = adapters(self.model, Adapters(64, MODULES)).num_parameters
        head = adapters(self.model, Adapters(64, ("lm_head",))).num_parameters
        return [
            Claim("493, 501", "rank 64 on 4096 × 4096: 524 K of 16 M, 97 % less",
                  100 * (1 - 64 * 8192 / 4096**2), "%", "97", True,
                  "524,288 of 16,777,216"),
            Claim("532, 598, 605", "adapters of rank 64 on attention: about 50 M",
                  attention / 1e6, "M", "50", abs(attention / 50e6 - 1) <= 2 * TOLERANCE,
                  f"{attention:,}; keys and values are narrower than queries"),
            Claim("827, 841", "adapters of rank 64 on all seven modules: 62 M", everything / 1e6,
                  "M", "62", self._near(62, everything / 1e6),
                  f"{everything:,}; 62 M are rank {62e6 / everything * 64:.0f}"),
            Claim("1044", "their weights, all 62 M: about 500 MB", 500e6 / 62e6,
                  "bytes a weight", "≤ 4", False,
                  f"FP32 takes 4: 248 MB for 62 M, {4 * everything / 1e6:,.0f} MB for all"),
            Claim("828, 859, 1045", "the head's adapter of rank 64: about 32 K parameters",
                  head / 1e3, "K", "32", False,
                  f"64 × (4,096 + 128,256) = {head:,}; {4 * head / 1e6:.1f} MB in FP32"),
            Claim("535", "AdamW's state of 50 M parameters: 800 MB", 2 * 4 * 50, "MB", "800",
                  False, "two FP32 numbers each: 400 MB"),
            Claim("1049", "AdamW's state of 62 M parameters: about 1 GB", 2 * 4 * 62, "MB",
                  "1000", False, f"496 MB; of all seven modules {8 * everything / 1e6:,.0f} MB"),
        ]  # fmt: skip


def fitting(megabytes: float, names: list[str]) -> list[tuple[str, str, float, float]]:
    """For each model the finest scheme within the size: (name, scheme, bits a weight, MB)."""
    found = []
    for name in names:
        network = network_of(read_config(name))
        sized = [(each.store(network).size_bytes, each.name) for each in schemes_for(network)]
        within = [each for each in sized if each[0] <= megabytes * 1e6]
        if within:
            size, best = max(within)
            found.append((name, best, 8 * size / network.num_parameters, size / 1e6))
    return found
