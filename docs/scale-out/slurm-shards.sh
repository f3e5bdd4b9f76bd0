#!/bin/sh
#SBATCH --job-name=bindery-explore
#SBATCH --array=1-8
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --time=02:00:00
#SBATCH --output=bindery-explore-%A-%a.log
#
# One part of an exploration per task of the array. Options of `bindery explore` are its arguments:
#   sbatch slurm-shards.sh --model linux-6.12 --faults 3
# REPORTS: a folder that all nodes see. SHARDS: how many parts, when only some of them are run again.
set -eu

: "${REPORTS:=reports-$SLURM_ARRAY_JOB_ID}"
: "${SHARDS:=$SLURM_ARRAY_TASK_MAX}"
shard=$SLURM_ARRAY_TASK_ID

mkdir -p "$REPORTS"
# Exit code 1 is a finding, not a failure: it is in the report, and merging says so.
bindery explore "$@" --shard "$shard/$SHARDS" --json >"$REPORTS/.$shard.tmp" || [ $? -eq 1 ]
mv "$REPORTS/.$shard.tmp" "$REPORTS/$shard.json"
