"""What was done here about consents: one signed statement per act, never changed.

A statement is canonical JSON: `act`, `form`, the ids of act and consent, the key by which the
consent is found again (`foreign_key`), `at`, `by`, and what the act is about: `local` (what staff
recorded), `document_sha256` with the signer (what was imported) or `reason`. It is signed with the
key that signs consents, which lies apart from the database.

At every use all of an act is read again: the sealed values open only in their place, the signature
is that of this content by our key, and the document hashes to what the statement says. Only acts
whose stored bytes are exactly those that were found good before are taken as good unread.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import orjson
import sqlalchemy as sa

from gateway.core.audit_consent import ConsentAct
from gateway.core.clock import new_id
from gateway.core.consent.acts import Act, Form, Kind
from gateway.core.consent.statement import StatementForged, canonical, insist_on, sign
from gateway.core.errors import ConfigurationError
from gateway.store.consent_tables import consent_acts
from gateway.store.sealing import Place
from gateway.store.verification_report import as_bytes

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_STREAMED = 1000
_ORDER = (consent_acts.c.consent_id, consent_acts.c.recorded_ms, consent_acts.c.id)
_WITH_PATIENT = sa.select(consent_acts.c.consent_id).where(
    consent_acts.c.patient_key.in_(sa.bindparam("patients", expanding=True))
)
_OF_PATIENTS = (
    sa.select(consent_acts).where(consent_acts.c.consent_id.in_(_WITH_PATIENT)).order_by(*_ORDER)
)
_OF_CONSENT = (
    sa.select(consent_acts)
    .where(consent_acts.c.consent_id == sa.bindparam("consent"))
    .order_by(*_ORDER)
)
_FOREIGN = (
    sa.select(consent_acts.c.consent_id)
    .where(consent_acts.c.foreign_key == sa.bindparam("foreign"))
    .limit(1)
)


@dataclass(frozen=True, kw_only=True)
class NewAct:
    """An act that is about to be added.

    Attributes:
        consent_id: Of the consent; None makes a new one.
        foreign_key: See `ConsentActs.foreign_key`.
        told: What the statement says beside ids, form and act.
    """

    form: Form
    kind: Kind
    patient_key: str | None
    consent_id: str | None = None
    foreign_key: str | None = None
    told: Mapping[str, Any]
    document: bytes | None = None


@dataclass(frozen=True)
class StoredConsent:
    """A consent with its acts, still sealed.

    Attributes:
        patient_key: Whom it is about; None while nobody has said.
        seal: SHA-256 over all that is stored of it.
        rows: None of a refusal that an erasure left over: staff had recorded it.
    """

    id: str
    patient_key: str | None
    seal: str
    rows: tuple[Any, ...]

    @property
    def form(self) -> Form:
        """Where it comes from."""
        return cast("Form", self.rows[0].form) if self.rows else "local"

    @property
    def recorded_ms(self) -> int:
        """When it was recorded or first imported."""
        return int(self.rows[0].recorded_ms)


class ConsentActs:
    """The acts."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, new: NewAct) -> ConsentAct:
        """Add an act; give it as the audit log names it.

        Raises:
            ConfigurationError: The key that signs consents is not at hand.
        """
        key = self._uow.consent_key
        if key is None:
            raise ConfigurationError("The key that signs consents is not at hand here.")
        act_id, consent_id = new_id(), new.consent_id or new_id()
        told = {**new.told, "act": new.kind, "form": new.form, "id": act_id, "consent": consent_id}
        told["foreign_key"] = new.foreign_key
        if new.document is not None:
            told["document_sha256"] = hashlib.sha256(new.document).hexdigest()
        statement = canonical(told)
        self._uow.patient_keys.load([new.patient_key], create=True)
        row = {
            "id": act_id,
            "consent_id": consent_id,
            "form": new.form,
            "act": new.kind,
            "foreign_key": new.foreign_key,
            "patient_key": new.patient_key,
            "statement": self._seal(new.patient_key, "statement", act_id, statement),
            "signature": sign(statement, key),
            "document": new.document
            and self._seal(new.patient_key, "document", act_id, new.document),
            "recorded_ms": self._uow.now_ms,
        }
        self._uow.connection.execute(sa.insert(consent_acts), row)
        return ConsentAct(
            kind=new.kind,
            id=act_id,
            consent_id=consent_id,
            sha256=hashlib.sha256(statement).hexdigest(),
        )

    def foreign_key(self, form: Form, *named: str) -> str:
        """Give the key by which a consent with an id of its own is found again."""
        return self._uow.sealer.keyed_hash("consent", form, *named)

    def find(self, foreign_key: str) -> StoredConsent | None:
        """Give the consent that has this id elsewhere; None when nothing is known of it."""
        found = self._uow.connection.execute(_FOREIGN, {"foreign": foreign_key}).scalar()
        return self.get(found) if found else None

    def get(self, consent_id: str) -> StoredConsent | None:
        """Give a consent; None when there is none."""
        rows = self._uow.connection.execute(_OF_CONSENT, {"consent": consent_id}).all()
        return next(_consents(rows), None)

    def of(self, patient_keys: Collection[str]) -> list[StoredConsent]:
        """Give the consents of these patients."""
        values = {"patients": list(patient_keys)}
        return list(_consents(self._uow.connection.execute(_OF_PATIENTS, values).all()))

    def every(self) -> Iterator[StoredConsent]:
        """Give all consents, by their ids."""
        query = sa.select(consent_acts).order_by(*_ORDER)
        found = self._uow.connection.execute(query, execution_options={"yield_per": _STREAMED})
        yield from _consents(found)

    def open(self, consent: StoredConsent) -> list[Act]:
        """Open and verify the acts of a consent, oldest first.

        Raises:
            Unsealable: Something stored of it was changed, or its patient's key is gone.
            StatementForged: It was not stated here, or its document is another one.
        """
        self._uow.patient_keys.load({row.patient_key for row in consent.rows})
        return [self.verified(row._mapping) for row in consent.rows]  # noqa: SLF001 - the row's own

    def verified(self, row: Mapping[str, Any]) -> Act:
        """Open and verify one row.

        Raises:
            Unsealable: Something in it was changed, or its patient's key is gone.
            StatementForged: It was not stated here, or its document is another one.
        """
        key = self._uow.consent_key
        unseal = self._uow.patient_keys.unseal
        statement = unseal(
            row["patient_key"], _place("statement", row["id"]), as_bytes(row["statement"])
        )
        if key is None:
            raise StatementForged("The key that signs consents is not at hand here.")
        insist_on(statement, row["signature"], key.public_key())
        told = _read(statement)
        document = row["document"] and unseal(
            row["patient_key"], _place("document", row["id"]), as_bytes(row["document"])
        )
        is_it = [told.get(name) for name in ("id", "consent", "act", "form")] == [
            row[name] for name in ("id", "consent_id", "act", "form")
        ]
        found = hashlib.sha256(document).hexdigest() if document is not None else None
        # Older statements don't tell by which key their consent is found again.
        is_it = is_it and told.get("foreign_key", row["foreign_key"]) == row["foreign_key"]
        if not is_it or told.get("document_sha256") != found:
            raise StatementForged("What is stored of a consent is not what was stated of it.")
        return Act(
            kind=cast("Kind", row["act"]),
            form=cast("Form", row["form"]),
            statement=told,
            document=document,
        )

    def _seal(self, patient_key: str | None, column: str, act_id: str, content: bytes) -> bytes:
        return self._uow.patient_keys.seal(patient_key, _place(column, act_id), content)


def _read(statement: bytes) -> dict[str, Any]:
    """Read a statement; anything else that our key signed, an export, has none of its names."""
    told = orjson.loads(statement)
    return told if isinstance(told, dict) else {}


def _place(column: str, act_id: str) -> Place:
    return Place("consent_acts", column, act_id)


def _consents(rows: Sequence[Any] | sa.Result[Any]) -> Iterator[StoredConsent]:
    for consent_id, found in groupby(rows, key=lambda row: str(row.consent_id)):
        acts = tuple(found)
        patients = [row.patient_key for row in acts if row.patient_key]
        patient = patients[0] if patients else None
        yield StoredConsent(consent_id, patient, _seal_of(acts), acts)


def _seal_of(rows: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        fixed = (row.id, row.consent_id, row.form, row.act, row.signature)
        keys = (str(row.patient_key), str(row.foreign_key))
        digest.update("\n".join(fixed + keys).encode())
        for sealed in (row.statement, row.document or b""):
            digest.update(len(sealed).to_bytes(8) + bytes(sealed))
    return digest.hexdigest()
