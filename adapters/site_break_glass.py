"""The shape of `break_glass` in a site file: who may, who is told, by when it is reviewed."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adapters.site_address import Url


class AlertEntry(BaseModel):
    """Where it is told at once that the glass was broken; nothing of the patient is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Url = Field(
        description="Gets a POST with JSON: who, when, which route, and the id of the review."
    )
    timeout_s: float = Field(5, gt=0, le=60, strict=False, description="Longest wait, seconds.")


class BreakGlassEntry(BaseModel):
    """Break-glass at this site."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clinicians: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        min_length=1,
        description="Names of the credentials (role clinician) that may break the glass.",
    )
    review_within_h: int = Field(
        72, ge=1, le=8760, description="By when a second person has to review each use, in hours."
    )
    alert: AlertEntry | None = Field(None, description="Who is told at once, besides the log.")
