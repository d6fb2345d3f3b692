import pytest

from gateway.core.errors import Forbidden
from gateway.core.principal import PERMISSIONS, Permission, Principal, Role


def test_every_role_has_its_line_in_the_table():
    assert PERMISSIONS.keys() == set(Role)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_role_may_what_the_table_says_and_nothing_else(role: Role, permission: Permission):
    who = Principal("1", "somebody", role)

    assert who.may(permission) == (permission in PERMISSIONS[role])


def test_only_an_ehr_may_push():
    assert [role for role in Role if Permission.PUSH in PERMISSIONS[role]] == [Role.EHR]


def test_who_lacks_a_permission_is_told_role_and_permission_only():
    with pytest.raises(Forbidden) as refused:
        Principal("1", "ZZCANARY", Role.OPERATOR).require(Permission.PUSH)

    assert refused.value.message == "Role 'operator' does not permit 'push'."


def test_who_has_a_permission_passes():
    Principal("1", "ehr", Role.EHR, "ehr").require(Permission.PUSH)
