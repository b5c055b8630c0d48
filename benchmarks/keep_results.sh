#!/usr/bin/env bash
# Keeps what a Flatland run says, without its pictures: rows packed, tables, the figures that tell.
#
#     benchmarks/keep_results.sh OUT benchmarks/results/NAME
#
# `imagic evaluate --suite=flatland --report_only --out=benchmarks/results/NAME` makes the tables and
# drawn figures of it again.
set -euo pipefail

out=$1 kept=$2
mkdir -p "$kept"
gzip -9nc "$out/rows.jsonl" > "$kept/rows.jsonl.gz"
for name in settings.json manifest.json notes.json realism.json tables.json tables.md; do
  if [ -f "$out/$name" ]; then cp "$out/$name" "$kept/"; fi
done
for name in fig7-ablation fig9-eta fig14-embedding-steps fig15-seeds plane leakage cost \
  random-cases worst-cases-imagic; do
  if [ -f "$out/figures/$name.png" ]; then cp "$out/figures/$name.png" "$kept/"; fi
done
