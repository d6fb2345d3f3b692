"""Sends jobs over a queue when told to: `KIND COUNT` on a line of standard input.

It answers each line with the seconds of CPU that sending took. A process of its own, so that each
queue is sent from its own environment and the measuring process is not in the way.
"""

import importlib
import sys
import time
import uuid


def main() -> None:
    """Send as told until standard input ends."""
    queue = importlib.import_module(f"benchmarks.queues.{sys.argv[1]}")
    for line in sys.stdin:
        kind, count = line.split()
        ids = [f"{kind}-{uuid.uuid4()}" for _ in range(int(count))]
        began = time.process_time()
        queue.send(ids)
        sys.stdout.write(f"{time.process_time() - began}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
