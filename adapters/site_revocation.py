"""The shape of `revocation` in a site file: what a withdrawal does to what was written."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RevocationEntry(BaseModel):
    """What becomes of results that are in an EHR when the patient withdraws her consent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    delivered: Literal["keep", "entered-in-error"] = Field(
        "keep",
        description="keep: they stay as they are; entered-in-error: each is marked so in the EHR.",
    )

    @property
    def retracts(self) -> bool:
        """Whether results in an EHR are marked as entered in error."""
        return self.delivered == "entered-in-error"
