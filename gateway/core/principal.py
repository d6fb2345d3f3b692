"""Who is calling: a credential becomes a `Principal` with one role.

Rules: deny by default; a role permits what the table `PERMISSIONS` says and nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.errors import Forbidden

#: By which a listener of ours says whose message it brings; nobody else is believed.
SENDER_HEADER = "X-Nadi-Sender"


class Role(StrEnum):
    """The five roles of a site."""

    EHR = "ehr"
    INTEGRATOR = "integrator"
    CLINICIAN = "clinician"
    COMPLIANCE = "compliance"
    OPERATOR = "operator"


class Permission(StrEnum):
    """What a call needs."""

    PUSH = "push"
    READ_TASKS = "read-tasks"
    READ_EVERY_TASK = "read-every-task"
    READ_RESULTS = "read-results"
    READ_WORKLIST = "read-worklist"
    SIGN_OFF = "sign-off"
    RETRY_RESULTS = "retry-results"
    READ_AUDIT = "read-audit"
    READ_CONSENT = "read-consent"
    RECORD_CONSENT = "record-consent"
    BREAK_GLASS = "break-glass"
    REVIEW_BREAK_GLASS = "review-break-glass"
    ANSWER_RIGHTS = "answer-rights"
    CONFIGURE = "configure"
    OPERATE = "operate"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.EHR: frozenset({Permission.PUSH, Permission.READ_TASKS}),
    Role.INTEGRATOR: frozenset(
        {
            Permission.READ_TASKS,
            Permission.READ_EVERY_TASK,
            Permission.READ_WORKLIST,
            Permission.RETRY_RESULTS,
            Permission.CONFIGURE,
        }
    ),
    Role.CLINICIAN: frozenset(
        {
            Permission.READ_RESULTS,
            Permission.READ_WORKLIST,
            Permission.SIGN_OFF,
            Permission.BREAK_GLASS,
        }
    ),
    Role.COMPLIANCE: frozenset(
        {
            Permission.READ_AUDIT,
            Permission.READ_CONSENT,
            Permission.RECORD_CONSENT,
            Permission.REVIEW_BREAK_GLASS,
            Permission.ANSWER_RIGHTS,
        }
    ),
    Role.OPERATOR: frozenset({Permission.OPERATE}),
}


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Attributes:
        id: Opaque id of the credential.
        name: Name its owner gave it.
        role: The one role it has.
        system: For role `ehr`, the system of the site file it speaks for.
        brings: Whether it is a listener of ours, which brings what others sent to it.
    """

    id: str
    name: str
    role: Role
    system: str | None = None
    brings: bool = False

    def may(self, permission: Permission) -> bool:
        """Say whether the role permits this."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Insist on a permission.

        Raises:
            Forbidden: The role does not have it.
        """
        if not self.may(permission):
            raise Forbidden(f"Role '{self.role}' does not permit '{permission}'.")
