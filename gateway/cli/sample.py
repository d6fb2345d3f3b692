"""A sample for a dry run: one resource or a Bundle in a file, read as the API would read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import ConfigurationError
from gateway.core.event import Facts, facts, relative_reference
from gateway.core.fhir import (
    BundleEntry,
    Resource,
    parse_bundle,
    parse_resource,
    resource_type_of,
)

_PREFIX = slice(128, 132)


@dataclass(frozen=True)
class Sampled:
    """One valid resource of the sample, and what it says of itself.

    Attributes:
        full_url: Of its entry in a Bundle.
    """

    resource: Resource
    facts: Facts
    full_url: str | None = None

    @property
    def name(self) -> str:
        """How it is named here."""
        return f"{self.resource.type}/{self.facts.resource_id or '(no id)'}"


@dataclass(frozen=True)
class Sample:
    """A sample: its valid resources, and what is wrong with the others."""

    resources: tuple[Sampled, ...]
    problems: tuple[str, ...]

    def named(self, literal: str, *, base_url: str | None) -> Sampled | None:
        """Give the resource that a reference means, by `fullUrl` or by type and id."""
        name = relative_reference(literal, base_url=base_url)
        for each in self.resources:
            if each.full_url == literal or (name and each.name == name):
                return each
        return None


def read_file(file: Path) -> bytes:
    """Read a sample's bytes.

    Raises:
        ConfigurationError: The file can't be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}.") from error


def is_dicom(raw: bytes) -> bool:
    """Say whether a sample is a DICOM file."""
    return raw[_PREFIX] == b"DICM"


def read_sample(raw: bytes, *, base_url: str | None) -> Sample:
    """Read a resource or a Bundle as the API would.

    Raises:
        ContentError: It is no JSON, or not a resource of FHIR R4.
    """
    if resource_type_of(raw) != "Bundle":
        found = parse_resource(raw)
        return Sample((Sampled(found, facts(found.content, base_url=base_url)),), ())
    entries = parse_bundle(raw).entries
    urns = _urns(entries)
    return Sample(
        tuple(
            Sampled(
                entry.resource,
                facts(entry.resource.content, base_url=base_url, urns=urns),
                entry.full_url,
            )
            for entry in entries
            if entry.resource is not None
        ),
        tuple(
            f"entry[{entry.index}]: {issue.expression or ''} {issue.diagnostics}".replace("  ", " ")
            for entry in entries
            for issue in entry.issues
        ),
    )


def _urns(entries: Sequence[BundleEntry]) -> dict[str, str]:
    return {
        entry.full_url: f"{entry.resource.type}/{entry.resource.content['id']}"
        for entry in entries
        if entry.full_url and entry.resource and "id" in entry.resource.content
    }
