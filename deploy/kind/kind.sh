#!/usr/bin/env bash
# podlb and its demo backends on Kubernetes: on a kind cluster of their own, or on any other.
#
#   kind.sh up                 make the kind cluster `podlb` if it is not there, then deploy; prints the URL
#   kind.sh deploy             build the images, load them, apply the manifests, wait; a second time it has nothing to do
#   kind.sh build              build the images alone; prints their names, for a registry of yours
#   kind.sh status             nodes, pods, endpoints
#   kind.sh logs [FLAGS]       what podlb and the backends log (flags of `kubectl logs`: -f, --tail=100, --since=1m)
#   kind.sh load [REQUESTS]    send requests and say which pod answered how many
#   kind.sh drill [ARGUMENTS]  kill, roll and scale the pods under load: what `make drills` runs
#   kind.sh local [FLAGS]      podlb on this machine, following the pods of the cluster (flags of `podlb`)
#   kind.sh down               delete the kind cluster
#
# Settings, by environment; with none of them everything is for kind and Docker:
#   DEPLOY_CONTEXT        the kube context (default: kind-podlb; never the current one by accident)
#   DEPLOY_MANIFESTS      the kustomize folder (default: deploy/overlays/kind)
#   DEPLOY_BUILDER        docker, podman or buildah (default: the first that works)
#   DEPLOY_BUILD_FLAGS    further flags for its `build`, such as --network=host or --pull
#   DEPLOY_LOAD           the command that brings an image archive, its last argument, to the nodes
#                         (default, for kind-podlb alone: kind load image-archive --name podlb)
#   DEPLOY_BASE_IMAGE     the base of both images (default: the Dockerfile's)
#   PODLB_BASE_IMAGE_TAR  an archive of a base image, for machines without a registry; its name is DEPLOY_BASE_IMAGE,
#                         or localhost/python:3.11-slim
#   DEPLOY_TIMEOUT        seconds for a rollout (default: 180)
#   DEPLOY_URL            where `load` sends its requests (default: http://localhost:8080/ on kind, else the Service)
# Written for bash 3.2 (macOS) and later.
# shellcheck disable=SC2329  # main calls the commands by their names
set -euo pipefail

cluster=podlb
script=${BASH_SOURCE[0]}
here=$(cd "$(dirname "$script")" && pwd)
root=$(cd "$here/../.." && pwd)
namespace=podlb
context=${DEPLOY_CONTEXT:-kind-$cluster}
timeout=${DEPLOY_TIMEOUT:-180}
work=
route_cidrs=

