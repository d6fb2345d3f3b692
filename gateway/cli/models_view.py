"""What people and scripts are shown of a model."""

from rich.markup import escape

from gateway.cli.context import iso, moment, out, table
from gateway.cli.models_installed import IN_SERVICE, UNREGISTERED, Listed
from gateway.core.model_register import Card, RegisteredModel
from models.manifest import ImageInput, Input, Manifest
from models.registry import InstalledModel

_DAY_H = 24
_COLOURS = {IN_SERVICE: "green", "retired": "yellow", UNREGISTERED: "cyan"}


def colour_of(each: Listed) -> str:
    """The colour of its state."""
    return _COLOURS.get(each.state, "red")


def show_model(each: Listed) -> None:
    """Print everything that is known of a model."""
    colour = colour_of(each)
    out.print(f"[bold]{each.name}@{each.version}[/]  [{colour}]{each.state}[/]  {format_of(each)}")
    out.print(f"[dim]{each.digest}[/]")
    if each.reason:
        out.print(escape(each.reason), soft_wrap=True)
    for what, said in facts(each.line) if each.line else ():
        out.print(f"[bold]{what}:[/] {escape(said)}", soft_wrap=True)
    if each.model is None:
        return
    _show_inputs(each.model.manifest)
    for what, said in gate_facts(each.model):
        out.print(f"[bold]{what}:[/] {escape(said)}", soft_wrap=True)
    _show_metrics(each.model)


def facts(line: RegisteredModel) -> list[tuple[str, str]]:
    """What people have to know of a model before they use it."""
    card = line.card
    retired = f"{moment(line.retired_ms)} by {line.retired_by}" if line.retired_ms else ""
    told = [
        ("Title", card.title),
        ("Intended use", card.intended_use),
        ("Not for", card.not_for),
        *(("Contraindication", said) for said in card.contraindications),
        ("Manufacturer", card.manufacturer),
        ("Regulatory", regulatory(card)),
        ("Valid", validity(card)),
        ("Signed by", f"{card.signer} {card.signer_key}".strip()),
        ("Registered", f"{moment(line.registered_ms)} by {line.registered_by}"),
        ("Retired", retired),
    ]
    return [(what, said) for what, said in told if said]


def gate_facts(model: InstalledModel) -> list[tuple[str, str]]:
    """What the gate of its quantized form allowed, and what was measured."""
    from models.evaluation_report import ReportUnusable, read_report  # noqa: PLC0415 - NumPy

    manifest = model.manifest
    if manifest.gate is None or manifest.evaluation is None:
        said = "none: " + ("no report" if manifest.weights.is_quantized else "not quantized")
        return [("Gate", said)]
    try:
        report = read_report((model.folder / manifest.evaluation).read_bytes())
        told = report.told(manifest.gate) if report.overall else {}
    except (OSError, ReportUnusable) as error:
        return [("Gate", f"its report can't be read: {error}")]
    return [(f"Gate, {what}", said) for what, said in told.items()]


def regulatory(card: Card) -> str:
    """What an authority says of it, in words."""
    device = f"class {card.device_class} in {card.jurisdiction}" if card.device_class else ""
    if card.device_class == "none":
        device = f"no medical device in {card.jurisdiction}"
    parts = (
        "demonstration only, not for clinical use" if card.demonstration_only else "",
        device,
        f"licence {card.licence_number}" if card.licence_number else "",
        f"change protocol {card.change_protocol}" if card.change_protocol else "",
    )
    named = ", ".join(part for part in parts if part)
    return f"{named[0].upper()}{named[1:]}." if named else "Nothing is said."


def validity(card: Card) -> str:
    """On which days it may run, in words."""
    first, last = card.not_before, card.not_after
    parts = (f"from {first}" if first else "", f"until {last}" if last else "")
    return " ".join(part for part in parts if part) or "without end"


