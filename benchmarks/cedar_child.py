"""Decides with cedarpy, in an environment of its own: policies in, decisions and times out.

Each patient's policies are parsed once into a handle that is kept, as cedarpy advises; what is
timed is `is_authorized` alone.
"""

import json
import sys
import time

import cedarpy  # type: ignore[import-not-found]  # of another environment


def main() -> None:
    """Read `{"policies": [...], "now": s, "purpose": code}`; write decisions and µs of each."""
    asked = json.load(sys.stdin)
    handles = [cedarpy.PolicySet.from_str(text) for text in asked["policies"]]
    entities = cedarpy.Entities.from_json_str("[]")
    request = {
        "principal": 'Model::"ckd-risk"',
        "action": f'Action::"{asked["purpose"]}"',
        "resource": 'Data::"record"',
        "context": {"now": asked["now"]},
    }
    decisions = [cedarpy.is_authorized(request, each, entities).allowed for each in handles]
    began, clock = time.thread_time(), time.perf_counter()
    for handle in handles:
        cedarpy.is_authorized(request, handle, entities)
    spent, waited = time.thread_time() - began, time.perf_counter() - clock
    each_us = 1e6 / len(handles)
    took = {"µs of CPU": spent * each_us, "µs on the clock": waited * each_us}
    json.dump({"decisions": decisions, "took": took}, sys.stdout)


if __name__ == "__main__":
    main()
