"""How tests call a command of `nadi` on an installation; the fixture `run` gives one."""

from pathlib import Path
from typing import Protocol

from click.testing import Result


class Run(Protocol):
    """Runs a command on an installation of the test's own."""

    def __call__(
        self,
        *arguments: str,
        code: int = 0,
        credential: Path | None = None,
        stdin: str | None = None,
    ) -> Result:
        """Run it.

        Args:
            arguments: The words after `nadi`, and after what the module's `COMMAND` says.
            code: The exit code that it has to end with.
            credential: File with the token of who runs it.
            stdin: What is typed.
        """
