#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Default test origin: Versity S3 Gateway over a plain directory. Buckets are directories in DATA_DIR/data.
# usage: versitygw.sh DATA_DIR PORT [start|stop]     request log: DATA_DIR/access.log (no byte counts on GET)
set -euo pipefail
. "$(dirname "$0")/server.sh"
begin
version=${VGW_VERSION:-v1.8.0}
go_install versitygw "github.com/versity/versitygw/cmd/versitygw@$version"
# Names must not share a prefix with the data directory: versitygw compares paths as strings.
mkdir -p "$dir/data" "$dir/old-versions" "$dir/sidecar"
meta=(); [ "${VGW_SIDECAR:-0}" = 0 ] || meta=(--sidecar "$dir/sidecar") # where user xattrs are missing, e.g. tmpfs before Linux 6.6
export ROOT_ACCESS_KEY=$access ROOT_SECRET_KEY=$secret
# Without --keep-alive it closes the connection after every reply.
launch "$tools/versitygw-$version" --port "127.0.0.1:$port" --region us-east-1 --keep-alive --quiet --access-log "$dir/access.log" \
    posix --versioning-dir "$dir/old-versions" ${meta[@]+"${meta[@]}"} "$dir/data"
say
