"""`nadi models import` and `retire`: the two ways in which the register of models changes."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    err,
    explained,
    fail,
    opened,
    out,
    print_json,
)
from gateway.cli.models_package import PackageFile
from gateway.cli.models_view import as_registered, facts
from gateway.core.clock import utc_now
from gateway.core.model_register import RegisteredModel
from models.versions import spellings

if TYPE_CHECKING:
    from models.package import Package


@explained
def import_package(
    file: PackageFile,
    *,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Verify a package, try it on this machine and put it on the register; live, no restart."""
    from gateway.cli.models_change import keep, other_signers, routes_of  # noqa: PLC0415
    from models.package import verified  # noqa: PLC0415 - keep `--help` quick
    from models.refusals import PackageRefused  # noqa: PLC0415
    from models.registry import ModelUnusable  # noqa: PLC0415

    with opened(data_dir) as nadi:
        try:
            with verified(file, nadi.site().trust, day=utc_now().date()) as package:
                entry = keep(nadi, package)
                gate = _gate_of(package)
        except (PackageRefused, ModelUnusable) as error:
            fail(f"{error}.")
        line = entry.line
        routes = routes_of(nadi, line.card)
        others = other_signers(nadi, line.card)
    if as_json:
        told = {"digest": line.card.digest, "is_new": entry.is_new, "routes": routes, "gate": gate}
        print_json({**told, **as_registered(line)})
        return
    _show_line(line, others)
    for what, measured in gate.items():
        out.print(f"[bold]Gate, {what}:[/] {escape(measured)}", soft_wrap=True)
    done = "is registered" if entry.is_new else "was registered already"
    out.print(
        f"[green]✓[/] {line.card.reference} {done}; digest {line.card.digest}", soft_wrap=True
    )
    _show_routes(routes)
    if not routes:
        short = spellings(line.card.name, line.card.version)[0]
        out.print(f"No route names it yet: give one `model: {short}` and `nadi site apply` it.")


@explained
def retire(
    model: Annotated[str, typer.Argument(help="Name@version, or a digest.")],
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, in a sentence; it is kept and shown.")
    ],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a model out of service for good, and stop every job and result that waits for it."""
    from gateway.cli.models_change import retire as retire_model  # noqa: PLC0415

    why = " ".join(reason.split())
    if not why:
        fail("Say why: --reason 'a sentence'.", code=EXIT_USAGE)
    with opened(data_dir) as nadi:
        done = retire_model(nadi, model, why)
    if as_json:
        told = {"model": done.card.reference, "digest": done.card.digest}
        print_json({**told, "stopped": done.stopped, "routes": done.instead})
        return
    out.print(f"[green]✓[/] {done.card.reference} is retired; it never runs again.")
    stopped = "1 waiting job was" if done.stopped == 1 else f"{done.stopped} waiting jobs were"
    out.print(f"{stopped} stopped.")
    _show_routes(done.instead)


def _gate_of(package: "Package") -> dict[str, str]:
    """What its gate allowed and what was measured; nothing for weights that are not quantized."""
    gate = package.manifest.gate
    return package.report.told(gate) if package.report and gate else {}


def _show_line(line: RegisteredModel, others: list[str]) -> None:
    for what, said in facts(line):
        out.print(f"[bold]{what}:[/] {escape(said)}", soft_wrap=True)
    for each in others:
        err.print(f"[yellow]![/] Other versions of {line.card.name} are by {escape(each)}.")


def _show_routes(routes: dict[str, str | None]) -> None:
    for route, model in routes.items():
        runs = f"runs {model} from now on" if model else "has no model: its events are refused"
        out.print(f"Route {route} {runs}.")
