"""`silent_after_s`: when a way in that brings nothing new is told to be silent."""

from pydantic import Field

from adapters.site_words import Part


class SilentEntry(Part):
    """A way in that may be silent."""

    silent_after_s: float | None = Field(
        None,
        gt=0,
        strict=False,
        description="After so long without anything new it is told to be silent; absent: never.",
    )
