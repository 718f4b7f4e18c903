"""Webhooks: how many, where to, and how long a delivery is tried."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import Field

from jobs.policy.redelivery import DeliveryRules
from serve_app.config.sections import Count, Seconds, Section
from serve_app.config.spellings import Network

PUBLIC_URL = re.compile(
    r"https://([A-Za-z0-9_-]{1,63}\.){0,8}[A-Za-z][A-Za-z0-9-]{0,62}(:443)?"
    r"([/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
OWN_URL = re.compile(
    r"https?://(([A-Za-z0-9_-]{1,63}\.){0,8}[A-Za-z][A-Za-z0-9-]{0,62}"
    r"|((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]))"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
    r"([/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
"""Of endpoints, whole: https by name; with networks of our own http and addresses, too, at any
port."""
LOOPBACK = ip_network("127.0.0.0/8"), ip_network("::1/128")
MOST_URL_CHARACTERS = 2048


class WebhooksSection(Section):
    """Endpoints that tenants are told at, and the deliveries of each gateway."""

    endpoints: Annotated[int, Field(ge=0)] = 10
    """That a tenant may have; 0 lets none be made."""
    networks: Annotated[tuple[Network, ...], Field(strict=False)] = ()
    """Networks beside the open internet that deliveries may go to, by http as well, at any port."""
    seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Of one try, whatever it waits for."""
    retry_seconds: Seconds = 259_200.0
    """How long a delivery is tried: three days."""
    disable_seconds: Seconds = 259_200.0
    """How long all deliveries of an endpoint may fail before it is disabled."""
    concurrent: Count = 64
    """Deliveries of one gateway at a time."""
    concurrent_per_endpoint: Count = 4
    """Of these, to one endpoint; one that fails gets one."""

    def rules(self) -> DeliveryRules:
        """As the ledger takes them."""
        return DeliveryRules(
            self.seconds, self.retry_seconds, self.disable_seconds, self.concurrent_per_endpoint
        )

    @property
    def url_pattern(self) -> str:
        """Of the URLs that endpoints may have, for JSON Schema."""
        return f"^{(OWN_URL if self.networks else PUBLIC_URL).pattern}$"

    def takes(self, url: str) -> bool:
        """Whether endpoints may have that URL, as far as its spelling tells."""
        return bool(OWN_URL.fullmatch(url) if self.networks else PUBLIC_URL.fullmatch(url))

    @property
    def reaches_own_machine(self) -> bool:
        """Whether deliveries may go to the gateway's own machine, by its loopback addresses."""
        own = [ip_network(network) for network in self.networks]
        return any(
            network.version == loopback.version and network.overlaps(loopback)
            for network in own
            for loopback in LOOPBACK
        )

    def in_own_networks(self, address: str) -> bool:
        """Whether that address is one of `networks`."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in ip_network(network) for network in self.networks)
