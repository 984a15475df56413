#!/usr/bin/env bash
# What each machine of a cluster does. Cluster files ship the checkout to ~/ftcl-study and call this there.
#
#   deploy/node.sh install [gpu]        make .venv with the pinned packages, or bring it up to date
#   deploy/node.sh wanted [gpu]         show what .venv/installed says when nothing is left to be done
#   deploy/node.sh head [OPTION ...]    start the head; options are those of `ray start`, such as --num-cpus=8
#   deploy/node.sh worker [OPTION ...]  start a worker of the head at $RAY_HEAD_IP
#   deploy/node.sh worker rented [OPTION ...]  the same; when Ray ends there, and is not started again within
#                                       10 minutes, the machine is powered off: nobody else would
#   deploy/node.sh stop                 stop either
#
# Without a GPU, and unless `gpu` says that one will be used, torch is its smaller build for CPUs;
# TORCH_INDEX names another place to take torch from, and is the package index if it is empty.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOKEN=~/.ray/auth_token
GUARD=~/.ray/guard.pid
MARK='# ftcl-study: for logins, and for what `ray exec` and `ray job submit` run'

fail() {
  echo "deploy/node.sh: $(hostname): $*" >&2
  exit 1
}

install() {
  choose_torch "${1:-}"
  if [[ $(cat .venv/installed 2>/dev/null) != "$(wanted)" ]]; then
    add_system_packages
    # pip takes any build of torch for as good as another, and would keep what is there.
    [[ $(head -n 1 .venv/installed 2>/dev/null) == "$(wanted | head -n 1)" ]] || rm -rf .venv
    rm -f .venv/study .venv/cluster
    make .venv/cluster || fail "the installation failed; what it needs is said above"
    wanted >.venv/installed
  fi
  if ! grep -qsF "$MARK" ~/.bashrc; then
    printf '%s\nexport PATH="%s/.venv/bin:$PATH" RAY_AUTH_MODE=token\n' "$MARK" "$PWD" >>~/.bashrc
  fi
}

choose_torch() {
  GPU=yes
  [[ $1 == gpu ]] || nvidia-smi -L >/dev/null 2>&1 || GPU=
  [[ $GPU ]] || export TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
}

# Of shipped files the times say nothing, so that make is told what has changed.
wanted() {
  echo "torch from ${TORCH_INDEX:-the package index}"
  cat pyproject.toml constraints.txt ftcl/dp/backends/csrc/* | sha256sum
}

# What a bare Ubuntu or Debian lacks. Without a compiler alignments are slower; on a GPU no trial runs without it
# and the headers of Python, for Triton needs both.
add_system_packages() {
  local missing=() sudo=()
  command -v make >/dev/null || missing+=(make)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  [[ ! $GPU ]] || has_headers || missing+=(python3-dev)
  ((${#missing[@]})) && command -v apt-get >/dev/null || return 0
  ((UID == 0)) || sudo=(sudo -n)
  echo "installing ${missing[*]}"
  # A machine that has just booted may be updating itself.
  "${sudo[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${missing[@]}" ||
    fail "install these packages first: ${missing[*]}"
}

has_headers() {
  python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null
}

prepare_ray() {
  [[ -x .venv/bin/ray ]] || fail "Ray is not installed; run deploy/node.sh install"
  [[ -s $TOKEN ]] || fail "there is no $TOKEN; make it on your own machine (ray get-auth-token --generate)," \
    "and let file_mounts of the cluster file ship it"
  chmod 600 "$TOKEN"
  rm -f "$GUARD"
  PATH=$PWD/.venv/bin:$PATH
  export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
  # Ports for metrics would answer without the token; -1 is none.
  export RAY_enable_metrics_collection=false AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1
  # What unwinds in a worker when its trial is stopped may have to write to a slow storage.
  export TUNE_FUNCTION_THREAD_TIMEOUT_S=60
  ulimit -n "$(ulimit -H -n)"
  ray stop
}

start_head() {
  local scaling=()
  prepare_ray
  # A node is given up after three checks of at most 3 s, 2 s apart.
  export RAY_health_check_initial_delay_ms=3000 RAY_health_check_period_ms=2000
  export RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=3 AUTOSCALER_HEARTBEAT_TIMEOUT_S=15
  # A study that `ray job stop` ends has 25 s to end in order (study/stopping.py).
  export RAY_JOB_STOP_WAIT_TIME_S=30
  [[ ! -e ~/ray_bootstrap_config.yaml ]] || scaling=(--autoscaling-config="$HOME/ray_bootstrap_config.yaml")
  ray start --head --port=6379 --dashboard-host=127.0.0.1 --dashboard-port=8265 --disable-usage-stats \
    "${scaling[@]}" "$@"
}

start_worker() {
  local rented=
  [[ ${1:-} != rented ]] || { rented=rented && shift; }
  [[ -n ${RAY_HEAD_IP:-} ]] || fail "RAY_HEAD_IP is not set: the address of the head"
  prepare_ray
  # Whom the head has given up gives up itself: after `ray down`, or when the network is cut.
  export RAY_gcs_rpc_server_reconnect_timeout_s=15
  ray start --address="$RAY_HEAD_IP:6379" --disable-usage-stats "$@"
  nohup setsid --fork deploy/node.sh guard "$(pgrep -n -u "$UID" -x raylet)" $rented </dev/null >/dev/null 2>&1
}

# Ray leaves helpers and busy trials behind when a worker's raylet has ended.
guard() {
  echo $$ >"$GUARD"
  while kill -0 "$1" 2>/dev/null; do sleep 1; done
  ! is_last_start || .venv/bin/ray stop --force || true
  [[ ${2:-} == rented ]] || return 0
  # Only the head ends rented machines; it may be lost, or be started again by `ray up`.
  sleep "${POWER_OFF_AFTER_S:-600}"
  ! is_last_start || sudo -n shutdown -h now
}

# A newer start of Ray here takes the file away.
is_last_start() {
  [[ $(cat "$GUARD" 2>/dev/null) == "$$" ]]
}

command=${1:-}
shift || true
case $command in
  install) install "$@" ;;
  wanted) choose_torch "${1:-}" && wanted ;;
  head) start_head "$@" ;;
  worker) start_worker "$@" ;;
  guard) guard "$@" ;;
  stop) PATH=$PWD/.venv/bin:$PATH ray stop ;;
  *) fail "usage: deploy/node.sh install [gpu] | wanted [gpu] | head | worker | stop" ;;
esac
