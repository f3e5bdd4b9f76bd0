#!/bin/sh
#SBATCH --job-name=bindery-explore-merge
#SBATCH --time=00:05:00
#SBATCH --output=bindery-explore-%j.log
#
# Brings the reports of all parts together: slurm-merge.sh FOLDER. Fails when a promise was broken.
set -eu

exec bindery explore --merge "$1"/*.json
