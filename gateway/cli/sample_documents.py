"""The image or note of a sample, as the worker would read it; the EHR itself is not asked.

What a resource points at is looked for in the sample, then in what the installation has on record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from adapters.site import Site
from gateway.api.arrivals import base_url_of
from gateway.cli.sample import Sample
from gateway.core.attachments import DEEPEST, Instance, references
from gateway.core.routing import Route
from gateway.store.events import Event
from gateway.store.unit_of_work import Store
from workers.attached import Received, Whose
from workers.shelf import Shelf

Json = Mapping[str, Any]


class WouldAsk(Exception):
    """The EHR would have to be asked, which a dry run does not do; the message says for what."""


class _Untouched:
    """An EHR that is not asked."""

    def read(self, reference: str) -> NoReturn:
        """Say what would be read."""
        raise WouldAsk(reference)

    def content(self, address: str, *, max_bytes: int) -> NoReturn:  # noqa: ARG002 - a Keeper's
        """Say what would be fetched."""
        raise WouldAsk(address)

    def instance(self, at: Instance, *, max_bytes: int) -> NoReturn:  # noqa: ARG002 - a Keeper's
        """Say what would be fetched from the image archive."""
        raise WouldAsk(f"studies/{at.study}/series/{at.series}/instances/{at.instance}")

    def instances(self, study: str) -> NoReturn:
        """Say what the image archive would be asked."""
        raise WouldAsk(f"studies/{study}/instances")


@dataclass(frozen=True)
class SampleShelf:
    """Makes the shelf of one resource of a sample.

    Attributes:
        store: What is on record; None where it must not be read or there is none.
    """

    site: Site
    route: Route
    sample: Sample
    store: Store | None

    def of(self, patient: str, content: Json) -> Shelf:
        """Give what may be opened for a resource of a patient."""
        base_url = base_url_of(self.site, self.route.source)
        found = self._on_record(patient, content, base_url)
        wanted = references(content)
        for _ in range(DEEPEST):
            near = {each: self.sample.named(each, base_url=base_url) for each in wanted}
            opened = {name: each.resource.content for name, each in near.items() if each}
            found |= opened
            wanted = [literal for each in opened.values() for literal in references(each)]
        return Shelf(patient, base_url, found, _Untouched())

    def _on_record(self, patient: str, content: Json, base_url: str | None) -> dict[str, Json]:
        if self.store is None:
            return {}
        system = self.route.source
        key = self.store.sealer.patient_key(system, patient)
        with self.store.read() as uow:

            def unseal(event: Event) -> Json:
                opened: Json = orjson.loads(uow.events.content(event))
                return opened

            received = Received(uow, Whose(system, key, None), base_url)
            return received.attached(content, unseal)
