"""How long what is held is kept: classes, their defaults, and the floors that laws set.

A class may be kept shorter than its floor only where the site names the law that says so.

Source: DPDP Rules 2025 (G.S.R. 846(E)), Rules 6(1)(e) and 8(3): personal data and processing logs
one year from the processing; CERT-In Directions of 28 April 2022: logs 180 days; Indian Medical
Council Regulations 2002, 1.3.1: records three years.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DAY_MS = 86_400_000


class RetentionClass(StrEnum):
    """What is kept for a time of its own."""

    PAYLOADS = "payloads"
    RESULTS = "results"
    CONSENTS = "consents"
    UNDELIVERED = "undelivered"
    AUDIT = "audit"


class AfterErasure(StrEnum):
    """What becomes of an erased patient of whom something arrives again."""

    REFUSE = "refuse"
    AFRESH = "afresh"


@dataclass(frozen=True)
class Floor:
    """The least number of days, and the law that says so."""

    days: int
    source: str


@dataclass(frozen=True)
class ClassTerms:
    """What a class holds and how long it is kept unless the site says otherwise.

    Attributes:
        holds: In words, for people.
        because: Why so long.
    """

    holds: str
    default_days: int
    because: str
    floors: tuple[Floor, ...]


_DPDP = Floor(365, "DPDP Rules 2025, Rule 8(3): one year from the date of processing")
_DPDP_LOGS = Floor(365, "DPDP Rules 2025, Rules 6(1)(e) and 8(3): logs for one year")
_CERT_IN = Floor(180, "CERT-In Directions of 28 April 2022: logs for 180 days")

TERMS: Mapping[RetentionClass, ClassTerms] = {
    RetentionClass.PAYLOADS: ClassTerms(
        "resources as received, but for consents, and the Bundles around them",
        365,
        "the EHR keeps the record; here it is evidence of what a model read",
        (_DPDP,),
    ),
    RetentionClass.RESULTS: ClassTerms(
        "results as delivered to the EHR",
        1095,
        "Indian Medical Council Regulations 2002, 1.3.1: records for three years",
        (_DPDP,),
    ),
    RetentionClass.CONSENTS: ClassTerms(
        "Consent resources that a newer version replaced",
        1095,
        "they show why data was used for as long as its results are kept",
        (_DPDP,),
    ),
    RetentionClass.UNDELIVERED: ClassTerms(
        "results that were given up or cancelled",
        365,
        "nobody acted on them",
        (_DPDP,),
    ),
    RetentionClass.AUDIT: ClassTerms(
        "AuditEvents and the Merkle log",
        3650,
        "it is never shortened in this version; this is how long it is promised",
        (_CERT_IN, _DPDP_LOGS),
    ),
}


@dataclass(frozen=True)
class ClassRule:
    """How long a site keeps a class.

    Attributes:
        law: What lets it be shorter than the floor; empty where it is not.
    """

    days: int
    law: str = ""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What a site says of retention.

    Attributes:
        rules: By class; the defaults where the site is silent.
        is_in_force: Whether anything is removed when its time is over.
        after_erasure: What becomes of an erased patient of whom something arrives again.
        backup_days: For how long a backup of the database is kept.
    """

    rules: Mapping[RetentionClass, ClassRule] = field(
        default_factory=lambda: {name: ClassRule(each.default_days) for name, each in TERMS.items()}
    )
    is_in_force: bool = False
    after_erasure: AfterErasure = AfterErasure.REFUSE
    backup_days: int = 35

    @property
    def shortened(self) -> list[str]:
        """Say of each class that is kept shorter than its floor what the site states for it."""
        return [
            f"retention: {name.value} are kept {rule.days} days, less than the {floor.days} that "
            f"the law asks for ({floor.source}). What lets it, as the site file says and nobody "
            f"has checked: “{rule.law}”"
            for name, rule in self.rules.items()
            if (floor := below(name, rule)) is not None
        ]

    def before_ms(self, name: RetentionClass, now_ms: int) -> int:
        """Say up to which moment what is in a class has had its time."""
        return now_ms - self.rules[name].days * DAY_MS


def too_short(name: RetentionClass, rule: ClassRule) -> Floor | None:
    """Give the highest floor that a rule is below without naming a law; None when it may be so."""
    return None if rule.law else below(name, rule)


def below(name: RetentionClass, rule: ClassRule) -> Floor | None:
    """Give the highest floor that a rule is below, whatever law it names; None at or above all."""
    broken = [floor for floor in TERMS[name].floors if rule.days < floor.days]
    return max(broken, key=lambda floor: floor.days) if broken else None
