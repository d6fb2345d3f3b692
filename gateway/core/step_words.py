"""What the steps of the audit log are called in papers for people outside: no word of a machine."""

_WORDS = {
    "start": "a part of the gateway was started",
    "stop": "a part of the gateway was stopped",
    "note": "something was noted for the record",
    "receive": "data was received",
    "consent": "consent was asked",
    "admit": "a computation was planned",
    "refuse": "a computation was refused",
    "supersede": "a computation was replaced by a newer one",
    "cancel": "a computation was stopped",
    "fail": "a computation could not be done",
    "complete": "a computation was completed",
    "retry": "a computation was tried again",
    "rescue": "a computation was taken over",
    "sign-off": "a clinician signed off a result",
    "infer": "a model computed with data",
    "feedback": "a clinician said what a result was worth",
    "image-refuse": "images were not taken",
    "sender-refuse": "a sender was turned away",
    "deliver": "a result was written into a system",
    "retract": "a result was marked as wrong in a system",
    "fetch": "a system was asked for more data",
    "read": "data was read",
    "query": "data was searched for",
    "export": "a copy was taken",
    "verify": "the log was verified",
    "forbid": "somebody asked for what their role does not permit",
    "sign-in-failure": "somebody came without a valid credential",
    "configure": "the configuration was changed",
    "credential": "a credential was added or withdrawn",
    "model": "a model was registered or retired",
    "keys": "keys were changed",
    "restore": "a backup was restored",
    "consent-record": "a consent or refusal was recorded",
    "consent-import": "a consent or refusal was imported",
    "consent-revoke": "a consent or refusal was taken back",
    "break-glass": "emergency access was used",
    "break-glass-review": "an emergency access was reviewed",
    "canary": "the self-test was run",
    "erase": "a patient's data was erased",
    "expire": "data was removed after its time",
    "reopen": "an erased patient was begun anew",
    "hold": "a legal hold was placed or lifted",
    "rectify": "wrong data was corrected",
    "request": "a patient's request was taken or answered",
}

#: Our own names of all steps.
STEPS = frozenset(_WORDS)


def step_in_words(event: str) -> str:
    """Say what a step was; one that has no words yet keeps its name, without hyphens."""
    return _WORDS.get(event, event.replace("-", " "))
