"""Records what tf2onnx makes of the tests' TFLite networks, since it needs TensorFlow (2 GB).

python -m venv converter && converter/bin/pip install tf2onnx tensorflow
PYTHONPATH=. .venv/bin/python scripts/record_tf2onnx.py converter/bin/python tests/data/tf2onnx
"""

import sys
from pathlib import Path

from models.convert import run_converter
from tests.tflite_models import float_model, image_model, int8_model

NETWORKS = {
    "float": float_model(),
    "int8": int8_model(),
    "fixed-batch": int8_model(batch=2),
    "image": image_model(repeats=2),
}


def main(python: Path, target: Path) -> None:
    """Write each network and what was made of it."""
    target.mkdir(parents=True, exist_ok=True)
    for name, content in NETWORKS.items():
        original = target / f"{name}.tflite"
        original.write_bytes(content)
        (target / f"{name}.onnx").write_bytes(run_converter(python, original))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
