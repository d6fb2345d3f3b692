"""`nadi patient`: what is held of a patient; erase it, or keep it for the law."""

from gateway.cli import patient_erase, patient_export, patient_hold, patient_rectify
from gateway.cli.context import noun

app = noun("What Nadi holds of one patient, and her rights in it.")
app.command()(patient_erase.held)
app.command()(patient_export.export)
app.command()(patient_rectify.rectify)
app.command()(patient_erase.erase)
app.command()(patient_erase.erase_restored)
app.command()(patient_erase.compact)
app.command()(patient_hold.hold)
app.command()(patient_hold.lift)
app.command()(patient_hold.holds)
