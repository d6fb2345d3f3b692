"""What the commands about the audit log show alike."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


def progress_bar(console: Console) -> Progress:
    """Make the bar for long work; it vanishes when that is done."""
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
