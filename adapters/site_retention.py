"""The key `retention` of a site file: how long what is held is kept, and what erasing means."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from gateway.core.retention import (
    TERMS,
    AfterErasure,
    ClassRule,
    Retention,
    RetentionClass,
    too_short,
)

Law = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RuleEntry(_Part):
    """How long one class is kept."""

    days: int = Field(ge=1, le=36500, description="Days since it was received, or came to be.")
    law: Law | None = Field(
        None, description="The law that lets it be shorter than the floor; needed only then."
    )


def _default(name: RetentionClass) -> RuleEntry:
    return RuleEntry(days=TERMS[name].default_days, law=None)


class RetentionEntry(_Part):
    """How long each class is kept. With this key in the file, what had its time is removed."""

    payloads: RuleEntry = Field(
        _default(RetentionClass.PAYLOADS), description="Resources as received, and Bundles."
    )
    results: RuleEntry = Field(
        _default(RetentionClass.RESULTS), description="Results that were delivered."
    )
    consents: RuleEntry = Field(
        _default(RetentionClass.CONSENTS), description="Consents that a newer version replaced."
    )
    undelivered: RuleEntry = Field(
        _default(RetentionClass.UNDELIVERED), description="Results given up or cancelled."
    )
    audit: RuleEntry = Field(
        _default(RetentionClass.AUDIT),
        description="The audit log: a promise to keep it; this version never removes any of it.",
    )
    after_erasure: AfterErasure = Field(
        AfterErasure.REFUSE,
        strict=False,
        description="An erased patient of whom something arrives: `refuse` it, or begin `afresh`.",
    )
    backup_days: int = Field(
        35,
        ge=0,
        le=3650,
        description="For how long backups of the database are kept: until then an erased key is "
        "in them.",
    )

    @field_validator(*(each.value for each in RetentionClass))
    @classmethod
    def _above_floor(cls, rule: RuleEntry, info: ValidationInfo) -> RuleEntry:
        name = RetentionClass(str(info.field_name))
        floor = too_short(name, ClassRule(rule.days, rule.law or ""))
        if floor is not None:
            raise ValueError(
                f"{name.value} has to be kept {floor.days} days at least ({floor.source}); "
                "state the law that lets it be shorter with `law:`"
            )
        return rule

    def _rules(self) -> dict[RetentionClass, ClassRule]:
        entries = {name: getattr(self, name.value) for name in RetentionClass}
        return {name: ClassRule(each.days, each.law or "") for name, each in entries.items()}

    def retention(self) -> Retention:
        """Give the rules ready for use."""
        return Retention(
            rules=self._rules(),
            is_in_force=True,
            after_erasure=self.after_erasure,
            backup_days=self.backup_days,
        )
