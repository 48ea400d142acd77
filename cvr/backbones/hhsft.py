"""HHSFT: tokens that attend with projections of their own, then all together, and experts of domains (UniScale, 2603.24226; PAPERS 3.9)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.backbones._tokens import TokenBackbone, check_factors
from cvr.layers.domain_attention import DomainAttention
from cvr.layers.domain_experts import DomainExperts
from cvr.layers.domain_routing import DomainRouting
from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.fusion_block import FusionBlock
from cvr.layers.global_attention import GlobalAttention
from cvr.layers.heterogeneous_attention import HeterogeneousAttention
from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.pooling import POOLINGS, pool, pooled_width


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: d_model, sequence length, layers of HFA and of GFA, heads, ffn_dim, width of the experts and of the gate's view.

    A `head_width` of 0 is the model width, for every head; a `global_rank` of 0 the full matrix. `domain_experts` is DREF,
    `domain_attention` DAPGA; without both there is the shared expert alone.
    """

    model_width: int = 32
    tokens: int = 16
    layers: int = 2
    global_layers: int = 1
    heads: int = 2
    ffn_width: int = 128
    head_width: int = 0
    global_rank: int = 128
    token_layers: int = 1
    activation: str = "gelu"
    pooling: str = "flatten"
    domain_experts: bool = True
    domain_attention: bool = True
    domain_width: int = 128
    gate_width: int = 64

    def __post_init__(self) -> None:
        zero = ("layers", "global_layers", "head_width", "global_rank", "token_layers")
        check_factors(self, zero, activation=tuple(ACTIVATIONS), pooling=POOLINGS)

    @property
    def routes_by_domain(self) -> bool:
        """Whether a sample's domain decides what it reads and trains."""
        return self.domain_experts or self.domain_attention


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "ffn_width": 64, "global_rank": 32, "domain_width": 64, "gate_width": 32},
    "M": {"model_width": 32, "tokens": 16},
    "L": {"model_width": 64, "tokens": 32, "ffn_width": 256, "global_rank": 256, "domain_width": 512, "gate_width": 256},
    "XL": {
        "model_width": 128, "tokens": 32, "layers": 4, "ffn_width": 512, "global_rank": 512, "domain_width": 1024, "gate_width": 512,
    },
}  # fmt: skip


DOMAIN_AXES = {
    **{f"_experts/{name}": 0 for name in ("up", "up_bias", "down", "down_bias")},
    "_attention/gate_bias": 1,
}
"""Variables that have a part for each domain, by their path in the backbone: the axis on which the parts stand, in their order."""

class Backbone(TokenBackbone):
    """z = pool(LN(G( .. H_2(H_1(tokens(x0))))), hidden = DREF(z) + DAPGA(z): layers H_i of HFA, G of GFA, then D domains' experts.

    Without DREF hidden begins with f_s(z), without DAPGA it ends there. `views["domain"]`, int32 `[N]`, is each item's domain; with one
    domain nothing reads it.
    """

    def __init__(self, config: Config, domains: int = 1, **kwargs: object) -> None:
        super().__init__(config, _blocks(config), **kwargs)
        self.domains = domains
        self._norm = tf.keras.layers.LayerNormalization(name="norm")
        self._shared = DomainExperts(1, config.domain_width, name="shared_expert")
        self._experts = DomainExperts(domains, config.domain_width, name="domain_experts") if config.routes_by_domain else None
        self._routing = DomainRouting(name="domain_routing") if config.domain_experts else None
        self._attention = DomainAttention(domains, name="domain_attention") if config.domain_attention else None

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `tokens`, as wide as all tokens together, and with DAPGA `gate`, what its gate reads."""
        return {**super().views, **({"gate": self.config.gate_width} if self._attention else {})}

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return self.config.domain_width

    def parts(self) -> dict[str, int]:
        """Multiply-adds per item of the layers that make the tokens, of both kinds of layers over them, and of the experts' parts."""
        length, width = self.config.tokens, self.config.model_width
        pooled = pooled_width(self.config.pooling, length, width)
        found = {"tokens": self._tokens.multiply_adds(length * width)}
        for block in self._blocks:
            kind = "heterogeneous" if isinstance(block.attention, HeterogeneousAttention) else "global"
            found[kind] = found.get(kind, 0) + block.multiply_adds(length, width)
        found["shared_expert"] = self._shared.multiply_adds(pooled)
        if self._experts:
            found["domain_experts"] = self._experts.multiply_adds(pooled)
        if self._routing:
            found["domain_routing"] = self._routing.multiply_adds(pooled)
        if self._attention:
            found["domain_attention"] = self._attention.multiply_adds(self.config.domain_width, self.config.gate_width)
        return found

    def call(self, views: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """{tokens: `[N, T d]`, gate: `[N, U]`, domain: int32 `[N]`} -> `[N, E]`."""
        tokens = self._norm(self.interact(self._tokens(views["tokens"]), training))
        pooled = pool(tokens, self.config.pooling)
        hidden = self._shared(pooled)[:, 0]
        if self._experts is None:
            return hidden
        domain = views["domain"] if self.domains > 1 else tf.zeros_like(pooled[:, 0], tf.int32)
        experts = self._experts(pooled)
        if self._routing:
            hidden = self._routing((pooled, hidden, experts, domain))
        return hidden + self._attention((experts, views["gate"], domain)) if self._attention else hidden


def _blocks(config: Config) -> list[FusionBlock]:
    """The layers over tokens: those of HFA, then those of GFA."""
    sizes = (config.heads, config.head_width or config.model_width)

    def ffn() -> PerTokenFFN:
        return PerTokenFFN(config.ffn_width, config.activation, name="ffn")

    own = [FusionBlock(HeterogeneousAttention(*sizes, name="attention"), ffn(), name=f"heterogeneous_{i}") for i in range(config.layers)]
    joint = (GlobalAttention(*sizes, config.global_rank, name="attention") for _ in range(config.global_layers))
    return [*own, *(FusionBlock(attention, ffn(), name=f"global_{i}") for i, attention in enumerate(joint))]
