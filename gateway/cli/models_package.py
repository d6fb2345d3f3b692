"""`nadi models key`, `pack` and `verify`: what a maker of models does, on any machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    err,
    explained,
    fail,
    has_database,
    noun,
    opened_as,
    out,
    print_json,
    settings_for,
)
from gateway.core.clock import utc_now
from gateway.core.model_register import ModelConflict, ModelRetired

if TYPE_CHECKING:
    from models.package import Package
    from models.signature import Trust

key = noun("The keys that packages are signed with.")

PackageFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="The package.")
]
Signers = Annotated[
    list[str] | None,
    typer.Option(
        "--signer",
        metavar="KEY",
        help="A public key, or a file of one, instead of the site's list. Repeatable.",
    ),
]


@key.command()
@explained
def new(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Make a key: the private one for you alone, the public one for the sites that trust you."""
    from models.signature import KeyUnusable, key_id, new_key, written_key  # noqa: PLC0415

    try:
        public = new_key(file).public_key()
    except KeyUnusable as error:
        fail(f"{error}.")
    written, its_id = written_key(public), key_id(public)
    public_file = Path(f"{file}.pub")
    public_file.write_text(f"{written}\n", encoding="ascii")
    if as_json:
        told = {"file": str(file), "public_file": str(public_file)}
        print_json({**told, "key": written, "key_id": its_id})
        return
    out.print(f"[green]✓[/] {escape(str(file))}: the private key. Keep it secret and backed up.")
    out.print(f"[green]✓[/] {escape(str(public_file))}: the public key")
    out.print(f"public key  {written}", soft_wrap=True)
    out.print(f"key id      {its_id}")
    out.print("[dim]Tell sites the public key by a way that nobody else can change.[/]")


@explained
def pack(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The model's folder.")
    ],
    *,
    key_file: Annotated[Path, typer.Option("--key", help="Your private key.")],
    target: Annotated[
        Path | None,
        typer.Option("--out", help="The package.", show_default="NAME-VERSION.nadi.zip here"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make one signed file of a model's folder; whatever a gateway would refuse is refused here."""
    from models.package import SUFFIX, pack  # noqa: PLC0415 - keep `--help` quick
    from models.refusals import PackageRefused  # noqa: PLC0415
    from models.registry import ModelUnusable, load  # noqa: PLC0415
    from models.signature import KeyUnusable, read_key  # noqa: PLC0415

    try:
        private = read_key(key_file)
        manifest = load(folder).manifest
        path = target or Path(f"{manifest.name}-{manifest.version}{SUFFIX}")
        digest = pack(folder, private, path)
    except (PackageRefused, ModelUnusable, KeyUnusable, ValueError) as error:
        fail(f"{error}.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    reference = f"{manifest.name}@{manifest.version}"
    if as_json:
        print_json({"file": str(path), "model": reference, "digest": digest})
        return
    out.print(f"[green]✓[/] {escape(str(path))}: {reference}, {path.stat().st_size:,} bytes")
    out.print(f"digest {digest}", soft_wrap=True)


@explained
def verify(
    file: PackageFile,
    *,
    signers: Signers = None,
    domains: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-operators",
            metavar="DOMAIN",
            help="With --signer: a further domain of operators. Repeatable.",
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check a package as an import would, and name each check; nothing is changed."""
    from models.package import verified  # noqa: PLC0415 - keep `--help` quick
    from models.refusals import PackageRefused  # noqa: PLC0415

    trust = _given(signers, domains or []) if signers else site_trust(data_dir)
    checks: list[dict[str, object]] = []

    def told(check: str, says: str) -> None:
        checks.append({"check": check, "passed": True, "says": says})
        if not as_json:
            out.print(f"[green]✓[/] {check}: {escape(says)}", soft_wrap=True)

    model = digest = None
    try:
        with verified(file, trust, day=utc_now().date(), told=told) as package:
            if register := _on_register(package, data_dir):
                told("register", register)
            model, digest = package.reference, package.digest
    except (PackageRefused, ModelRetired, ModelConflict) as error:
        check = error.check if isinstance(error, PackageRefused) else "register"
        says = str(error).rstrip(".")
        checks.append({"check": check, "passed": False, "says": says})
        if not as_json:
            err.print(f"[red]✗[/] {check}: {escape(says)}.", soft_wrap=True)
    if as_json:
        found = {"file": str(file), "model": model, "digest": digest}
        print_json({**found, "verified": digest is not None, "checks": checks})
    if digest is None:
        raise typer.Exit(EXIT_NOT_SO)


def _on_register(package: "Package", data_dir: Path | None) -> str:
    """Say how the register would take it; nothing where there is no installation.

    Raises:
        ModelRetired: This digest was retired.
        ModelConflict: Another digest is active under its name and version.
    """
    settings = settings_for(data_dir)
    if not has_database(settings):
        return ""
    from gateway.core.model_register import card_of  # noqa: PLC0415 - with the database only
    from gateway.store.registering import insist_on_room  # noqa: PLC0415

    key = package.signature.key
    card = card_of(package.manifest, package.digest, signer=package.signer, signer_key=key)
    with opened_as(settings) as nadi, nadi.store.read() as uow:
        insist_on_room(uow, card)
        is_known = uow.models.get(package.digest) is not None
    known = "in service here already; importing it again changes nothing"
    return known if is_known else "not on this installation's register yet"


def site_trust(data_dir: Path | None) -> "Trust":
    """Whom the site in force trusts; nobody where there is none.

    Raises:
        GatewayError: There is an installation, but it can't be read.
    """
    from models.signature import Trust  # noqa: PLC0415

    settings = settings_for(data_dir)
    if not has_database(settings):
        return Trust()
    with opened_as(settings) as nadi:
        return nadi.site().trust


def _given(signers: list[str], domains: list[str]) -> "Trust":
    """Take the keys of the command line for trusted."""
    from models.signature import KeyUnusable, Trust, public_key, written_key  # noqa: PLC0415

    trusted = {}
    for each in signers:
        file = Path(each)
        written = file.read_text("utf-8").strip() if file.is_file() else each
        try:
            trusted[written_key(public_key(written))] = f"--signer {each}"
        except KeyUnusable as error:
            fail(f"--signer {each}: {error}.", code=EXIT_USAGE)
    return Trust(trusted, frozenset(domains))
