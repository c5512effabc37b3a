"""One way to build the whole system: schemes, cache and parts, with its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedistill.sizing.memory import Memory, peak
from edgedistill.sizing.network import Network
from edgedistill.sizing.parts import Part
from edgedistill.sizing.schemes import Scheme, Sized


@dataclass(frozen=True)
class Combination:
    """A system with every choice made.

    `disk_bytes` is exact but for what the plan names as not counted; `memory`, its working part,
    is a model.
    """

    scheme: str
    precision: str | None
    """Of the cache; None: an encoder has none."""
    context: int
    num_blocks: int
    bits_per_weight: float
    """Of the model's own file."""
    parts: tuple[Part, ...]
    memory: Memory

    @property
    def disk_bytes(self) -> int:
        """Bytes of all files."""
        return sum(part.size_bytes for part in self.parts)


@dataclass
class System:
    """A model and what comes with it; sizes in each scheme are worked out once.

    `draft`: a smaller model that proposes tokens, in `draft_scheme`, or in the model's own.
    """

    network: Network
    draft: Network | None = None
    draft_scheme: Scheme | None = None
    others: tuple[Part, ...] = ()
    _sized: dict[tuple[str, str], Sized] = field(default_factory=dict)

    def sized(self, network: Network, scheme: Scheme, key: str) -> Sized:
        """The network in the scheme."""
        if (key, scheme.name) not in self._sized:
            self._sized[key, scheme.name] = scheme.store(network)
        return self._sized[key, scheme.name]

    def refusal(self, scheme: Scheme) -> str | None:
        """Why the system cannot be stored with the model in `scheme`, as the end of a sentence
        that begins with the scheme; None: it can."""
        own = scheme.refuses(self.network)
        if own is not None or self.draft is None or self.draft_scheme is not None:
            return own
        of_draft = scheme.refuses(self.draft)
        return None if of_draft is None else f"is the draft's too, and {of_draft}"

    def combination(self, scheme: Scheme, precision: str, context: int) -> Combination:
        """The whole system with the model in `scheme`; raises SpecError as `peak` does."""
        network = self.network
        own = self.sized(network, scheme, "model").size_bytes
        parts = [Part("model", scheme.name, network.num_parameters, own)]
        memory = [peak(network, own, context, precision)]
        if self.draft is not None:
            chosen = self.draft_scheme or scheme
            size = self.sized(self.draft, chosen, "draft").size_bytes
            parts.append(Part("draft", chosen.name, self.draft.num_parameters, size))
            memory.append(peak(self.draft, size, context, precision))
        beside = sum(part.size_bytes for part in self.others)
        return Combination(
            scheme=scheme.name,
            precision=precision if network.is_causal else None,
            context=context,
            num_blocks=network.num_blocks,
            bits_per_weight=8 * own / network.num_parameters,
            parts=(*parts, *self.others),
            memory=Memory(
                sum(each.weights_bytes for each in memory) + beside,
                sum(each.cache_bytes for each in memory),
                # One of the two computes at a time.
                max(each.working_bytes for each in memory),
            ),
        )
