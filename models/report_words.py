"""What a report of the gate says in words, told once where several kinds of kernels agree."""

import re
from collections.abc import Sequence

_FITTED = ("train", "calib")
_SETTING = re.compile(r"(?P<setting>vnni|avx2-exact|avx2|litert)(?P<rest>[,:] .*)", re.DOTALL)


def is_fitted_on(split: str) -> bool:
    """Whether a split is named as one that training or quantizing saw: `train…`, `calib…`."""
    return split.strip().lower().startswith(_FITTED)


def merged(reasons: Sequence[str]) -> list[str]:
    """Reasons, each once with all the settings it holds under: `vnni + avx2, all: …`."""
    settings: dict[str, list[str]] = {}
    for reason in reasons:
        found = _SETTING.fullmatch(reason)
        rest = found["rest"] if found else reason
        settings.setdefault(rest, []).extend([found["setting"]] if found else [])
    return [f"{' + '.join(names)}{rest}" for rest, names in settings.items()]
