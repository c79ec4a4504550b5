#!/usr/bin/env bash
# Makes a machine a node, from a clean Debian 12 or Ubuntu 24.04; every step may be repeated. docs/clusters.md.
#   setup_node.sh install [PIP ARGUMENT ...]        virtual environment with the pinned versions
#   setup_node.sh head [RAY OPTION ...]             `ray start --head`, then MLflow
#   setup_node.sh worker HEAD [RAY OPTION ...]      `ray start` towards the head's address
# Settings: PALUKU_VENV (~/paluku-venv), PALUKU_DATA (/data: models, runs, checkpoints, what all nodes share),
# PALUKU_SHARE (none, or nfs: the head exports PALUKU_DATA and workers mount it), PALUKU_PYTHON, PALUKU_ADDRESS
# (the head's own address, else its first).
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${PALUKU_VENV:-$HOME/paluku-venv}"
DATA="${PALUKU_DATA:-/data}"
SHARE="${PALUKU_SHARE:-none}"
GCS_PORT=6379 OBJECT_MANAGER_PORT=8076 METRICS_PORT=8090 MLFLOW_PORT=5000
MLFLOW_PATIENCE_S=180

fail() {
    echo "error: $*" >&2
    exit 2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

system_packages() {
    command -v apt-get >/dev/null || fail "install $* with this system's package manager, then try again"
    # A cloud image updates itself when it first boots and holds the lock meanwhile.
    as_root apt-get -o DPkg::Lock::Timeout=600 update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq \
        --no-install-recommends "$@" >/dev/null
}

# The first Python of a version the package supports that can make environments; nothing where there is none.
find_python() {
    local python
    for python in ${PALUKU_PYTHON:-python3.12 python3.11 python3}; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
            2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

install() {
    local wanted python
    wanted="$(cat "$ROOT"/{pyproject.toml,constraints.txt,requirements-nodeps.txt} <(echo "$ROOT $*") | sha256sum)"
    if [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ]; then
        echo "$VENV holds these versions already"
        return
    fi
    python="$(find_python)"
    if [ -z "$python" ]; then
        system_packages ca-certificates python3 python3-venv
        python="$(find_python)"
    fi
    [ -n "$python" ] || fail "Python 3.11 or 3.12 with venv is needed, here is $(python3 --version 2>&1): take an" \
        "image of Debian 12 or Ubuntu 24.04, or name another by PALUKU_PYTHON"
    rm -f "$VENV/.installed"
    "$python" -m venv "$VENV"
    cd "$ROOT"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,serve]" "$@"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.txt
    check_install
    echo "$wanted" >"$VENV/.installed"
}

check_install() {
    "$VENV/bin/python" -c 'import paluku, ray, ray.serve, torch' || fail "the installation in $VENV does not import"
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        "$VENV/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
            fail "torch does not see the GPU: its driver is older than what torch needs (compare" \
                "\`nvidia-smi\` with torch.version.cuda); take an image with a newer driver"
    fi
}

enter() {
    [ -x "$VENV/bin/ray" ] || fail "no Ray in $VENV; run \`$0 install\` first"
    set -a
    # shellcheck source=deploy/node.env
    . "$ROOT/deploy/node.env"
    set +a
    # Jobs' `python` is this one; serve_apps is imported from here by `serve deploy serve_apps/speech.yaml`.
    export PATH="$VENV/bin:$PATH" PYTHONPATH="$ROOT"
    if [ -z "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ]; then
        [ -s ~/.ray/auth_token ] || fail "no token in ~/.ray/auth_token: \`ray get-auth-token --generate\` makes" \
            "one, the same must lie on every node"
        chmod 600 ~/.ray/auth_token
    fi
    ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    if [ ! -d "$DATA" ]; then
        as_root mkdir -p "$DATA"
        as_root chown "$(id -u):$(id -g)" "$DATA"
    fi
}

# `mlflow` in /etc/hosts: http://mlflow:5000 is the same address on every node, and in Kubernetes.
name_mlflow() {
    local address="$1" hosts
    if [ "$(getent ahostsv4 mlflow | awk 'NR == 1 { print $1 }')" = "$address" ]; then return; fi
    hosts="$(grep -v '[[:space:]]mlflow$' /etc/hosts)"
    printf '%s\n%s mlflow\n' "$hosts" "$address" | as_root tee /etc/hosts >/dev/null
}

# Gloo takes the address of the machine's own name, which Debian writes down as 127.0.1.1: no other node reaches that.
name_interface() {
    local interface
    command -v ip >/dev/null || return 0
    interface="$(ip -4 -o addr show to "$1/32" | awk 'NR == 1 { print $2 }')"
    [ -n "$interface" ] || interface="$(ip -4 -o route get "$1" | sed -n 's/.* dev \([^ ]*\).*/\1/p')"
    export GLOO_SOCKET_IFNAME="${GLOO_SOCKET_IFNAME:-$interface}" NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-$interface}"
}

export_data() {
    [ "$SHARE" = nfs ] || return 0
    [ -x /usr/sbin/exportfs ] || system_packages nfs-kernel-server
    local options="rw,sync,no_subtree_check" networks="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16" network line="$DATA"
    for network in $networks; do line+=" $network($options)"; done
    grep -qxF "$line" /etc/exports || echo "$line" | as_root tee -a /etc/exports >/dev/null
    as_root exportfs -ra
}

mount_data() {
    [ "$SHARE" = nfs ] || return 0
    [ -x /usr/sbin/mount.nfs ] || system_packages nfs-common
    mountpoint -q "$DATA" || as_root mount -t nfs4 -o hard,noatime "$1:$DATA" "$DATA"
}

mlflow_answers() {
    "$VENV/bin/python" - "http://127.0.0.1:$MLFLOW_PORT/health" 2>/dev/null <<'PYTHON'
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=3)
PYTHON
}

