"""(5) The narrative of a result: what was found, from what, by whom, and how far to trust it."""

from collections.abc import Mapping, Sequence
from html import escape

from gateway.core.remembered import once_per_object
from gateway.core.result_frame import InputUsed
from gateway.core.result_terms import Json, limits_of
from models.manifest import Answer, Input, Manifest

_XHTML = "http://www.w3.org/1999/xhtml"
_NO_UNIT = "1"


def narrative_of(manifest: Manifest, *paragraphs: str) -> Json:
    """Write the text of a result.

    Args:
        manifest: Of the model.
        paragraphs: The finding first, in bold; empty ones are left out.
    """
    first, *others = paragraphs
    more = "".join(f"<p>{_xml(text)}</p>" for text in others if text)
    text = f"<p><b>{_xml(first)}</b></p>{more}{_fine_print(manifest)}"
    return {"status": "generated", "div": f'<div xmlns="{_XHTML}">{text}</div>'}


def summary_of(manifest: Manifest, answers: Sequence[Answer], inputs: Sequence[InputUsed]) -> str:
    """Say in one glance what was found: the chief answer, or each label of a panel.

    Args:
        manifest: Of the model.
        answers: Of its outputs, in their order.
        inputs: What the model was given.
    """
    used, total = sum(each.status == "present" for each in inputs), len(inputs)
    told = answers if manifest.panel else answers[:1]
    said = " ".join(answer.describe(used=used, total=total) for answer in told)
    return f"{manifest.panel.label}: {said}" if manifest.panel else said


def basis_of(manifest: Manifest, inputs: Sequence[InputUsed]) -> str:
    """Name what the answer rests on, in a sentence; empty where nothing was there."""
    shown = [text for each in inputs if (text := _input_text(_labels(manifest), each))]
    return f"Based on: {', '.join(shown)}." if shown else ""


def _input_text(labels: Mapping[str, tuple[str, Input | None]], used: InputUsed) -> str:
    if used.status != "present" or used.id not in labels:
        return ""
    label, given = labels[used.id]
    on = f" ({used.effective.date().isoformat()})" if used.effective else ""
    value = "" if used.value is None else f" {_value_text(given, used.value, used.unit)}"
    return f"{label}{value}{on}"


def _value_text(given: Input | None, value: float, unit: str) -> str:
    """Write a value as people do: a coded answer in its words, a bare number without a unit."""
    for known in given.categories if given else ():
        if known.value == value:
            return known.display or known.code
    words = (given and given.unit_text) or ("" if unit == _NO_UNIT else unit)
    return f"{value:.4g} {words}".rstrip()


@once_per_object
def _labels(manifest: Manifest) -> Mapping[str, tuple[str, Input | None]]:
    """Give by its id what people call an input, and the input where it is a number."""
    others = {"image": manifest.image, "text": manifest.text}
    named: dict[str, tuple[str, Input | None]] = {
        name: (part.label, None) for name, part in others.items() if part
    }
    return named | {each.id: (each.label, each) for each in manifest.inputs}


@once_per_object
def _fine_print(manifest: Manifest) -> str:
    by = f"Made by AI ({manifest.title} {manifest.version}); not yet reviewed by a clinician."
    return f"<p>{_xml(by)}</p><p>{_xml(limits_of(manifest))}</p>"


def _xml(text: str) -> str:
    return escape(text, quote=False)
