#!/usr/bin/env bash
# The same job through SkyPilot: a managed job, which finds a zone and replaces preempted slices.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

usage() {
  cat <<'END'
launch/sky.sh COMMAND --name=NAME [flags] [-- program arguments]

Commands
  run      starts a managed job: -- imagic edit --image=...
  task     prints the job's YAML
  status   all managed jobs
  logs     follows the job's output
  delete   cancels the job

Flags
  --name=NAME          of the job
  --type=TYPE          as SkyPilot names it: tpu-v4-8, tpu-v5litepod-4, tpu-v6e-4, H100:1
  --infra=PLACE        e.g. gcp or gcp/us-central2 (default: wherever SkyPilot finds one)
  --spot               cheaper, and may be taken away at any time
  --bucket=gs://...    where the working folder is kept while the program runs
  --sync_every=120     seconds between two copies
  --source=DIR         the checkout to install (default: this one)
  --dry_run            prints every command and does nothing
END
}

name='' type='' infra='' spot=false bucket='' sync_every=120 source='' dry_run=false
flags='name type infra spot bucket sync_every source dry_run'

yaml() { # a string in YAML's single quotes
  [[ $1 != *$'\n'* ]] || die 'a flag may not hold a line break'
  printf "'%s'" "${1//\'/\'\'}"
}

task() {
  need name type bucket
  ((${#rest[@]})) || die "say what to run: -- imagic edit --image=..."
  local place=''
  [[ -z $infra ]] || place="
  infra: $(yaml "$infra")"
  cat <<END
name: $(yaml "$name")
workdir: $(yaml "${source:-$(dirname "$here")}")
resources:
  accelerators: $(yaml "$type")
  use_spot: $spot$place
setup: |
  bash launch/worker.sh install "\$PWD"
run: |
  bash launch/worker.sh keep $(quoted "${bucket%/}/$name" "$sync_every" "${rest[@]}")
END
}

start() {
  local file
  file=$(mktemp -d)/task.yaml
  task >"$file"
  [[ $dry_run != true ]] || cat "$file"
  run sky jobs launch --yes "--name=$name" "$file"
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
    run) start ;;
    task) task ;;
    status) run sky jobs queue ;;
    logs) need name && run sky jobs logs "--name=$name" ;;
    delete) need name && run sky jobs cancel --yes "--name=$name" ;;
    *) die "there is no command '$command'; see 'launch/sky.sh help'" ;;
  esac
}

main "$@"
