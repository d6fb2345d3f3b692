#!/bin/sh
# Renew both lock files from pyproject.toml. Needs uv (pip install uv).
set -eu
common="--universal --no-strip-extras --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet"
uv pip compile pyproject.toml --group build $common --output-file requirements.lock "$@"
uv pip compile pyproject.toml --group build --group dev --extra quantize --extra tflite $common \
  --constraint requirements.lock --output-file requirements-dev.lock "$@"