say() { printf 'kind.sh: %s\n' "$*"; }
die() {
    printf 'kind.sh: %s\n' "$*" >&2
    exit 1
}
clean_up() {
    local cidr
    for cidr in $route_cidrs; do as_root ip route del "$cidr" || true; done
    if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap clean_up EXIT

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
kube() { kubectl --context "$context" "$@"; }

# shellcheck source=deploy/kind/images.sh
. "$here/images.sh"

# --- what must be there ---

need() { # program, what to do
    command -v "$1" >/dev/null || die "$1 is not installed: $2"
}

# Whether version $1 (v1.32.4-gke) is at least $2 (1.27).
at_least() {
    local have=${1#v} major minor
    major=${have%%.*}
    minor=${have#*.}
    minor=${minor%%[!0-9]*}
    [ "$major" -gt "${2%%.*}" ] || { [ "$major" -eq "${2%%.*}" ] && [ "${minor:-0}" -ge "${2#*.}" ]; }
}

need_kubectl() {
    need kubectl "see https://kubernetes.io/docs/tasks/tools/"
    local version
    version=$(kubectl version --client -o yaml 2>/dev/null | sed -n 's/^ *gitVersion: *//p')
    case $version in
        v[0-9]*.[0-9]*) ;;
        *) die "kubectl does not tell its version: look at \`kubectl version --client\`" ;;
    esac
    at_least "$version" 1.27 || die "kubectl is $version, 1.27 or later is needed (its kustomize): install a newer one"
}

need_kind() {
    need kind "see https://kind.sigs.k8s.io/docs/user/quick-start/"
    local version
    version=$(kind version 2>/dev/null | sed -n 's/^kind \(v[0-9][^ ]*\).*/\1/p')
    [ -n "$version" ] || die "kind does not tell its version: look at \`kind version\`"
    at_least "$version" 0.20 || die "kind is $version, 0.20 or later is needed: install a newer one"
}

need_cluster() {
    need_kubectl
    if ! kubectl config get-contexts -o name 2>/dev/null | grep -qxF "$context"; then
        if [ -n "${DEPLOY_CONTEXT:-}" ]; then
            die "there is no kube context $context: see \`kubectl config get-contexts\`"
        fi
        die "there is no kube context $context: run \`$script up\`, or name that of another cluster in DEPLOY_CONTEXT"
    fi
    kube get --raw /readyz --request-timeout 10s >/dev/null 2>&1 ||
        die "the cluster of context $context does not answer: look at \`kubectl --context $context cluster-info\`"
}

need_python() {
    # Its own output would stand among that of what is run with it.
    make -C "$root" --no-print-directory .venv/.ready >&2
}

make_work() { if [ -z "$work" ]; then work=$(mktemp -d); fi; }

# --- commands ---

render() {
    local image manifests=${DEPLOY_MANIFESTS:-$here/../overlays/kind}
    [ -e "$manifests/kustomization.yaml" ] || die "$manifests has no kustomization.yaml: set DEPLOY_MANIFESTS to a folder that has"
    kubectl kustomize "$manifests" >"$work/rendered.yaml"
    sed -e "s|image: localhost/podlb-lb:.*|image: $lb_image|" \
        -e "s|image: localhost/podlb-backend:.*|image: $backend_image|" "$work/rendered.yaml" >"$work/manifests.yaml"
    for image in "$lb_image" "$backend_image"; do
        grep -qF "image: $image" "$work/manifests.yaml" ||
            die "$manifests does not use ${image%:*}: set DEPLOY_MANIFESTS to a folder that does"
    done
}

wait_for_rollouts() {
    local where name
    kube get deployments --all-namespaces --selector app.kubernetes.io/part-of=podlb \
        --output jsonpath='{range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}' >"$work/deployments"
    while read -r where name; do
        if ! kube --namespace "$where" rollout status "deployment/$name" --timeout "${timeout}s" </dev/null; then
            kube --namespace "$where" get pods >&2 </dev/null || true
            die "deployment/$name is not up after $timeout s: see \`$script logs\` and \`kubectl --context $context --namespace $where describe pods\`"
        fi
    done <"$work/deployments"
}

url() {
    if [ -n "${DEPLOY_URL:-}" ]; then
        echo "$DEPLOY_URL"
    elif [ "$context" = "kind-$cluster" ]; then
        echo http://localhost:8080/
    else
        kube --namespace "$namespace" get service lb --ignore-not-found --output jsonpath='http://{.spec.clusterIP}/'
    fi
}

command_build() {
    choose_builder
    name_images
    build_images backend lb >&2
    printf '%s\n' "$backend_image" "$lb_image"
}

command_deploy() {
    need_cluster
    make_work
    name_images
    render
    provide_images "$work"
    # Whoever scaled or set something by hand has it from the manifests again.
    kube apply --server-side --force-conflicts --field-manager podlb-kind-sh --filename "$work/manifests.yaml" >"$work/applied"
    wait_for_rollouts
    say "podlb is up: $(url)"
    if [ "$context" != "kind-$cluster" ]; then
        say "from outside the cluster: kubectl --context $context --namespace $namespace port-forward service/lb 8080:80"
    fi
}

kind_cluster_is_there() { kind get clusters 2>/dev/null | grep -qxF "$cluster"; }

command_up() {
    need_kind
    need_kubectl
    choose_builder
    [ "$context" = "kind-$cluster" ] || die "up makes a cluster of its own: unset DEPLOY_CONTEXT, or run \`$script deploy\`"
    local before
    before=$(kubectl config current-context 2>/dev/null || true)
    if ! kind_cluster_is_there; then
        say "making the kind cluster $cluster: a minute or two"
        kind create cluster --config "$here/cluster.yaml" --wait 180s ||
            die "kind could not make the cluster: see above; \`$script down\` removes what is left of it"
    elif ! kubectl config get-contexts -o name | grep -qxF "$context"; then
        kind export kubeconfig --name "$cluster"
    fi
    # kind makes its context the current one; this cluster is for those who ask for it.
    if [ -n "$before" ]; then kubectl config use-context "$before" >/dev/null; fi
    command_deploy
}

command_down() {
    need_kind
    if kind_cluster_is_there; then kind delete cluster --name "$cluster"; else say "there is no kind cluster $cluster"; fi
}

command_status() {
    need_cluster
    kube get nodes
    kube get deployments,pods --all-namespaces --selector app.kubernetes.io/part-of=podlb --output wide
    kube get endpointslices --all-namespaces --selector kubernetes.io/service-name=backend-service
    say "podlb: $(url)"
}

command_logs() {
    need_cluster
    local where child children=()
    # Side by side: with -f none of them ends.
    for where in $(kube get deployments --all-namespaces --selector app.kubernetes.io/part-of=podlb \
        --output jsonpath='{range .items[*]}{.metadata.namespace}{"\n"}{end}' | sort -u); do
        kube --namespace "$where" logs --selector app.kubernetes.io/part-of=podlb --all-containers --prefix --max-log-requests 50 "$@" &
        children+=($!)
    done
    for child in ${children[@]+"${children[@]}"}; do wait "$child"; done
}

command_load() {
    need_cluster
    need python3 "it sends the requests"
    local target
    target=$(url)
    [ -n "$target" ] || die "podlb is not there: run \`$script deploy\` first"
    python3 "$here/load.py" "$target" "$@"
}

# A kubeconfig with our context alone, as the current one, for programs that know no other.
write_kubeconfig() {
    make_work
    (umask 077 && kube config view --minify --flatten --raw >"$work/kubeconfig")
}

command_drill() {
    need_cluster
    need_python
    write_kubeconfig
    cd "$root"
    KUBECONFIG=$work/kubeconfig .venv/bin/python -m tests.drills "$@"
}

answers() { # address
    "$root/.venv/bin/python" -c 'import socket, sys; socket.create_connection((sys.argv[1], 8080), 2)' "$1" 2>/dev/null
}

# Routes to the pods by their nodes, for as long as this runs; nothing if the pods can be reached already.
provide_route() {
    local address cidr node
    address=$(kube --namespace "$backends" get pods --selector app.kubernetes.io/name=podlb-backend \
        --field-selector status.phase=Running --output jsonpath='{.items[0].status.podIP}' 2>/dev/null || true)
    [ -n "$address" ] || die "no backend runs in namespace $backends: run \`$script deploy\` first"
    if answers "$address"; then return; fi
    [ "$(uname -s)" = Linux ] ||
        die "this machine has no route to the pods ($address): Docker runs in a virtual machine here; \`$script up\` runs podlb inside"
    need ip "it adds the route to the pods (Debian, Ubuntu: apt install iproute2)"
    kube get nodes --output jsonpath='{range .items[*]}{.spec.podCIDR}|{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' >"$work/nodes"
    while IFS='| ' read -r cidr node _; do
        [ -n "$cidr" ] || die "the node at $node names no podCIDR: add a route to its pods ($address is one) by hand"
        say "adding a route for as long as podlb runs: ip route add $cidr via $node"
        as_root ip route add "$cidr" via "$node" ||
            die "no route to the pods by $node: is the cluster on this machine (and not in a virtual machine)?"
        route_cidrs="$route_cidrs $cidr"
    done <"$work/nodes"
    answers "$address" || die "the pod at $address does not answer, although there is a route: does a firewall or a NetworkPolicy stand between?"
}

command_local() {
    need_cluster
    need_python
    write_kubeconfig
    local backends child status=0
    backends=$(kube get services --all-namespaces --field-selector metadata.name=backend-service --output jsonpath='{.items[0].metadata.namespace}')
    [ -n "$backends" ] || die "there is no Service backend-service: run \`$script deploy\` first"
    provide_route
    cd "$root"
    .venv/bin/python -m lb run --discovery kubernetes --kubeconfig "$work/kubeconfig" --namespace "$backends" \
        --backend-service-name backend-service "$@" &
    child=$!
    # Ctrl-C at a terminal reaches podlb by itself; what is sent to this process alone is passed on.
    trap 'kill -TERM "$child" 2>/dev/null || true' TERM HUP
    trap ':' INT
    while kill -0 "$child" 2>/dev/null; do
        status=0
        wait "$child" || status=$?
    done
    return "$status"
}

usage() { sed -n '2,/^# Written/ { /^# Written/d; s/^# \{0,1\}//; p; }' "$script"; }

main() {
    local action=${1:-}
    if [ $# -gt 0 ]; then shift; fi
    case $action in
        up | build | deploy | down | status)
            [ $# -eq 0 ] || die "$action takes no arguments: settings are in the environment, see \`$script help\`"
            "command_$action"
            ;;
        logs | load | drill | local) "command_$action" "$@" ;;
        help | -h | --help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    # Bash reads a script while it runs, and this one may have changed by now (`git pull`): nothing more of it.
    exit
}

main "$@"
