"""Every process opens its installation by one way that asks whether the keys fit the data."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from gateway.core.audit import Source
from gateway.core.errors import ConfigurationError
from gateway.settings import Settings
from gateway.store.audit_log import AuditFilter
from gateway.store.installation import (
    MASTER,
    SIGNING,
    open_installation,
    record_start,
    record_stop,
)
from gateway.store.unit_of_work import Store


def test_an_installation_is_made_once_and_opens_again(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    made = open_installation(settings)
    made.store.close()

    again = open_installation(settings)

    assert again.keys.origin == made.keys.origin
    again.store.close()


def test_another_master_key_does_not_open_it(tmp_path: Path):
    open_installation(Settings(data_dir=tmp_path)).store.close()
    other = tmp_path / "other.key"
    other.write_text("ab" * 32 + "\n")
    other.chmod(0o600)

    with pytest.raises(ConfigurationError):
        open_installation(Settings(data_dir=tmp_path, master_key_file=other))


def events_of(store: Store) -> list[tuple[str, dict[str, str]]]:
    """Give every audit event, oldest first: its name and what its details tell."""
    with store.read() as uow:
        rows = reversed(uow.audit_log.search(AuditFilter()))
        bodies = [(row.event, json.loads(row.body)) for row in rows]
    return [
        (
            name,
            {
                detail["type"]: detail["valueString"]
                for entity in body.get("entity", ())
                for detail in entity.get("detail", ())
            },
        )
        for name, body in bodies
    ]


def test_the_making_of_the_keys_is_on_record_once_and_without_any_secret(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    open_installation(settings).store.close()

    again = open_installation(settings)

    made = {"what": "made", "log": again.keys.origin, "verifier": again.keys.verifier}
    assert events_of(again.store) == [("keys", made)]
    again.store.close()


def test_a_process_tells_that_it_starts_with_which_keys_and_that_it_stops(tmp_path: Path):
    installation = open_installation(Settings(data_dir=tmp_path))
    source = Source("ward", "relay")

    with installation.store.write() as uow:
        record_start(uow, source, MASTER, SIGNING)
    record_stop(installation.store, source)

    version = importlib.metadata.version("nadi")
    assert events_of(installation.store)[1:] == [
        ("start", {"version": version, "keys": "master, audit-signing"}),
        ("stop", {}),
    ]
    installation.store.close()


def test_a_process_stops_also_when_the_database_is_away(tmp_path: Path):
    installation = open_installation(Settings(data_dir=tmp_path))
    installation.store.close()
    for file in tmp_path.glob("nadi.db*"):
        file.unlink()
    (tmp_path / "nadi.db").mkdir()

    record_stop(installation.store, Source("ward", "api"))
