#!/usr/bin/env bash
# Builds what a real Kubernetes for the tests consists of, from Go modules: plane (this folder), kwok and
# metrics-server.  No root.
#
#     tests/real/kubernetes/plane/build.sh [FOLDER]   default: $BROKER_TEST_KUBERNETES, or below ~/.cache
#
# Minutes for an empty build cache (8 to 15 on two cores), seconds when nothing changed: Go keeps the caches
# (GOCACHE 3 GB, GOMODCACHE 1.3 GB) and knows what is up to date.
set -euo pipefail
kubernetes=1.34.4    # as in go.mod
kwok=v0.7.0          # of its own libraries, as metrics-server: neither compiles against those of go.mod
metrics_server=v0.9.0
out=${1:-${BROKER_TEST_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/workload-broker/kubernetes-1.34}}

export PATH=$PATH:/usr/local/go/bin    # where its own installer puts it
command -v go >/dev/null || { echo "go is missing: version 1.24 or newer from https://go.dev/dl (Debian 12 has 1.19)" >&2; exit 1; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

# Clients parse the version; without this it would be v0.0.0-master+$Format:%H$.
version=k8s.io/component-base/version
stamp="-X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=34"
stamp+=" -X $version.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"

# Without -trimpath: it is another key of the build cache, and everything would be compiled a second time.
go build -mod=readonly -buildvcs=false -ldflags "-s -w $stamp" -o "$out/plane" .
GOBIN=$out go install -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$kwok"
GOBIN=$out go install -ldflags "-s -w" "sigs.k8s.io/metrics-server/cmd/metrics-server@$metrics_server"
chmod -R a+rX "$out"    # tests may run as another user
"$out/plane" apiserver --version
