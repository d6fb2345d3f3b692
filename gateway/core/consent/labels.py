"""The labels of what was made from labelled data: the high-water mark.

The result is as confidential as the most confidential of what it was made from, and sensitive for
every reason that any of that was. Where nobody has labelled some of it, the result is not called
less than restricted: that would be more than is known.

Source: HL7 v3-Confidentiality (U < L < M < N < R < V), v3-ActCode sensitivities; HL7 Healthcare
Privacy and Security Classification System.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.consent.matching import weigh
from gateway.core.consent.resource import labels_of
from gateway.core.consent.vocabulary import (
    ACT_CODE,
    CONFIDENTIALITIES,
    CONFIDENTIALITY,
    NORMAL,
    RESTRICTED,
)

Json = Mapping[str, Any]


def high_water_mark(
    contents: Sequence[Json], *, unlabelled_is_normal: bool = False
) -> tuple[dict[str, str], ...]:
    """Give the security labels, as Codings, of what was made from these resources.

    Args:
        contents: Valid resources as decoded JSON.
        unlabelled_is_normal: Whether what has no label is normal, see `resource_facts`.
    """
    labels = [labels_of(content) for content in contents]
    if not any(labels):
        return ()
    levels: list[int | None] = []
    sensitivities: set[str] = set()
    for own in labels:
        level, sensitive, _ = weigh(own)
        is_normal = level is None and unlabelled_is_normal
        levels.append(NORMAL if is_normal else level)
        sensitivities |= sensitive
    if not sensitivities and not any(map(_names_level, labels)):
        return ()
    highest = max((each for each in levels if each is not None), default=None)
    is_told = None not in levels or (highest is not None and highest >= RESTRICTED)
    codes = (
        [(CONFIDENTIALITY, CONFIDENTIALITIES[highest])] if is_told and highest is not None else []
    )
    codes += [(ACT_CODE, code) for code in sorted(sensitivities)]
    return tuple({"system": system, "code": code} for system, code in codes)


def _names_level(labels: frozenset[str]) -> bool:
    return any(each.rpartition("|")[0] == CONFIDENTIALITY for each in labels)
