#!/bin/bash
# Build the images of the LM servers and of edgelm's services, print their sizes, and push them
# where REGISTRY says.
#
#   TARGETS        emulated, llama, lm, services (default: all)
#   WHEEL          folder of edgelm's wheel, for services (default: one is built)
#   REGISTRY       host:port/path; empty: nothing is pushed
#   TAG            default: the commit
#   BUILDER        buildah or docker (default: what is installed)
#   BUILD_OPTIONS  more options of the build, such as --build-arg BASE=...
#   PUSH_OPTIONS   more options of the push, such as --tls-verify=false
#   DIGESTS        file that records NAME@DIGEST of what was pushed (default: build/images.txt)
set -euo pipefail
shopt -s inherit_errexit  # a push that fails is no push
cd "$(dirname "${BASH_SOURCE[0]}")"

read -ra targets <<<"${TARGETS:-emulated llama lm services}"
read -ra build_options <<<"${BUILD_OPTIONS:-}"
read -ra push_options <<<"${PUSH_OPTIONS:-}"
builder=${BUILDER:-$(command -v buildah || command -v docker || true)}
registry=${REGISTRY:-}
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
tag=${TAG:-$revision}
digests=$(realpath -m "${DIGESTS:-../build/images.txt}")

if [ -z "$builder" ]; then
  echo "build-images.sh: neither buildah nor docker is here: install one, or name it by BUILDER" >&2
  exit 2
fi
case ${builder##*/} in
  buildah) build=(build --layers) ;;
  docker) build=(build) ;;
  *) echo "build-images.sh: BUILDER=$builder: give buildah or docker" >&2; exit 2 ;;
esac

push() { # NAME: push it and print its digest
  if [ "${builder##*/}" = buildah ]; then
    local file
    file=$(mktemp)
    "$builder" push "${push_options[@]}" --digestfile "$file" "$1" >&2
    cat "$file"
    rm -f "$file"
  else
    "$builder" push "${push_options[@]}" "$1" >&2
    "$builder" image inspect --format '{{index .RepoDigests 0}}' "$1" | sed 's/.*@//'
  fi
}

wheel=${WHEEL:-../build/wheel}
if [[ " ${targets[*]} " = *" services "* && -z ${WHEEL:-} ]]; then
  rm -rf "$wheel"
  python -m build --wheel --outdir "$wheel" .. >/dev/null
fi

mkdir -p "$(dirname "$digests")"
[ -z "$registry" ] || : >"$digests"
for target in "${targets[@]}"; do
  name=${registry:+$registry/}edgelm-$target:$tag
  file=(--file Dockerfile)
  [ "$target" != services ] || file=(--file services.Dockerfile --build-context "wheel=$wheel")
  "$builder" "${build[@]}" "${file[@]}" --target "$target" "${build_options[@]}" \
    --build-arg "REVISION=$revision" --tag "$name" .
  echo "$name: $("$builder" images --format '{{.Size}}' "$name")"
  if [ -n "$registry" ]; then
    digest=$(push "$name")
    echo "${name%:*}@$digest" | tee -a "$digests"
  fi
done
