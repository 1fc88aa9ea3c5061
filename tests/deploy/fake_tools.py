"""Stand-ins for kind, kubectl, docker and buildah: one program that acts by the name it is called by.

They keep what they were told in the folder that FAKE_STATE names: `calls` (a line each), `contexts`, `current`,
`clusters`, `images`, `applied` (the manifests). Tests may put files there: `fails` holds the beginnings of the calls
that fail, a line each, and `versions` a line `TOOL VERSION` each.
"""

from __future__ import annotations

# A test calls this a hundred times: only what the interpreter has loaded anyway.
import os
import sys

STATE = os.environ.get("FAKE_STATE", ".")
VERSIONS = {"kubectl": "v1.35.4", "kind": "v0.33.0"}


def lines(path: str) -> list[str]:
    path = os.path.join(STATE, path)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()


def write(path: str, content: list[str], mode: str = "w") -> None:
    with open(os.path.join(STATE, path), mode) as file:
        file.write("".join(f"{line}\n" for line in content))


def version(tool: str) -> str:
    return (VERSIONS | dict(line.split() for line in lines("versions")))[tool]


def applied_image(package: str) -> str:
    return next(line.removeprefix("image: ") for line in lines("applied") if f"/podlb-{package}:" in line)


def kubectl(words: list[str]) -> str:
    if words[:1] == ["--context"]:
        words = words[2:]
    match words:
        case ["version", *_]:
            return f"clientVersion:\n  gitVersion: {version('kubectl')}\n"
        case ["config", "get-contexts", *_]:
            return "".join(f"{name}\n" for name in lines("contexts"))
        case ["config", "current-context"]:
            return "\n".join(lines("current")) + "\n"
        case ["config", "use-context", name]:
            write("current", [name])
        case ["kustomize", folder]:
            return "".join(f"{line}\n" for line in lines(f"{folder}/kustomization.yaml"))
        case ["apply", *_, "--filename", file]:
            write("applied", lines(file))
        case ["get", "deployments", _, "--selector", selector, *_]:
            if not lines("applied"):
                return ""
            if selector.endswith("part-of=podlb"):
                return "podlb backend\npodlb lb\n"
            replicas = (lines("replicas") or ["2 2 2 2"])[0]
            return f"\n        {applied_image(selector.rpartition('-')[2])} {replicas}\n"
        case ["--namespace", _, "get", "service", "lb", *_]:
            return "http://10.96.0.9/"
    return ""


def kind(words: list[str]) -> str:
    match words:
        case ["version"]:
            return f"kind {version('kind')} go1.26.1 linux/amd64\n"
        case ["get", "clusters"]:
            return "".join(f"{name}\n" for name in lines("clusters"))
        case ["create", "cluster", *_]:
            write("clusters", ["podlb"])
            write("contexts", ["kind-podlb"], "a")
            write("current", ["kind-podlb"])
        case ["delete", "cluster", *_]:
            write("clusters", [])
    return ""


def builder(words: list[str]) -> str:
    match words:
        case ["image", "inspect", image] | ["inspect", _, _, image]:
            if image not in lines("images"):
                sys.exit(1)
        case ["build", *_]:
            write("images", [words[words.index("--tag") + 1]], "a")
        case ["save", "-o", archive, image]:
            write(archive, [image])
        case ["push", "-q", image, target]:
            write(target.split(":")[1], [image])
    return ""


def main() -> None:
    tool, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    call = " ".join([tool, *words])
    write("calls", [call], "a")
    if any(call.startswith(beginning) for beginning in lines("fails")):
        sys.stderr.write(f"{tool}: told to fail\n")
        sys.exit(1)
    sys.stdout.write({"kubectl": kubectl, "kind": kind}.get(tool, builder)(words))


if __name__ == "__main__":
    main()
