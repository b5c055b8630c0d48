#!/usr/bin/env bash
# What runs on a TPU worker: installs, starts a program, keeps its folder in a bucket.
#
#   worker.sh install WHAT                     into ~/imagic_venv
#   worker.sh start BUCKET SECONDS PROGRAM...  in ~/imagic_run, in the background
#   worker.sh keep BUCKET SECONDS PROGRAM...   the same in the foreground
#   worker.sh state                            running, idle, or the program's exit code
#
# A copy in the bucket is written to one of two slots, and named in `latest` once it is complete: a
# worker that is taken away in the middle of a copy leaves the other slot whole.
set -euo pipefail
cd "$HOME"

install() {
  local what=$1
  if ! [[ -x imagic_venv/bin/pip ]] && ! python3 -m venv imagic_venv; then
    $(command -v sudo) apt-get install -y -q python3-venv # some images lack it
    python3 -m venv imagic_venv
  fi
  if [[ $what == *.tar.gz && -f $what ]]; then
    rm -rf imagic_source
    mkdir imagic_source
    tar -xzf "$what" -C imagic_source
    what=$HOME/imagic_source
  fi
  case $what in # what pip understands: a folder or an address with the extra for TPUs
    /*) what="imagic-jax[tpu] @ file://$what" ;;
    *://*) what="imagic-jax[tpu] @ $what" ;;
  esac
  imagic_venv/bin/pip install --quiet --upgrade "$what" \
    -f https://storage.googleapis.com/jax-releases/libtpu_releases.html
}

number() { # of this worker; the same after the slice was made anew
  local url=http://metadata.google.internal/computeMetadata/v1/instance/attributes
  [[ -z ${TPU_WORKER_ID:-} ]] || { echo "$TPU_WORKER_ID" && return; }
  curl -sf -H 'Metadata-Flavor: Google' "$url/agent-worker-number" || echo 0
}

start() {
  if [[ $(state) == running ]]; then
    echo 'a program is running already' >&2
    exit 2
  fi
  rm -f imagic_run.exit
  nohup setsid bash "$0" keep "$@" >imagic_run.log 2>&1 </dev/null &
  echo $! >imagic_run.pid
}

keep() {
  local kept=$1 every=$2 code=0 program
  shift 2
  mkdir -p imagic_run
  [[ -z $kept ]] || kept=$kept/worker-$(number)
  bring_back "$kept"
  export PATH=$HOME/imagic_venv/bin:$PATH
  (cd imagic_run && exec "$@") &
  program=$!
  trap 'kill -TERM "$program" 2>/dev/null' TERM INT
  while kill -0 "$program" 2>/dev/null; do
    pause "$every" "$program"
    copy "$kept" || echo 'the folder was not copied; again later' >&2
  done
  wait "$program" || code=$?
  copy "$kept" || echo 'the last copy failed' >&2
  echo "$code" >imagic_run.exit
  exit "$code"
}

pause() { # at most SECONDS, less where the program ends
  local left=$1
  while ((left > 0)) && kill -0 "$2" 2>/dev/null; do
    sleep 1
    left=$((left - 1))
  done
}

bring_back() {
  local slot
  [[ -n $1 ]] || return 0
  slot=$(gcloud storage cat "$1/latest" 2>/dev/null) || return 0 # a first start
  gcloud storage rsync --recursive "$1/$slot" imagic_run
}

copy() {
  local slot=a
  [[ -n $1 ]] || return 0
  [[ $(gcloud storage cat "$1/latest" 2>/dev/null) != a ]] || slot=b
  gcloud storage rsync --recursive --delete-unmatched-destination-objects imagic_run "$1/$slot" &&
    printf '%s' "$slot" | gcloud storage cp - "$1/latest"
}

state() {
  if [[ -f imagic_run.exit ]]; then
    cat imagic_run.exit
  elif [[ -f imagic_run.pid ]] && kill -0 "$(cat imagic_run.pid)" 2>/dev/null; then
    echo running
  else
    echo idle
  fi
}

case ${1:-} in
  install | start | keep | state) "$@" ;;
  *)
    echo "usage: worker.sh install|start|state ..." >&2
    exit 2
    ;;
esac
