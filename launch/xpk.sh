#!/usr/bin/env bash
# The same job on a GKE cluster through xpk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

usage() {
  cat <<'END'
launch/xpk.sh COMMAND --cluster=CLUSTER [flags] [-- program arguments]

Commands
  create   makes a cluster with slices of one type
  run      starts a workload: -- imagic edit --image=...
  status   the cluster's workloads
  delete   removes the workload
  destroy  removes the cluster

Flags
  --cluster=NAME       of the cluster
  --name=NAME          of the workload
  --project=, --zone=  (default: gcloud's own)
  --type=TYPE          as xpk names it: v4-8, v5litepod-16, v5p-8, v6e-16
  --slices=1           how many of them
  --spot               cheaper, and may be taken away at any time
  --restarts=10        how often a workload that was stopped is started again
  --bucket=gs://...    where the working folder is kept while the program runs
  --sync_every=120     seconds between two copies
  --image=IMAGE        a base image with Python 3.11 or newer and gcloud
                       (default: gcr.io/google.com/cloudsdktool/google-cloud-cli:slim)
  --source=DIR         the checkout to run (default: this one)
  --dry_run            prints every command and does nothing
END
}

cluster='' name='' project='' zone='' type='' slices=1 spot=false restarts=10 bucket=''
sync_every=120 source='' dry_run=false
image=gcr.io/google.com/cloudsdktool/google-cloud-cli:slim
flags='cluster name project zone type slices spot restarts bucket sync_every image source dry_run'

# xpk NOUN VERB WORD...: one call about this cluster.
call() {
  local at=("--cluster=$cluster")
  [[ -z $project ]] || at+=("--project=$project")
  [[ -z $zone ]] || at+=("--zone=$zone")
  run xpk "$@" "${at[@]}"
}

create() {
  need cluster type
  local capacity=--on-demand
  [[ $spot != true ]] || capacity=--spot
  call cluster create "--tpu-type=$type" "--num-slices=$slices" "$capacity"
}

start() {
  need_plain name
  need cluster type bucket
  ((${#rest[@]})) || die "say what to run: -- imagic edit --image=..."
  # shellcheck disable=SC2016 # $PWD is the container's
  local install='bash launch/worker.sh install "$PWD"' keep
  keep="bash launch/worker.sh keep $(quoted "${bucket%/}/$name" "$sync_every" "${rest[@]}")"
  call workload create "--workload=$name" "--tpu-type=$type" "--num-slices=$slices" \
    "--max-restarts=$restarts" "--base-docker-image=$image" \
    "--script-dir=${source:-$(dirname "$here")}" "--command=$install && $keep"
}

main() {
  local command=${1:-}
  case $command in
    '' | help | --help | -h)
      usage
      return 0
      ;;
  esac
  shift
  parse_flags "$flags" "$@"
  need_seconds sync_every
  case $command in
    create) create ;;
    run) start ;;
    status) need cluster && call workload list ;;
    delete) need cluster name && call workload delete "--workload=$name" ;;
    destroy) need cluster && call cluster delete ;;
    *) die "there is no command '$command'; see 'launch/xpk.sh help'" ;;
  esac
}

main "$@"
