#!/usr/bin/env bash
# Build a Kubernetes control plane, a kubelet and kwok from their pinned Go modules, once.
# What go.mod and go.sum pin decides whether they are built anew.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/edgelm/kubernetes
stamp=$bin/.built
pins=$(cat "$here"/*/go.mod "$here"/*/go.sum "$here/build.sh" | sha256sum)
[ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || exit 0
mkdir -p "$bin"
export CGO_ENABLED=0 GOBIN=$bin GOFLAGS="-trimpath -buildvcs=false"
version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[^ ]*\).*/\1/p' "$here/kubernetes/go.mod" | head -1)
minor=${version#v1.}
about=k8s.io/component-base/version
(
  cd "$here/kubernetes"
  go install -ldflags "-s -w -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=${minor%%.*}" tool
  mv "$bin/server" "$bin/etcd"
)
(cd "$here/kwok" && go install -ldflags "-s -w" tool)
echo "$pins" >"$stamp"
