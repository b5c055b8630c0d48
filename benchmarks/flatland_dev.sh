#!/usr/bin/env bash
# The dev tier of the Flatland benchmark for one model, as its tables are made:
#
#     benchmarks/flatland_dev.sh PRESET OUT [FLAG ...]
#     benchmarks/flatland_dev.sh flatland_sd_fast imagic_out/dev-sd
#
# 100 test pictures with 4 seeds each, at the strength that is best for each method on 40 validation
# pictures with 2 seeds (11 strengths each); every strength is drawn on validation pictures alone.
# How many embedding steps are needed (C4) is asked of 24 validation pictures. Stopped, the same
# command goes on. Further flags come last: --count=40 makes it 40 test and 20 validation pictures.
set -euo pipefail

preset=$1 out=$2
shift 2

imagic evaluate --suite=flatland --tier=dev --nosweep --config="$preset" --out="$out" \
  --methods=imagic,sdedit,ddib,ddim_inversion,copy,imagic_no_tuning,text_only,imagic_no_embedding \
  --for_checks=imagic_10_embedding_steps,imagic_100_embedding_steps,imagic_1000_embedding_steps \
  --check_items=24 "$@"
