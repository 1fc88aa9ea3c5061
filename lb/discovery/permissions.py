"""CORE: what to say when a permission is missing."""

from __future__ import annotations

import re

_USER = re.compile(r'User "([^"]+)"')
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):(.+)")


def missing_permission(verb: str, resource: str, namespace: str, refusal: str) -> str:
    """Return one line: what is missing, and the kubectl commands that grant it.

    `refusal` is the API server's own sentence, which names the user.
    """
    found = _USER.search(refusal)
    user = found[1] if found else "USER"
    if user == "system:anonymous":
        # Granted to it, it would be granted to everybody.
        return (
            f"no permission to {verb} {resource} in namespace {namespace}, for no credentials were sent: "
            "give the pod its service account's token (automountServiceAccountToken), or the kubeconfig's user one"
        )
    account = _ACCOUNT.fullmatch(user)
    subject = f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user={user}"
    create = f"kubectl -n {namespace} create"
    return (
        f"no permission to {verb} {resource} in namespace {namespace}: grant it with: "
        f"{create} role podlb --verb=list,watch --resource={resource} && "
        f"{create} rolebinding podlb --role=podlb {subject}"
    )
