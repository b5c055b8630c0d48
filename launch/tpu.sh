#!/usr/bin/env bash
# Cloud TPU VMs from flags: create, install, run on all workers, follow, fetch, delete, babysit.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

usage() {
  cat <<'END'
launch/tpu.sh COMMAND --name=NAME --zone=ZONE [--project=PROJECT] [flags] [-- program arguments]

Commands
  create     asks for a slice as a queued resource and waits until it is there
  install    puts imagic_jax into a virtual environment on every worker
  run        starts a program on every worker, in the background: -- imagic edit --image=...
  status     the slice's state, and the program's: running, idle, or its exit code
  logs       follows the program's output on one worker
  fetch      brings results here
  delete     gives the slice back
  babysit    create, install, run; when the slice is taken away, again, until the program ends

Flags
  --name=NAME        of the slice
  --project=PROJECT  (default: gcloud's own)
  --zone=ZONE        e.g. us-central2-b
  --type=TYPE        e.g. v4-8, v5litepod-4, v5p-8, v6e-4
  --runtime=VERSION  of the VM's image (default: the one for the type)
  --spot             cheaper, and may be taken away at any time
  --reserved         from a reservation
  --network=, --subnetwork=, --service_account=
  --source=WHAT      what to install: a folder (default: this checkout) or what pip understands,
                     e.g. git+https://github.com/you/imagic_jax
  --bucket=gs://...  the working folder is kept there while the program runs, and brought back
                     before it starts: what a spot slice needs to go on where it was
  --sync_every=120   seconds between two such copies
  --worker=0         whose output `logs` follows, whose files `fetch` takes
  --out=DIR          where `fetch` puts results (default: imagic_out)
  --poll=60          seconds between looks at a slice that is awaited or babysat
  --dry_run          prints every command and does nothing

The program runs in ~/imagic_run of each worker; keep its output there (a relative --out).
END
}

name='' project='' zone='' type='' runtime='' network='' subnetwork='' service_account=''
spot=false reserved=false source='' bucket='' sync_every=120 worker=0 out=imagic_out poll=60
dry_run=false
flags='name project zone type runtime network subnetwork service_account spot reserved source
 bucket sync_every worker out poll dry_run'

# tpu vm|queue VERB WORD...: one gcloud call about this slice.
tpu() {
  local group verb=$2 at=("--zone=$zone")
  case $1 in vm) group=tpu-vm ;; queue) group=queued-resources ;; esac
  shift 2
  [[ -z $project ]] || at+=("--project=$project")
  run gcloud compute tpus "$group" "$verb" "$@" "${at[@]}"
}

on() { # on WORKER LINE: a line of bash on one worker, or on all
  tpu vm ssh "$name" "--worker=$1" "--command=$2"
}

runtime_for() {
  case $1 in
    v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) die "--type=$1: no image is known for it; give --runtime" ;;
  esac
}

state() { # of the queued resource; MISSING where there is none
  tpu queue describe "$name" '--format=value(state.state)' 2>/dev/null || echo MISSING
}

node_state() { # of the slice itself: a preempted one says so here first
  tpu vm describe "$name" '--format=value(state)' 2>/dev/null || echo MISSING
}

ask_for_slice() {
  local more=()
  need_plain name
  need zone type
  [[ -n $runtime ]] || runtime=$(runtime_for "$type")
  [[ $spot != true ]] || more+=(--spot)
  [[ $reserved != true ]] || more+=(--reserved)
  [[ -z $network ]] || more+=("--network=$network")
  [[ -z $subnetwork ]] || more+=("--subnetwork=$subnetwork")
  [[ -z $service_account ]] || more+=("--service-account=$service_account")
  tpu queue create "$name" "--node-id=$name" "--accelerator-type=$type" \
    "--runtime-version=$runtime" ${more[@]+"${more[@]}"}
}

await_slice() {
  local now
  [[ $dry_run != true ]] || return 0
  while true; do
    now=$(state)
    say "$name: $now"
    case $now in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDING | SUSPENDED | MISSING) return 1 ;;
    esac
    sleep "$poll"
  done
}

create() {
  ask_for_slice
  await_slice || die "$name is not to be had: $(state); 'delete' removes the request"
}

