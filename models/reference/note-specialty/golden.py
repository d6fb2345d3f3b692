# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Made-up notes whose answers are recorded; they are about nobody."""

NOTES = {
    "operation": """Open appendectomy for perforated appendicitis. The abdomen was entered through
        a muscle-splitting incision, the appendix was ligated at its base and removed.""",
    "imaging": """CT of the abdomen and pelvis with intravenous contrast. Axial images were
        obtained. No free air, no collection, no enlarged lymph nodes.""",
    "urinary tract": """Cystoscopy and right ureteroscopy with laser fragmentation of a 9 mm stone,
        double-J stent left in place.""",
    "general": """Fever and dry cough for five days, mild body ache, lungs clear. Supportive care
        and review in three days.""",
    "knee": """Left knee pain for eight months after a twisting injury, giving way on stairs.
        Positive McMurray test. Referred for a possible meniscal tear.""",
    "seizure": """First generalized tonic-clonic seizure, three minutes, followed by confusion. EEG
        and opinion on starting an anticonvulsant are requested.""",
    "back pain": """Chronic low back pain with left L5 radiculopathy. Transforaminal epidural
        steroid injection under fluoroscopy is planned.""",
    "heart": """Treadmill stress test by the Bruce protocol, stopped at 7 minutes for dyspnea, no
        significant ST segment changes.""",
    "eye": """Gradual painless loss of vision in both eyes. Dense nuclear cataracts, intraocular
        pressure normal. Referred for evaluation.""",
    "child": "Well-child visit of a 9-month-old infant, feeding well, immunizations given today.",
    "mind": """Low mood, poor sleep and loss of interest for two months, no suicidal ideation.
        Psychiatric evaluation is requested.""",
    "unclear": "Follow-up visit. Feels better. Continue the same treatment.",
    "abbreviated, capitals, accents": """PT C/O R FLANK PAIN X 2/7, HÆMATURIA +, K/C/O RENAL
        CALCULI. ADV USG KUB.""",
}
"""Case → note; in the order of the cases."""

TEXTS = {name: " ".join(text.split()) for name, text in NOTES.items()}
