"""What `nadi doctor` advises: what a fault means for the hospital, and what is to be done.

A fault is known by the name of its error, since what became of a result tells only that.
"""

from collections.abc import Iterable, Mapping

from adapters.fhir_rest.errors import EhrRefused, EhrUnreachable
from adapters.obstacles import Obstacle
from gateway.core.errors import GatewayError
from gateway.core.read_back import AI_LABEL, VALUE
from workers.verifying import WORDS

_WAITS = "Results wait meanwhile and are tried again."
_OBSTACLES = frozenset(Obstacle)
_OWN_LOG = "Look for the request in the EHR's own log"
_REMEDIES: Mapping[str, str] = {
    "EhrUnreachable": f"Does it run, and does a firewall or a proxy cut connections? {_WAITS}",
    "EhrNameUnknown": f"Is the name in its base_url right, and known to the DNS here? {_WAITS}",
    "EhrConnectionRefused": f"Does it run, and is the port in its base_url right? {_WAITS}",
    "EhrNoRoute": f"Look at routes, VPN and firewall. {_WAITS}",
    "EhrNoConnection": f"Is its base_url right, and does a firewall let us through? {_WAITS}",
    "EhrNotTrusted": "Has its certificate run out, is it for another name, or does "
    f"`tls.authority` have to name who issued it? {_WAITS}",
    "EhrTlsFailed": f"Is the port right, or is it http? {_WAITS}",
    "EhrTimeout": f"See why it is slow, or let it take longer (its timeout_s). {_WAITS}",
    "EhrOverloaded": f"Nothing needs to be done if it passes; else lower its `rate`. {_WAITS}",
    "EhrFailed": f"It fails in itself: see its own log. {_WAITS}",
    "EhrConflict": f"Nothing needs to be done if it passes. {_WAITS}",
    "EhrLoginFailed": f"Renew the credential that its `auth` in the site file names. {_WAITS}",
    "EhrAnswerUnreadable": "Does its base_url lead to a FHIR API, or to a proxy or a login page?",
    "ForeignAddress": "Write as its base_url what the EHR's own links say.",
    "NoAnswer": _WAITS,
}
_BY_STATUS: Mapping[int, str] = {
    403: "May Nadi's user do that there? Let the EHR's administrator allow it.",
    404: "Does base_url lead to its FHIR API, and has it such a resource?",
}
_NO_FORM = "It has no such form of a result: let results go in another (write_back.only)."
_NO_FORMS = frozenset({405, 501})
_DISLIKED = (
    f"{_OWN_LOG}: it does not like what was sent. It may need codes of its own (write_back.codes), "
    "or to be named by its kind (`profile` of the system)."
)
_KEPT_HERE = "Results are written so and Nadi keeps what was lost; docs/write-back.md"
_LOSSES: Mapping[str, str] = {
    VALUE: "A wrong value would stand in charts: let no result go there until it is mended "
    "(write_back.only: [worklist])",
    WORDS: "Nobody would see there that an AI made it: say so in the `display` of its own codes, "
    "or let results go in another form (if_label_lost: next-rung)",
    AI_LABEL: "That an AI made it can be read there in words, so nothing needs to be done; of what "
    "else is lost, Nadi keeps a record",
}


def with_remedy(error: GatewayError) -> str:
    """Give what an error says, and what to do about it."""
    if isinstance(error, EhrUnreachable) and type(error) is not EhrUnreachable:
        return f"{error.message} {_WAITS}"  # it says itself what stands between
    if isinstance(error, EhrRefused):
        return f"{error.message} {_BY_STATUS.get(error.status, f'{_OWN_LOG}.')}"
    told = (remedy(kind.__name__) for kind in type(error).__mro__)
    return f"{error.message} {next(filter(None, told), '')}".rstrip()


def remedy(name: str) -> str:
    """Say what to do about an error of a name; nothing where its message says it."""
    return _REMEDIES.get(name, "")


def of_answer(answer: str) -> str:
    """Say what to do about what the last attempt to deliver a result came to.

    Args:
        answer: As it is on record: an error's name, which an obstacle may follow.
    """
    name, _, more = answer.partition(" ")
    if more in _OBSTACLES:
        return f"The receiver {Obstacle(more).says} {_WAITS}"
    return remedy(name)


def refused_with(status: int) -> str:
    """Say what to do where an EHR refused a result for good."""
    return _NO_FORM if status in _NO_FORMS else _BY_STATUS.get(status, _DISLIKED)


def of_loss(lost: Iterable[str]) -> str:
    """Say what it means that an EHR does not keep these parts of a result."""
    return next((says for part, says in _LOSSES.items() if part in lost), _KEPT_HERE)