start_mlflow() {
    mkdir -p "$DATA/mlflow/artifacts"
    if mlflow_answers; then return; fi
    # All interfaces: training on workers writes to it. The names are the ones it may be called by.
    setsid nohup "$VENV/bin/python" -m mlflow server --host 0.0.0.0 --port "$MLFLOW_PORT" --workers 1 \
        --backend-store-uri "${PALUKU_MLFLOW_STORE:-sqlite:///$DATA/mlflow/mlflow.db}" \
        --artifacts-destination "${PALUKU_MLFLOW_ARTIFACTS:-$DATA/mlflow/artifacts}" \
        --allowed-hosts "mlflow,mlflow:*,localhost,localhost:*,127.0.0.1,127.0.0.1:*" \
        >"$DATA/mlflow/server.log" 2>&1 </dev/null &
}

wait_for_mlflow() {
    local deadline=$((SECONDS + MLFLOW_PATIENCE_S))
    until mlflow_answers; do
        [ "$SECONDS" -lt "$deadline" ] || fail "MLflow did not start: $(tail -n 3 "$DATA/mlflow/server.log")"
        sleep 1
    done
}

head_node() {
    local address="${PALUKU_ADDRESS:-$(hostname -I | awk '{ print $1 }')}"
    enter
    export_data
    name_mlflow "$address"
    name_interface "$address"
    # The dashboard takes jobs: on loopback, reached through SSH. `keeper` is a place for what must outlive workers.
    ray start --head --port="$GCS_PORT" --object-manager-port="$OBJECT_MANAGER_PORT" --dashboard-host=127.0.0.1 \
        --metrics-export-port="$METRICS_PORT" --resources='{"keeper": 1}' "$@"
    start_mlflow
    wait_for_mlflow
}

worker_node() {
    local address="${1:-}"
    [ -n "$address" ] || fail "name the head's address: \`$0 worker HEAD\`"
    shift
    enter
    mount_data "$address"
    name_mlflow "$address"
    name_interface "$address"
    ray start --address="$address:$GCS_PORT" --object-manager-port="$OBJECT_MANAGER_PORT" \
        --metrics-export-port="$METRICS_PORT" "$@"
}

what="${1:-}"
shift || true
case "$what" in
install) install "$@" ;;
head) head_node "$@" ;;
worker) worker_node "$@" ;;
*) fail "name what to do: install, head or worker" ;;
esac
