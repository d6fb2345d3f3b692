from gateway.core.consent.vocabulary import (
    DENIED_BY,
    PERMITTED_BY,
    PURPOSES,
    SENSITIVITY_DENIED_BY,
    SENSITIVITY_PERMITTED_BY,
    system_of,
)


def test_a_site_can_name_every_purpose_but_not_all_of_them_at_once():
    assert {"TREAT", "TREATDS", "BTG", "MLTRAINING"} <= set(PURPOSES)
    assert "PurposeOfUse" not in PURPOSES
    assert all(PERMITTED_BY[code] for code in PURPOSES)


def test_nothing_but_break_glass_covers_break_glass():
    assert PERMITTED_BY["BTG"] == DENIED_BY["BTG"] == {"BTG"}
    assert not any("BTG" in above for code, above in DENIED_BY.items() if code != "BTG")


def test_a_denial_covers_all_that_a_permit_covers():
    assert all(PERMITTED_BY[code] <= DENIED_BY[code] for code in PERMITTED_BY)
    assert all(
        SENSITIVITY_PERMITTED_BY[code] <= SENSITIVITY_DENIED_BY[code]
        for code in SENSITIVITY_PERMITTED_BY
    )


def test_purposes_stand_under_their_ancestors():
    assert PERMITTED_BY["CLINTRCHPC"] == {"CLINTRCHPC", "CLINTRCH", "HRESCH", "PurposeOfUse"}
    assert PERMITTED_BY["CAREMGT"] == {"CAREMGT", "HOPERAT", "PurposeOfUse"}


def test_code_systems_have_one_name():
    assert system_of("urn:oid:2.16.840.1.113883.5.8") == system_of(
        "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    )
    assert system_of("http://x") == "http://x"
    assert system_of(None) == ""
