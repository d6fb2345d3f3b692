"""Does the patient permit this use? A pure decision with its reasons.

One room for each part: `request` (what is asked) and `resource` (what is known of the data),
`reading` (a Consent into a `record`, read once), `matching` (does a condition hold), `decision`
(what all consents together say) and `explaining` (every rule, and what would change the verdict).

Rules, told at length in docs/consent.md:

1. Only consents that are active, in their period and about this patient speak. The scope and the
   category only weaken permits: a denial of another scope denies all the same, unless it is
   plainly about something else: advance directives (adr), or research where that is not asked.
2. The base rule permits or denies where its conditions hold; nested provisions are exceptions to
   the one they stand in.
3. A permit needs certainty, a denial only a doubt: what is not known, and what is written in a
   vocabulary that is not known, never lets a permit apply and never lets a denial be avoided.
4. A purpose covers its descendants in v3-ActReason, but break-glass (BTG) is covered by BTG alone.
5. Any denial overrides every permit. When nothing applies, the default of the route holds, and
   that is deny unless the site says otherwise.
6. A Consent that can't be opened or read, or holds what R4 does not define, denies everything.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html); IHE Privacy Consent on FHIR (PCF).
"""

from gateway.core.consent.breaking import decide_broken
from gateway.core.consent.decision import (
    STRICT,
    ConsentDecision,
    ConsentSettings,
    Obligation,
    decide,
)
from gateway.core.consent.explaining import Explanation, RuleVerdict, explain
from gateway.core.consent.labels import high_water_mark
from gateway.core.consent.reading import read_consent
from gateway.core.consent.record import ConsentRecord, unreadable_consent
from gateway.core.consent.request import Actor, ConsentRequest, ResourceFacts
from gateway.core.consent.resource import resource_facts
from gateway.core.consent.use import (
    PLAIN,
    READ,
    WRITE,
    About,
    Asks,
    ConsentTerms,
    Implicit,
    Model,
    Question,
    question,
)
from gateway.core.consent.vocabulary import ACT_CODE, ACT_REASON, BREAK_GLASS, CONSENT_SCOPE

__all__ = [
    "ACT_CODE",
    "ACT_REASON",
    "BREAK_GLASS",
    "CONSENT_SCOPE",
    "PLAIN",
    "READ",
    "STRICT",
    "WRITE",
    "About",
    "Actor",
    "Asks",
    "ConsentDecision",
    "ConsentRecord",
    "ConsentRequest",
    "ConsentSettings",
    "ConsentTerms",
    "Explanation",
    "Implicit",
    "Model",
    "Obligation",
    "Question",
    "ResourceFacts",
    "RuleVerdict",
    "decide",
    "decide_broken",
    "explain",
    "high_water_mark",
    "question",
    "read_consent",
    "resource_facts",
    "unreadable_consent",
]
