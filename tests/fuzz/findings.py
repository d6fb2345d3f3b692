"""What went wrong, each kind of it once, with the inputs that show it."""

import hashlib
import json
import time
import traceback
from pathlib import Path

from tests.fuzz.target import SLOW_S, Target

_MOST_EXAMPLES = 3


class Findings:
    """A folder of findings: a line in `findings.jsonl` and a file with the input for each."""

    def __init__(self, folder: Path, *, slow_s: float = SLOW_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._slow_s = slow_s
        self.seen: dict[str, int] = {}

    def try_one(self, target: Target, data: bytes) -> None:
        """Give an input to a target; keep what goes wrong."""
        began = time.process_time()
        try:
            target.run(data)
        except target.refusals:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked for
            self._keep(data, _kind_of(error))
        spent_s = time.process_time() - began
        if spent_s > self._slow_s:
            self._keep(data, f"slow: {spent_s:.0f} s of CPU")

    def _keep(self, data: bytes, kind: str) -> None:
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if self.seen[kind] > _MOST_EXAMPLES:
            return
        name = hashlib.sha256(data).hexdigest()[:16]
        (self._folder / name).write_bytes(data)
        with (self._folder / "findings.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, "input": name}) + "\n")


def kinds_in(folder: Path) -> list[str]:
    """The kinds of findings that a folder holds."""
    path = folder / "findings.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return sorted({json.loads(line)["kind"] for line in lines})


def _kind_of(error: Exception) -> str:
    """Name an error by its class and by where in this project it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).resolve().parents[2])
    ours = [
        each for each in frames if each.filename.startswith(root) and ".venv" not in each.filename
    ]
    at = ours[-1]
    return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno} in {at.name}"
