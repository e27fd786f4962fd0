#!/bin/sh
# Generates stepwirev1 from ../../protos. With --check it changes nothing, and fails where what is committed is not
# current. Needs Go, Python 3 and a way to their registries. The tools stay in build/generate.
set -eu
cd "$(dirname "$0")"

PROTOC="grpcio-tools==1.74.0 googleapis-common-protos==1.70.0"
PROTOC_GEN_GO=v1.36.11
PROTOC_GEN_GO_GRPC=v1.5.1

module=github.com/stepwire/stepwire/client/go
tools=$PWD/build/generate
wanted="$PROTOC $PROTOC_GEN_GO $PROTOC_GEN_GO_GRPC"

if [ "$(cat "$tools/versions" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools/venv"
    # shellcheck disable=SC2086
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check $PROTOC
    GOBIN=$tools go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
    GOBIN=$tools go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
    echo "$wanted" >"$tools/versions"
fi

out=.
if [ "${1:-}" = --check ]; then
    out=$tools/check
    rm -rf "$out"
    mkdir "$out"
fi

# The contract names no language: where its Go code goes is said here.
mapping=
for file in ../../protos/stepwire/v1/*.proto; do
    mapping="$mapping,Mstepwire/v1/$(basename "$file")=$module/stepwirev1"
done
common=$("$tools/venv/bin/python" -c 'import google.rpc as rpc; print(list(rpc.__path__)[0] + "/../..")')

rm -rf "$out/stepwirev1"
"$tools/venv/bin/python" -m grpc_tools.protoc -I ../../protos -I "$common" \
    --plugin="$tools/protoc-gen-go" --plugin="$tools/protoc-gen-go-grpc" \
    --go_out="$out" --go_opt="module=$module$mapping" \
    --go-grpc_out="$out" --go-grpc_opt="module=$module$mapping" \
    ../../protos/stepwire/v1/*.proto

if [ "$out" != . ]; then
    if ! diff -r stepwirev1 "$out/stepwirev1" >/dev/null; then
        echo "stepwirev1 is not what the protos give. Run client/go/generate.sh and commit what it changes." >&2
        exit 1
    fi
    echo "stepwirev1 is current."
fi
