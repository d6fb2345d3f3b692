"""An AuditEvent lies packed in SQLite and says to the byte what it said before."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import audit
from gateway.core.audit import AuditRecord, Source, Step
from gateway.core.audit_event import AuditEventChanged
from gateway.core.clock import new_id, to_ms
from gateway.core.ledger import Frontier, leaf_hash, root
from gateway.store import packing
from gateway.store.audit_log import AuditFilter
from gateway.store.engine import migrate
from gateway.store.packing import packed, told, unpacked
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.tables import audit_events
from gateway.store.unit_of_work import Store
from tests.audited import bodies
from tests.consenting import CONSENT_KEY

DICTIONARY = Path(packing.__file__).parent / "data" / "audit-bodies-1.txt"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
#: Packed once with the first dictionary. What lies in a database has to be read for ever.
KEPT = bytes.fromhex(
    "01436a08b9024d843584800e0227f244a018526a33323032d33534d435320b3130b002233d03038328b02a5ca9b01600"
)
SAYS = (
    b'{"action":"E","agent":[],"id":"a","recorded":"2026-11-26T00:00:00.000Z",'
    b'"resourceType":"AuditEvent"}'
)


def note(name: str) -> AuditRecord:
    step = Step(id=new_id(), recorded=NOW, source=Source("site", "test"))
    return audit.noted(step, "note", details={"by": name})


@given(st.binary(max_size=4000) | st.text(max_size=2000).map(str.encode))
def test_what_is_packed_comes_out_as_it_was(body: bytes) -> None:
    assert unpacked(packed(body)) == body


def test_what_an_earlier_nadi_packed_is_still_read() -> None:
    assert unpacked(KEPT) == SAYS


@pytest.mark.parametrize("kept", [SAYS, SAYS.decode(), memoryview(SAYS)])
def test_what_was_never_packed_is_read_as_it_lies_there(kept: object) -> None:
    assert unpacked(kept) == SAYS


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"\x01",
        KEPT[:-1],
        KEPT + b"more",
        KEPT[:1] + b"\xff" + KEPT[2:],
        b"\x02" + KEPT[1:],
    ],
)
def test_what_can_t_be_unpacked_is_given_as_it_lies_there(kept: bytes) -> None:
    assert unpacked(kept) == kept


@pytest.mark.parametrize(
    "kept",
    [b"", b"\x01", KEPT[:-1], KEPT + b"more", b"[]", b"{}", packed(b'{"id":"a"}'), "no JSON"],
    ids=["nothing", "mark", "cut", "lengthened", "list", "empty", "no AuditEvent", "text"],
)
def test_who_is_to_be_shown_a_changed_audit_event_is_told_which_it_is(kept: object) -> None:
    with pytest.raises(AuditEventChanged, match=r"AuditEvent 7 is not what was written.*verify"):
        told(7, kept)


def test_who_is_shown_an_audit_event_gets_it_to_the_byte() -> None:
    body = note("Dr Rao").body

    assert told(7, packed(body)) == told(7, body) == body


def test_what_would_fill_the_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed(b"0" * 5000)
    monkeypatch.setattr(packing, "MOST_BYTES", 4999)

    assert unpacked(bomb) == bomb


def test_what_is_longer_than_is_unpacked_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", len(SAYS) - 1)

    assert unpacked(packed(SAYS)) == SAYS


def test_an_audit_event_takes_less_than_a_quarter_of_its_bytes_in_sqlite(store: Store) -> None:
    record = note("Dr Rao")
    with store.write() as uow:
        uow.audit(record)
    with store.read() as uow:
        [kept] = uow.connection.execute(sa.select(audit_events.c.body)).scalars()

        assert bodies(uow.connection) == [record.body]
        if uow.connection.dialect.name == "sqlite":
            assert len(kept) * 4 < len(record.body)
        else:
            assert kept == record.body


def test_what_an_earlier_nadi_left_plain_is_found_and_has_its_place_in_the_log(
    store: Store,
) -> None:
    earlier, later, other = note("Dr Rao"), note("Dr Rao"), note("Dr Iyer")
    with store.write() as uow:
        tag = uow.sealer.audit_tag(earlier.id, earlier.body)
        uow.connection.execute(sa.insert(audit_events), {**plain(earlier), "tag": tag})
        uow.audit(later, other)

    with store.write() as uow:
        checkpoint = uow.audit_log.integrate(KEY, "nadi.test/log")
        found = uow.audit_log.search(AuditFilter(written=(b'"Dr Rao"',)))

    assert checkpoint is not None
    assert checkpoint.root == root(Frontier().extend(map(leaf_hash, saying(earlier, later, other))))
    assert {row.body for row in found} == set(saying(earlier, later))


def test_the_program_of_the_documentation_takes_the_log_out_of_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    migrate(url)
    store = Store(url, Sealer(MasterKey(bytes(32))), clock=lambda: NOW, consents=CONSENT_KEY)
    records = [note(f"doctor {number}") for number in range(5)]
    with store.write() as uow:
        uow.audit(*records)
    with store.write() as uow:
        assert uow.audit_log.integrate(KEY, "nadi.test/log") is not None
    store.close()

    run = subprocess.run(
        [sys.executable, "-c", outsiders_program(), tmp_path / "nadi.db", DICTIONARY],
        capture_output=True,
        check=True,
    )

    assert run.stdout.splitlines() == saying(*records)


def outsiders_program() -> str:
    page = Path(__file__).resolve().parents[4] / "docs" / "audit.md"
    return page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


def plain(record: AuditRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "recorded_ms": to_ms(record.recorded),
        "event": record.event,
        "action": record.action,
        "outcome": record.outcome,
        "body": record.body,
    }


def saying(*records: AuditRecord) -> list[bytes]:
    return [record.body for record in records]
