# shellcheck shell=bash
# Part of kind.sh: builds the images under tags that name their content, and brings them to the nodes.

: "${root:?}" "${cluster:?}" "${context:?}" # kind.sh sets them
base_tar=${PODLB_BASE_IMAGE_TAR:-}
base_image=${DEPLOY_BASE_IMAGE:-${base_tar:+localhost/python:3.11-slim}}
builder=
if command -v sha256sum >/dev/null; then sha256=(sha256sum); else sha256=(shasum -a 256); fi

builder_works() {
    command -v "$1" >/dev/null || return 1
    case $1 in
        buildah)
            if buildah info >/dev/null 2>&1; then return; fi
            # Slow, and works on every file system.
            export STORAGE_DRIVER=vfs
            buildah info >/dev/null 2>&1
            ;;
        *) "$1" info >/dev/null 2>&1 ;;
    esac
}

choose_builder() {
    local candidate
    if [ -n "${DEPLOY_BUILDER:-}" ]; then
        case $DEPLOY_BUILDER in docker | podman | buildah) ;; *)
            die "DEPLOY_BUILDER is $DEPLOY_BUILDER: set it to docker, podman or buildah" ;;
        esac
        need "$DEPLOY_BUILDER" "install it, or set DEPLOY_BUILDER to another of docker, podman, buildah"
        builder_works "$DEPLOY_BUILDER" || die "$DEPLOY_BUILDER does not answer: start it (\`$DEPLOY_BUILDER info\` says more)"
        builder=$DEPLOY_BUILDER
        return
    fi
    for candidate in docker podman buildah; do
        if builder_works "$candidate"; then
            builder=$candidate
            return
        fi
    done
    if command -v docker >/dev/null; then die "Docker does not answer: start it (\`docker info\` says more)"; fi
    die "nothing here builds images: install Docker (or podman or buildah)"
}

# The tag of an image names the content of everything it is made from; of the base image, its name.
tag_of() { # lb or backend
    local version
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/lb/__init__.py")
    (
        cd "$root" || exit
        {
            printf '%s\n' "$base_image"
            find "$1" "deploy/$1.lock" Dockerfile .dockerignore -type f ! -path '*/__pycache__/*' |
                LC_ALL=C sort | xargs "${sha256[@]}"
        } | "${sha256[@]}" | cut -c 1-12
    ) | sed "s/^/$version-/"
}

name_images() {
    lb_image=localhost/podlb-lb:$(tag_of lb)
    backend_image=localhost/podlb-backend:$(tag_of backend)
}

load_base_image() {
    if [ -z "$base_tar" ]; then return; fi
    [ -r "$base_tar" ] || die "PODLB_BASE_IMAGE_TAR is $base_tar, which can't be read: mend or unset it"
    case $builder in
        buildah) buildah inspect --type image "$base_image" >/dev/null 2>&1 || buildah pull -q "docker-archive:$base_tar" ;;
        *) "$builder" image inspect "$base_image" >/dev/null 2>&1 || "$builder" load -q -i "$base_tar" ;;
    esac >/dev/null
}

build_image() { # lb or backend, its name
    local arguments=(--target "$1" --tag "$2" --build-arg "VERSION=${2##*:}") present=(image inspect) build=(build -q)
    if [ -n "$base_image" ]; then arguments+=(--build-arg "BASE_IMAGE=$base_image"); fi
    if [ "$builder" = buildah ]; then
        present=(inspect --type image)
        # Neither needs more rights than the builder has, inside a container for one.
        build+=(--isolation "${BUILDAH_ISOLATION:-chroot}" --network host)
    fi
    # shellcheck disable=SC2206  # several words
    build+=(${DEPLOY_BUILD_FLAGS:-})
    if "$builder" "${present[@]}" "$2" >/dev/null 2>&1; then return; fi
    say "building $2 with $builder"
    "$builder" "${build[@]}" "${arguments[@]}" "$root" >/dev/null ||
        die "$2 could not be built: see above; DEPLOY_BASE_IMAGE names another base image"
}

load_image() { # its name, the file for its archive
    local command
    read -r -a command <<<"${DEPLOY_LOAD:-kind load image-archive --name $cluster}"
    say "loading $1"
    if [ "$builder" = buildah ]; then
        buildah push -q "$1" "docker-archive:$2:$1"
    else
        "$builder" save -o "$2" "$1"
    fi
    "${command[@]}" "$2" >/dev/null || die "\`${command[*]}\` failed: see above, or set DEPLOY_LOAD to what loads an image"
    rm -f "$2"
}

# Whether the pods of Deployment $1 run image $2, all of them: then its nodes have it.
runs() {
    local state
    state=$(kube get deployments --all-namespaces --selector "app.kubernetes.io/name=podlb-$1" --output jsonpath='
        {range .items[*]}{.spec.template.spec.containers[0].image} {.spec.replicas} {.status.updatedReplicas} {.status.replicas} {.status.readyReplicas}{"\n"}{end}' |
        sed -n 's/^ *//; /./p')
    case $state in "$2 "*) ;; *) return 1 ;; esac
    # shellcheck disable=SC2086  # image, replicas: wanted, of this image, in all, ready
    set -- $state
    [ $# -eq 5 ] && [ "$2" = "$3" ] && [ "$2" = "$4" ] && [ "$2" = "$5" ]
}

image_of() { if [ "$1" = lb ]; then echo "$lb_image"; else echo "$backend_image"; fi; }

build_images() { # lb, backend
    local package
    load_base_image
    for package in "$@"; do build_image "$package" "$(image_of "$package")"; done
}

provide_images() { # a folder for their archives
    local package missing=()
    for package in backend lb; do
        if runs "$package" "$(image_of "$package")"; then
            say "$(image_of "$package") runs already"
        else
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    choose_builder
    if [ -z "${DEPLOY_LOAD:-}" ]; then
        [ "$context" = "kind-$cluster" ] ||
            die "how do images come to the nodes of $context? Set DEPLOY_LOAD to the command that loads an archive, its last argument"
        need_kind
    fi
    build_images "${missing[@]}"
    for package in "${missing[@]}"; do load_image "$(image_of "$package")" "$1/$package.tar"; done
}