install_everywhere() {
  local what=${source:-$(dirname "$here")} archive
  need name zone
  tpu vm scp "$here/worker.sh" "$name:imagic_worker.sh" --worker=all
  if [[ -d $what ]]; then
    archive=${TMPDIR:-/tmp}/imagic_jax-$$.tar.gz
    run tar -C "$what" --exclude=./.git --exclude=./.venv --exclude=./venv --exclude=./build \
      --exclude=__pycache__ --exclude=./imagic_out --exclude=./imagic_train \
      --exclude=./imagic_models -czf "$archive" .
    tpu vm scp "$archive" "$name:imagic_jax.tar.gz" --worker=all
    run rm -f "$archive"
    on all 'bash imagic_worker.sh install imagic_jax.tar.gz'
  else
    on all "bash imagic_worker.sh install $(quoted "$what")"
  fi
}

start() {
  need name zone
  ((${#rest[@]})) || die "say what to run: -- imagic edit --image=..."
  local kept=''
  [[ -z $bucket ]] || kept=${bucket%/}/$name
  on all "bash imagic_worker.sh start $(quoted "$kept" "$sync_every" "${rest[@]}")"
}

program_state() { # running, idle, an exit code; unknown where the worker does not answer
  local ask='if [ -f imagic_worker.sh ]; then bash imagic_worker.sh state; else echo idle; fi'
  on "$worker" "$ask" 2>/dev/null || echo unknown
}

status() {
  need name zone
  printf 'request: %s\nslice: %s\nprogram: %s\n' "$(state)" "$(node_state)" "$(program_state)"
}

logs() {
  need name zone
  on "$worker" 'tail -n +1 -F imagic_run.log'
}

fetch() {
  need name zone
  run mkdir -p "$out"
  if [[ -n $bucket ]]; then
    local kept=${bucket%/}/$name/worker-$worker slot=SLOT
    [[ $dry_run == true ]] || slot=$(gcloud storage cat "$kept/latest")
    run gcloud storage rsync --recursive "$kept/$slot" "$out"
  else
    tpu vm scp --recurse "$name:imagic_run/." "$out" "--worker=$worker"
  fi
}

delete() {
  need name zone
  tpu queue delete "$name" --force --quiet
}

babysit() {
  local now
  need_plain name
  need zone type bucket
  ((${#rest[@]})) || die "say what to run: -- imagic edit --image=..."
  if [[ $dry_run == true ]]; then
    ask_for_slice
    install_everywhere
    start
    say "(then a look every $poll s: delete, create, install and run again when it is taken away)"
    return 0
  fi
  while true; do
    now=$(state)
    [[ $now != ACTIVE || $(node_state) != @(PREEMPTED|TERMINATED) ]] || now=SUSPENDED
    case $now in
      ACTIVE) watch_program || return $? ;;
      MISSING) ask_for_slice || say "no slice yet" ;;
      FAILED | SUSPENDING | SUSPENDED)
        say "$name: $now; asking for another"
        delete || say "it cannot be deleted yet"
        ;;
      *) say "$name: $now" ;;
    esac
    [[ -z ${finished:-} ]] || return 0
    sleep "$poll"
  done
}

watch_program() { # starts the program where it is not; its exit code once it has ended
  local now
  now=$(program_state)
  say "$name: ACTIVE, program $now"
  case $now in
    running | unknown) return 0 ;;
    0)
      finished=true
      fetch
      ;;
    idle) { install_everywhere && start; } || say "not started; once more" ;;
    *)
      logs_tail
      say "the program failed with exit code $now; the slice is left as it is"
      return 1
      ;;
  esac
}

logs_tail() { on "$worker" 'tail -n 30 imagic_run.log' >&2 || true; }

main() {
  local command=${1:-}
  case $command in
    '' | help | --help | -h)
      usage
      return 0
      ;;
  esac
  shift
  parse_flags "${flags//$'\n'/}" "$@"
  need_seconds poll sync_every
  case $command in
    create) create ;;
    install) install_everywhere ;;
    run) start ;;
    status | logs | fetch | delete | babysit) "$command" ;;
    *) die "there is no command '$command'; see 'launch/tpu.sh help'" ;;
  esac
}

main "$@"
