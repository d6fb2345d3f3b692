"""`nadi backfill run` asks an EHR for nothing that is no resource type."""

from pathlib import Path

from typer.testing import CliRunner

from gateway.cli.main import app


def test_a_misspelt_resource_type_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    run = ["backfill", "run", "ehr", "--types", "Patient, Observaton", "--data-dir", str(tmp_path)]

    shown = CliRunner().invoke(app, run)

    assert shown.exit_code == 2
    assert "no resource type 'Observaton'; did you mean 'Observation'?" in shown.output
    assert not list(tmp_path.iterdir())
