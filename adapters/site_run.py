"""The keys `run` and `priority` of a route, and `rate` of a system: when, how soon, how fast."""

from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from adapters.site_hours import check_zone
from gateway.core.run_window import RunWindow

Priority = Literal["stat", "asap", "urgent", "routine"]
_Hour = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check_span(between: list[str]) -> list[str]:
    if between[0] == between[1]:
        raise ValueError("the window is empty: it begins when it ends")
    return between


class RunEntry(_Part):
    """When the jobs of a route may start; stat ones start at any time."""

    between: Annotated[
        list[_Hour], Field(min_length=2, max_length=2), AfterValidator(_check_span)
    ] = Field(description='From when to when, ["20:00", "06:00"], in quotes; may pass midnight.')
    timezone: Annotated[str, AfterValidator(check_zone)] | None = Field(
        None, description="IANA name of the time zone; that of `hours` when absent."
    )

    def window(self, site_zone: ZoneInfo | None) -> RunWindow | None:
        """Give the window ready for use; None where no time zone is known."""
        zone = ZoneInfo(self.timezone) if self.timezone else site_zone
        start, end = map(time.fromisoformat, self.between)
        return RunWindow(start, end, zone) if zone else None


class RateEntry(_Part):
    """How fast a system may be asked and written to."""

    per_second: float = Field(
        ge=0.5,
        le=10_000,
        strict=False,
        description="Most requests a second, evenly spaced, of all processes and hosts together.",
    )
