"""What was tried to quantize a network, as JSON that a package can carry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import onnxruntime as ort

from models.checksums import sha256
from models.measure import Measurement
from models.runtime import cpu_kernel_class
from models.subject import Subject
from models.tensors import batch_size
from models.trials import Trial, kernels_here

_REPORT_VERSION = 1


def as_json(subject: Subject, trials: Sequence[Trial], chosen: Trial | None) -> dict[str, Any]:
    """Everything that was found out, for whoever wants to check the choice.

    Args:
        subject: What was to be quantized.
        trials: What was tried.
        chosen: What was kept.
    """
    return {
        "report_version": _REPORT_VERSION,
        "model": subject.name,
        "fp32_sha256": sha256(subject.fp32),
        "output": subject.output,
        "gate": subject.gate.model_dump(mode="json"),
        "data": {
            "sha256": subject.data_sha256,
            "cases": len(subject.cases.truth),
            "calibration_cases": sum(map(batch_size, subject.calibration)),
        },
        "machine": {
            "kernel_class": cpu_kernel_class(),
            "kernels": kernels_here(),
            "runtime": f"onnxruntime {ort.__version__}",
            "threads": 1,
        },
        "chosen": chosen.name if chosen else None,
        "candidates": [_trial(each) for each in trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    made = trial.candidate
    return {
        "name": trial.name,
        "how": trial.how,
        "format": made.format if made else None,
        "sha256": sha256(made.model) if made else None,
        "size_bytes": len(made.model) if made else None,
        "left_alone": list(made.left_alone) if made else [],
        "passes": trial.passes,
        "failure": trial.failure or None,
        "measured": _measured(trial.measured or {}),
        "verdict": trial.verdict.as_json() if trial.verdict else None,
    }


def _measured(settings: Mapping[str, Measurement]) -> dict[str, Any]:
    found = {name: asdict(each) for name, each in settings.items()}
    for figures in found.values():
        figures["p50_ms"] = {str(size): ms for size, ms in figures["p50_ms"].items()}
    return found
