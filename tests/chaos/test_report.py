"""What a run tells of its faults: how often each struck, and how soon results came again."""

from tests.chaos.checker import Violation
from tests.chaos.run import Report, Struck
from tests.chaos.schedule import Planned


def struck(kind: str, at_s: float, healed_s: float) -> Struck:
    return Struck(Planned(kind, after_s=1.0, duration_s=healed_s - at_s, size=0.5), at_s, healed_s)


def a_report() -> Report:
    return Report(
        seed=7,
        database="SQLite",
        broker="Valkey",
        ehr="sandbox",
        disk="a tmpfs",
        clock="set",
        seconds=60,
        struck=[
            struck("ehr-503", 10.0, 14.0),
            struck("kill-api", 12.0, 12.0),
            struck("kill-api", 30.0, 30.0),
            struck("power-cut", 50.0, 52.0),
        ],
        missed={"kill-relay": 1},
        results_s=[11.0, 15.5, 33.0],
        violations=[Violation("no orphans", "job 1 has no event")],
    )


def test_recovery_is_the_time_from_a_fault_s_end_to_the_next_result() -> None:
    assert a_report().recoveries == {"ehr-503": [1.5], "kill-api": [3.5, 3.0]}


def test_a_timeline_tells_the_results_after_each_fault() -> None:
    assert a_report().timeline == [
        "0.0 ehr-503 for 4.0; then 1 results",
        "2.0 kill-api for 0.0; then 1 results",
        "20.0 kill-api for 0.0; then 1 results",
        "40.0 power-cut for 2.0; then 0 results",
    ]


def test_everything_is_told_as_json() -> None:
    told = a_report().as_json()

    assert told["faults"] == {"ehr-503": 1, "kill-api": 2, "power-cut": 1}
    assert told["missed"] == {"kill-relay": 1}
    assert told["recovery_s"] == {
        "ehr-503": {"median": 1.5, "longest": 1.5},
        "kill-api": {"median": 3.25, "longest": 3.5},
    }
    assert told["violations"] == [{"invariant": "no orphans", "what": "job 1 has no event"}]
