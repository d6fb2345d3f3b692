"""The site files and credentials, compared with what the audit log says of them."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gateway.core.principal import Role
from gateway.store.credentials import Credential
from gateway.store.evidence import Claim, Evidence
from gateway.store.verification_report import Kind, Verification

Row = Mapping[str, Any]


class SiteVerifier:
    """Compares one row after the other; what is wrong goes into the report."""

    def __init__(self, evidence: Evidence, report: Verification) -> None:
        self._evidence = evidence
        self._report = report

    def check_site(self, row: Row) -> None:
        """Compare one version of the site file."""
        version, found = row["version"], self._report.found
        claim = self._evidence.sites.get(str(version))
        if claim is None:
            found("sites", version, "that it was applied is not on record", kind=Kind.INVENTED)
            return
        digest = sha256(row["yaml"].encode()).hexdigest()
        recorded = claim.facts.get("sha256")
        if digest != recorded or row["sha256"] != recorded:
            found("sites", version, "it is not the file that was applied", claim.seq)
        self._same_moment("sites", version, row, "applied_ms", claim)
        if not any(agent.endswith(row["applied_by"]) for agent in claim.agents):
            found("sites", version, "column applied_by is not who did it", claim.seq)

    def check_credential(self, row: Row) -> None:
        """Compare one credential, and whether it is revoked."""
        name, found = row["id"], self._report.found
        claim = self._evidence.credentials.get(name)
        if claim is None:
            found("credentials", name, "that it was added is not on record", kind=Kind.INVENTED)
            return
        kept = Credential(**{**row, "role": Role(row["role"])})
        if kept.fingerprint != claim.facts.get("fingerprint"):
            found("credentials", name, "it is not the credential that was added", claim.seq)
        self._same_moment("credentials", name, row, "created_ms", claim)
        revoked = self._evidence.revoked.get(name)
        if (revoked is None) != (row["revoked_ms"] is None):
            what = "whether it is revoked is not what was recorded"
            found("credentials", name, what, (revoked or claim).seq)
        elif revoked is not None:
            self._same_moment("credentials", name, row, "revoked_ms", revoked)

    def _same_moment(self, table: str, name: object, row: Row, column: str, claim: Claim) -> None:
        if row[column] != claim.recorded_ms:
            what = f"column {column} is not the time that was recorded"
            self._report.found(table, name, what, claim.seq)
