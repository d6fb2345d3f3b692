"""What a site file may say about witnesses, and what it is told when it says something else."""

import pytest

from adapters.site import SiteInvalid, load_site
from tests.factories import SITE

KEY = "nadi.example/audit+7e0f0f3c+AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"


def problems(text: str) -> str:
    with pytest.raises(SiteInvalid) as refused:
        load_site(SITE + text)
    return "\n".join(str(problem) for problem in refused.value.problems)


def test_every_kind_can_be_named() -> None:
    site = load_site(
        SITE
        + """
witnesses:
  mount: {kind: file, path: /mnt/worm/nadi.log, every_s: 30}
  sister: {kind: http, url: "https://other.example/witness/checkpoints", timeout_s: 5}
  logs: {kind: syslog, host: logs.example}
  auditor: {kind: email, to: a@x.example, sender: n@h.example, smtp: "mail.example:25"}
  paper: {kind: qr, folder: /srv/print, format: png}
"""
    )

    assert [entry.kind for entry in site.witnesses.values()] == [
        "file",
        "http",
        "syslog",
        "email",
        "qr",
    ]
    assert load_site(SITE).witnesses == {}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{kind: fax}", "witnesses.mount.kind: unknown kind; known: email, file, http, qr, syslog"),
        ("{path: /x}", "witnesses.mount: needs `kind`; known: email, file"),
        ("{kind: file, path: relative}", "must be an absolute path"),
        ("{kind: file}", "path: is missing"),
        ("{kind: http, url: ftp://x}", "url: must be http:// or https://"),
        ("{kind: email, to: a@b.c, sender: a@b.c}", "needs either smtp or folder"),
        ("{kind: email, to: a@b.c, sender: a@b.c, smtp: mail}", "smtp: must be host:port"),
        ("{kind: qr, folder: /x, format: gif}", "format: must be 'svg' or 'png'"),
        ("{kind: file, path: /x, pth: 1}", "unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(entry: str, says: str) -> None:
    assert says in problems(f"witnesses:\n  mount: {entry}\n")


def test_a_key_that_is_none_is_refused() -> None:
    assert "keys/audit.pub" in problems(f"witness_for: ['{KEY}']\n")
