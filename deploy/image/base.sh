#!/usr/bin/env bash
# A base image for the Dockerfile, where no registry can be reached: Debian with its Python 3.11, made from Debian's own
# packages by debootstrap. Needs root, debootstrap, and docker or buildah.
#
#   deploy/image/base.sh                            maskstream-base:bookworm
#   make image BASE=maskstream-base:bookworm        the serving image on top of it
#
# Settings come from the environment:
#   TAG       name of the image (maskstream-base:bookworm)
#   MIRROR    where Debian's packages come from (http://deb.debian.org/debian)
#   BUILDER   docker or buildah (docker)
#   PIP_CONF  a pip configuration that the build is to use, for a package index of your own; it goes into the base
#   CA_BUNDLE certificates that pip is to trust, PEM; they go into the base
set -euo pipefail

TAG=${TAG:-maskstream-base:bookworm} MIRROR=${MIRROR:-http://deb.debian.org/debian} BUILDER=${BUILDER:-docker}
PACKAGES=python3,python3-venv,ca-certificates

fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

[[ $(id -u) == 0 ]] || fail "debootstrap needs root; run it with sudo"
command -v debootstrap > /dev/null || fail "debootstrap is missing; apt-get install debootstrap"
command -v "$BUILDER" > /dev/null || fail "$BUILDER is missing; BUILDER is docker or buildah"
for file in "${PIP_CONF:-}" "${CA_BUNDLE:-}"; do
  [[ -z $file || -r $file ]] || fail "$file cannot be read"
done

root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include="$PACKAGES" bookworm "$root" "$MIRROR"

# What a server never looks at: half of the size. `python` is what the Dockerfile calls it.
ln -s python3 "$root/usr/bin/python"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/tmp/* \
  "$root"/usr/share/{doc,man,info,locale,i18n,lintian,bug}/*
[[ -z ${PIP_CONF:-} ]] || cp "$PIP_CONF" "$root/etc/pip.conf"
[[ -z ${CA_BUNDLE:-} ]] || cp "$CA_BUNDLE" "$root/etc/ssl/certs/ca-certificates.crt"

case $BUILDER in
  docker) tar -C "$root" -c . | docker import --change 'CMD ["python"]' - "$TAG" ;;
  buildah)
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" /
    buildah config --cmd python "$container"
    buildah commit --quiet --rm "$container" "$TAG"
    ;;
  *) fail "BUILDER is docker or buildah, not $BUILDER" ;;
esac
printf '%s is ready: make image BASE=%s\n' "$TAG" "$TAG"
