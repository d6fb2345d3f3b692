"""One of several processes that ask the same EHR as fast as its rate cap lets them.

Run with `python -m tests.pacing DATABASE_URL EHR_BASE PER_SECOND`: it says when it is ready, begins
when it is told to, and goes on until it is ended.
"""

import sys
import threading

from adapters.site import Site, System
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.unit_of_work import Store
from workers.ehrs import Ehrs

THREADS = 3


def _ask(ehrs: Ehrs) -> None:
    while True:
        ehrs.connection("ehr").client.read("Patient/made-up")


def main() -> None:
    """Ask, with several threads."""
    database_url, base, per_second = sys.argv[1:]
    ehr = System(name="ehr", kind="fhir-rest", address=base, per_second=float(per_second))
    site = Site(name="test", systems={"ehr": ehr})
    ehrs = Ehrs(lambda: site, store=Store(database_url, Sealer(MasterKey(bytes(32)))), timeout_s=5)
    print("ready", flush=True)  # noqa: T201 - told to whoever started it
    sys.stdin.readline()
    threads = [threading.Thread(target=_ask, args=(ehrs,)) for _ in range(THREADS)]
    for each in threads:
        each.start()


if __name__ == "__main__":
    main()
