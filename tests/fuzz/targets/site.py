"""Site files: every problem is named, none is a crash."""

from pathlib import Path

from adapters.site import load_site
from adapters.site_yaml import SiteInvalid
from tests.factories import SITE
from tests.fuzz.target import Target

_SITES = Path(__file__).resolve().parents[3] / "adapters" / "sites"


def run(data: bytes) -> None:
    """Read a site file."""
    load_site(data.decode())


def seeds() -> list[bytes]:
    """Give the site of the tests and the examples."""
    return [SITE.encode(), *(path.read_bytes() for path in sorted(_SITES.glob("*.yaml")))]


TARGET = Target(run, seeds, (SiteInvalid, UnicodeDecodeError), longest=8192)
