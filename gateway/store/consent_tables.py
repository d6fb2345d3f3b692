"""The tables of what was done here about consents. As in `tables`, nothing stands in the clear."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, Text

from gateway.store.tables import metadata

# All that was ever done here about a consent: recorded, imported, taken back. Append-only, by
# triggers; how a consent stands is worked out from its acts (gateway.core.consent.acts).
consent_acts = Table(
    "consent_acts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("consent_id", String(36), nullable=False, index=True),
    # local, fhir or abdm; and record, import or revoke
    Column("form", String(8), nullable=False),
    Column("act", String(8), nullable=False),
    # keyed hash of the consent's own id, where it comes from elsewhere with one
    Column("foreign_key", String(64), index=True),
    Column("patient_key", String(64), index=True),
    # sealed canonical JSON, and the detached JWS over it by the key that signs consents
    Column("statement", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
    # sealed, exactly as received; the statement holds its SHA-256
    Column("document", LargeBinary),
    Column("recorded_ms", BigInteger, nullable=False),
)

# How often a consent that counts its uses was used, each within the transaction of the use. Two
# transactions that count at once meet in the primary key.
consent_uses = Table(
    "consent_uses",
    metadata,
    Column("consent_id", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("event_id", String(36), nullable=False),
    Column("used_ms", BigInteger, nullable=False),
)
