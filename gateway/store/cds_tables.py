"""What CDS Hooks needs to remember: what became of cards, and which tokens were used."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table

from gateway.store.tables import metadata

cds_feedback = Table(
    "cds_feedback",
    metadata,
    # keyed hash of what was said: the same comes again
    Column("id", String(64), primary_key=True),
    # the job whose result the card showed; its id is the card's uuid
    Column("job_id", String(36), nullable=False),
    Column("route", String(64), nullable=False),
    Column("client", String(129), nullable=False),
    Column("outcome", String(16), nullable=False),
    # one of our own codes, or `other`
    Column("reason", String(32), nullable=False),
    Column("patient_key", String(64)),
    # sealed JSON of what was said beside: a comment may name a patient
    Column("said", LargeBinary, nullable=False),
    Column("outcome_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("ix_cds_feedback_received_ms", "received_ms"),
    Index("ix_cds_feedback_patient_key", "patient_key"),
)

token_uses = Table(
    "token_uses",
    metadata,
    # keyed hash of issuer and jti
    Column("id", String(64), primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
    Index("ix_token_uses_until_ms", "until_ms"),
)
