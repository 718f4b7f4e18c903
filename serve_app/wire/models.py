"""The models that requests may name, and which one they mean. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.capabilities import Capabilities
from jobs.announcements import Announcement
from serve_app.config.cluster import ClusterConfig
from serve_app.wire.errors import NoModel, NotFound


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, and all that its requests are validated, priced and queued by."""

    terms: Announcement
    can: Capabilities
    """What its family is able to."""
    available: bool = False
    """Whether a decoder is there or comes with the work; jobs wait for one."""
    start_seconds: float | None = None
    """Until its first decoder draws, where one comes with the work and none is there now."""

    @property
    def name(self) -> str:
        """What `model` is in its requests and jobs."""
        return self.terms.name

    @property
    def queue(self) -> str:
        """Where its jobs wait in the ledger."""
        return self.terms.queue

    def for_tenant(self, tenant: str) -> ServedModel:
        """Without the LoRAs that are kept for other tenants."""
        kept = self.terms.lora_tenants
        if not kept:
            return self
        loras = tuple(name for name in self.can.loras if tenant in kept.get(name, (tenant,)))
        most = min(self.can.loras_max, len(loras))
        return replace(self, can=replace(self.can, loras=loras, loras_max=most))


@dataclass(frozen=True, slots=True)
class Models:
    """Of one lane."""

    all: tuple[ServedModel, ...]
    """The one that is meant by requests that name none comes first."""

    def named(self, name: str | None) -> ServedModel:
        """By its name or an alias. Raises NotFound, which lists those there are, and NoModel."""
        found = self.known(name) if name is not None else next(iter(self.all), None)
        if found is None and not self.all:
            raise NoModel
        if found is None:
            drawing = ", ".join(f"'{model.name}'" for model in self.all)
            raise NotFound(
                f"The model '{name}' does not exist. This server draws with {drawing}.",
                param="model",
                code="model_not_found",
            )
        return found

    def known(self, name: str | None) -> ServedModel | None:
        """By its name or an alias, if there is such a one. Names come before aliases."""
        for model in self.all:
            if model.name == name:
                return model
        return next((model for model in self.all if name in model.terms.aliases), None)

    def cells(self, name: str) -> int:
        """Of a whole picture that the model drew; of one that is gone those of the first."""
        model = self.known(name) or next(iter(self.all), None)
        return model.can.cells if model else 0

    def for_tenant(self, tenant: str) -> Models:
        """As that tenant may use them."""
        return Models(tuple(model.for_tenant(tenant) for model in self.all))

    @property
    def input_images(self) -> int:
        """The most that any of them takes."""
        return max((model.can.input_images for model in self.all), default=0)


def announcement(config: ClusterConfig) -> Announcement:
    """Of the one model of this config, but for what its files say: capabilities and identity."""
    model = config.model
    return Announcement(
        lane=config.lane,
        name=model.name,
        queue=config.queue,
        aliases=model.aliases,
        family=model.family,
        capabilities={},
        guidance=model.guidance,
        size=model.size,
        max_pixels=model.max_pixels,
        qualities=config.qualities.offered(),
        pass_seconds=model.pass_seconds,
        identity="",
        lora_tenants=config.lora_tenants,
        slots=config.decoder.slots,
    )
