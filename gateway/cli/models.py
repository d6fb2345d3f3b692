"""`nadi models`: what is installed and registered, packed and verified, imported and retired."""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import AsJson, DataDir, err, explained, fail, noun, out, print_json, table
from gateway.cli.context import settings_for as settings
from gateway.cli.models_convert import convert
from gateway.cli.models_evaluate import evaluate
from gateway.cli.models_installed import installed
from gateway.cli.models_package import key, pack, verify
from gateway.cli.models_quantize import quantize
from gateway.cli.models_register import import_package, retire
from gateway.cli.models_view import as_listed, colour_of, format_of, show_model
from gateway.core.model_register import Standing

app = noun("The models: what is installed and registered, and what each needs and gives.")


@app.command(name="list")
@explained
def list_models(
    everything: Annotated[
        bool, typer.Option("--all", help="Retired ones too, which --json always gives.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the models, as the register has them and as they lie in their folders."""
    found = installed(settings(data_dir)).listed
    if as_json:
        print_json([as_listed(each) for each in found])
        return
    shown = [each for each in found if everything or each.state != Standing.RETIRED]
    listing = table("NAME", "VERSION", "FORMAT", "STATE", "SIGNER", "DIGEST")
    for each in shown:
        state = f"[{colour_of(each)}]{each.state}[/]"
        signer = escape(each.line.card.signer) if each.line else ""
        listing.add_row(
            escape(each.name), each.version, format_of(each), state, signer, each.digest[:16]
        )
    none = "All models are retired; --all shows them." if found else "No model is installed."
    out.print(listing if shown else none)
    for each in shown:
        if each.state in {"altered", "unusable"}:
            err.print(f"[red]✗[/] {escape(f'{each.name}: {each.reason}')}", soft_wrap=True)


@app.command()
@explained
def show(
    name: Annotated[str, typer.Argument(help="Name, name@version, or a digest.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what one model is for, who answers for it, what it needs and how good it is."""
    found = installed(settings(data_dir))
    candidates = found.search(name)
    if not candidates:
        fail(f"There is no model {name}; `nadi models list` shows those that are.")
    running = found.find(name)
    # What runs first; of the others, what was registered last.
    in_use = (each for each in candidates if running is not None and each.model is running)
    chosen = next(in_use, candidates[-1])
    if as_json:
        manifest = chosen.model.manifest.model_dump(mode="json") if chosen.model else None
        print_json({**as_listed(chosen), "manifest": manifest})
        return
    show_model(chosen)


app.command()(quantize)
app.command()(evaluate)
app.command()(convert)
app.add_typer(key, name="key")
app.command()(pack)
app.command()(verify)
app.command(name="import")(import_package)
app.command()(retire)
