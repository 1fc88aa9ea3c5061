"""What is said when a permission is missing."""

from __future__ import annotations

import pytest

from lb.discovery.permissions import missing_permission

SLICES = "endpointslices.discovery.k8s.io"


def refusal(user: str) -> str:
    """Return the sentence of the API server."""
    return (
        f'endpointslices.discovery.k8s.io is forbidden: User "{user}" cannot list resource "endpointslices" in API '
        'group "discovery.k8s.io" in the namespace "shop"'
    )


def test_a_service_account_gets_a_role_in_the_namespace_of_the_endpoints() -> None:
    assert missing_permission("list", SLICES, "shop", refusal("system:serviceaccount:podlb:lb")) == (
        "no permission to list endpointslices.discovery.k8s.io in namespace shop: grant it with: "
        "kubectl -n shop create role podlb --verb=list,watch --resource=endpointslices.discovery.k8s.io && "
        "kubectl -n shop create rolebinding podlb --role=podlb --serviceaccount=podlb:lb"
    )


def test_the_verb_that_is_missing_is_named() -> None:
    text = missing_permission("watch", "endpoints", "a", refusal("system:serviceaccount:podlb:lb"))
    assert text.startswith("no permission to watch endpoints in namespace a: ")
    assert "--verb=list,watch --resource=endpoints " in text


@pytest.mark.parametrize("user", ["jane", "jane@example.com", "system:serviceaccount:podlb"])
def test_anybody_else_is_bound_as_a_user(user: str) -> None:
    assert missing_permission("list", SLICES, "shop", refusal(user)).endswith(f"--role=podlb --user={user}")


def test_nothing_is_granted_to_everybody() -> None:
    text = missing_permission("list", SLICES, "shop", refusal("system:anonymous"))
    assert "no permission to list" in text
    assert "no credentials were sent: give the pod its service account's token" in text
    assert "kubectl" not in text


@pytest.mark.parametrize("text", ["", "status 403", "<html>Forbidden</html>", 'User "" cannot'])
def test_without_a_name_there_is_a_place_to_fill_in(text: str) -> None:
    assert missing_permission("list", SLICES, "shop", text).endswith(" --user=USER")


def test_it_is_one_line() -> None:
    assert "\n" not in missing_permission("list", SLICES, "shop", refusal("system:serviceaccount:podlb:lb"))
