"""What people state of an incident: a YAML file in the bundle, to be filled in and given back.

Source: DPDP Rules 2025, Rule 7: the headings.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.core.errors import ConfigurationError
from gateway.core.incident import Statements

Words = Annotated[str, StringConstraints(max_length=10_000, strip_whitespace=True)]

#: Name of the file in a bundle.
STATEMENTS = "statements.yaml"
_TEMPLATE = """\
# What only people know of incident {id}. Fill in, and give it back:
#   nadi audit incident … --statements {name}
# Never name a patient here: these words stand in every paper.
incident: {id}
# What kind of breach it was (notice, Board, CERT-In).
nature: ""
# Where it happened.
location: ""
# Facts, circumstances and reasons that led to it (Board).
reasons: ""
# What it may mean for patients (notice, Board).
impact: ""
# What was done, and will be, to mitigate it (notice, Board, CERT-In): a list.
measures: []
# What a patient can do: a list; advice that fits most breaches stands there while it is empty.
safety: []
# On the person who caused it (Board).
findings: ""
# Against its happening again (Board): a list.
remedial: []
# How and when patients were told (Board).
intimations: ""
"""


class StatementsFile(BaseModel):
    """The file as it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    incident: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    nature: Words = ""
    location: Words = ""
    reasons: Words = ""
    impact: Words = ""
    measures: list[Words] = []
    safety: list[Words] = []
    findings: Words = ""
    remedial: list[Words] = []
    intimations: Words = ""

    def statements(self) -> Statements:
        """Give what was stated."""
        return Statements(
            nature=self.nature,
            location=self.location,
            reasons=self.reasons,
            impact=self.impact,
            measures=tuple(self.measures),
            safety=tuple(self.safety),
            findings=self.findings,
            remedial=tuple(self.remedial),
            intimations=self.intimations,
        )


def template(incident_id: str) -> str:
    """Give the file with nothing stated yet."""
    return _TEMPLATE.format(id=incident_id, name=STATEMENTS)


def read_statements(path: Path) -> StatementsFile:
    """Read what was stated.

    Raises:
        ConfigurationError: The file can't be read, or is not as the template is.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
        return StatementsFile.model_validate(content)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigurationError(f"{path} can't be read ({type(error).__name__}).") from error
    except ValidationError as error:
        keys = ", ".join(sorted({str(issue["loc"][0]) for issue in error.errors() if issue["loc"]}))
        message = f"{path} is not as the template is: look at {keys or 'the whole'}."
        raise ConfigurationError(message) from error
