"""Every fault of an EHR that `nadi doctor` can meet is told with what is to be done."""

import inspect

import pytest

from adapters.fhir_rest import errors
from adapters.fhir_rest.errors import EhrLoginFailed, EhrRefused, unreachable
from adapters.obstacles import Obstacle
from gateway.cli.doctor_remedies import of_answer, of_loss, refused_with, remedy, with_remedy
from gateway.core.errors import ConfigurationError, GatewayError

#: Met by a write or a search of results alone, which the doctor does not make, or known by status.
_ELSEWHERE = {"EhrRefused", "MultipleMatches", "EhrAnswerTooLarge", "SearchNotWhole"}
_FAULTS = [
    name
    for name, each in inspect.getmembers(errors, inspect.isclass)
    if each.__module__ == errors.__name__ and issubclass(each, GatewayError)
]


def test_every_error_of_the_client_has_a_remedy() -> None:
    assert [name for name in _FAULTS if not remedy(name)] == sorted(_ELSEWHERE)


def test_the_message_comes_first_and_then_what_to_do() -> None:
    assert with_remedy(EhrLoginFailed()).startswith(
        "The EHR does not accept Nadi's credential (401). "
    )
    assert "Renew the credential" in with_remedy(EhrLoginFailed())
    away = with_remedy(unreachable(Obstacle.REFUSED))
    assert away.startswith(
        "The EHR refuses the connection: does it run, and is the port right? Res"
    )
    assert with_remedy(ConfigurationError("Set NADI_X.")) == "Set NADI_X."


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (403, "Let the EHR's administrator allow it"),
        (404, "base_url"),
        (405, "write_back.only"),
        (422, "write_back.codes"),
    ],
)
def test_a_result_that_an_ehr_refuses_is_told_by_its_status(status: int, says: str) -> None:
    assert says in refused_with(status)


def test_of_what_else_is_refused_nothing_is_said_about_results() -> None:
    assert with_remedy(EhrRefused(403)).endswith("Let the EHR's administrator allow it.")
    assert with_remedy(EhrRefused(422)).endswith(
        "HTTP 422. Look for the request in the EHR's own log."
    )


def test_the_gravest_loss_is_what_somebody_has_to_act_on() -> None:
    assert "A wrong value" in of_loss(["meta.security", "value", "words"])
    assert "Nobody would see" in of_loss(["meta.security", "words"])
    assert "nothing needs to be done" in of_loss(["meta.security", "device"])
    assert "Nadi keeps what was lost" in of_loss(["device"])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("EhrNameUnknown", "known to the DNS here?"),
        ("NoConnection connection-refused", "The receiver refuses the connection: does it run"),
        ("201", ""),
        ("ForLater AE 206 PID", ""),
        ("", ""),
    ],
)
def test_what_is_on_record_of_a_delivery_is_enough_to_say_what_to_do(
    answer: str, says: str
) -> None:
    assert says in of_answer(answer)
    assert bool(of_answer(answer)) is bool(says)
