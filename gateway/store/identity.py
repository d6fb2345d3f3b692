"""The keyed hashes by which a resource is known, the same when receiving and when verifying."""

from collections.abc import Iterable

from gateway.core.clock import to_ms
from gateway.core.event import Facts
from gateway.store.sealing import Sealer


def dedupe_key(sealer: Sealer, system: str, read: Facts, sha256: str) -> str:
    """Make equal keys for the same version of a resource, or the same bytes without a version.

    Args:
        sealer: Hashes with the key of this installation.
        system: System of the site file that the resource comes from.
        read: What the resource says of itself.
        sha256: Of its bytes, hexadecimal.
    """
    updated = str(to_ms(read.last_updated)) if read.last_updated else ""
    if read.resource_id and (read.version_id or updated):
        version = (read.resource_type, read.resource_id, read.version_id or "", updated)
        return sealer.keyed_hash("version", system, *version)
    return sealer.keyed_hash("bytes", system, read.resource_type, sha256)


def resource_key(sealer: Sealer, system: str, read: Facts) -> str | None:
    """Name a resource over all its versions; None when it has no id."""
    if not read.resource_id:
        return None
    return named_key(sealer, system, read.resource_type, read.resource_id)


def named_key(sealer: Sealer, system: str, resource_type: str, resource_id: str) -> str:
    """Name the resource of a type and id over all its versions."""
    return sealer.keyed_hash("resource", system, resource_type, resource_id)


def code_keys(sealer: Sealer, codes: Iterable[str]) -> tuple[str, ...]:
    """Hash `system|code` pairs: what they say of a patient is found by equality, never read."""
    return tuple(sealer.code_key(code) for code in codes)