def _show_inputs(manifest: Manifest) -> None:
    listing = table("INPUT", "UNIT", "AT MOST", "PLAUSIBLE", "IF MISSING", "CODES")
    for spec in manifest.inputs:
        listing.add_row(*_input_row(spec))
    if manifest.inputs:
        out.print(listing)
    for what, said in image_facts(manifest.image) if manifest.image else ():
        out.print(f"[bold]{what}:[/] {escape(said)}", soft_wrap=True)
    if text := manifest.text:
        languages = ", ".join(text.languages)
        shown = f"{text.label}: {languages}, at most {text.max_tokens} tokens"
        out.print(f"[bold]Text:[/] {escape(shown)}", soft_wrap=True)


def image_facts(image: ImageInput) -> list[tuple[str, str]]:
    """Which images a model takes, and what becomes of any other."""
    channels = "1 channel" if image.channels == 1 else f"{image.channels} channels"
    size = f"{image.height} x {image.width} pixels, {channels}, {image.resize}"
    unstated = {
        "refuse": "it is refused",
        "accept": "it is taken for one",
    }[image.if_unstated]
    told = [
        ("Image", f"{image.label}: {', '.join(image.modalities)} as {size}"),
        ("Body part", ", ".join(image.body_parts) or "any"),
        ("Views", ", ".join(image.views) or "any"),
        ("If no record says which modality or body part it is", unstated),
        ("Grey levels", f"window {image.window}, at least {image.min_contrast:g} of contrast"),
        ("Smallest side", f"{image.min_side_px} pixels"),
    ]
    if image.likeness:
        told.append(("Likeness", "an image that plainly is none of the kind is refused"))
    return told


def _input_row(spec: Input) -> list[str]:
    age = "" if spec.max_age_h is None else _age(spec.max_age_h)
    low_high = f"{spec.plausible[0]:g} to {spec.plausible[1]:g}"
    codes = ", ".join(code.code for code in spec.codes)
    return [spec.id, spec.unit, age, low_high, spec.missing, codes]


def _age(hours: float) -> str:
    """Give an age as people say it: in days, where it is whole days."""
    days, rest = divmod(hours, _DAY_H)
    count, unit = (hours, "hour") if rest else (days, "day")
    return f"{count:g} {unit}{'' if count == 1 else 's'} old"


def _show_metrics(model: InstalledModel) -> None:
    manifest = model.manifest
    if manifest.metrics:
        listing = table("METRIC", "VALUE", "95 % INTERVAL", "COHORT")
        for each in manifest.metrics:
            interval = "" if each.ci95 is None else f"{each.ci95[0]:.4f} to {each.ci95[1]:.4f}"
            listing.add_row(each.name, f"{each.value:.4f}", interval, escape(each.cohort))
        out.print(listing)
    out.print(f"[bold]Card:[/] {escape(str(model.folder / manifest.card))}", soft_wrap=True)


def format_of(each: Listed) -> str:
    """What its weights are; empty when its files are not here."""
    return each.model.manifest.weights.format if each.model else ""


def as_listed(each: Listed) -> dict[str, object]:
    """Give a model for scripts."""
    base: dict[str, object] = {
        "name": each.name,
        "version": each.version,
        "digest": each.digest,
        "format": format_of(each),
        "state": each.state,
        "reason": each.reason,
    }
    return {**base, **(as_registered(each.line) if each.line else {})}


def as_registered(line: RegisteredModel) -> dict[str, object]:
    """Give a line of the register for scripts."""
    card = line.card
    names = ("title", "intended_use", "not_for", "contraindications", "demonstration_only")
    more = ("manufacturer", "jurisdiction", "device_class", "licence_number", "change_protocol")
    return {
        **{name: getattr(card, name) for name in (*names, *more)},
        "not_before": card.not_before,
        "not_after": card.not_after,
        "signer": card.signer,
        "signer_key": card.signer_key,
        "registered_at": iso(line.registered_ms),
        "registered_by": line.registered_by,
        "retired_at": iso(line.retired_ms) if line.retired_ms else None,
        "retired_by": line.retired_by,
    }
