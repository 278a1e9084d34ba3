#!/usr/bin/env bash
# One run a task on a SLURM cluster, the same command as anywhere:  sbatch dyga/study/slurm.sh shapes3d [profile]
# Tasks 0-34 are seven variants times five seeds. Afterwards ./run_all.sh with the same data set, profile, variants and seeds
# finds the runs done, and makes the tables and the report. Set up and prepare first: ./run_all.sh test --co; dyga data prepare NAME.
#SBATCH --job-name=dyga --array=0-34 --gpus=1 --cpus-per-task=8 --mem=32G --time=24:00:00 --output=slurm-%a.txt
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}"
dataset=${1:?usage: sbatch dyga/study/slurm.sh DATASET [PROFILE]}
profile=${2:-paper}
mapfile -t variants < <(.venv/bin/python -c "from dyga.config import parse_variants; print(*parse_variants('all'), sep='\n')")
task=${SLURM_ARRAY_TASK_ID:?run this with sbatch}
study=$(.venv/bin/python -c "import sys; from dyga.config import study_name; print(study_name(*sys.argv[1:]))" "$profile" "$dataset")
folder=runs/$study/first_stage
failed=slurm-${SLURM_ARRAY_JOB_ID:-0}.failed
# The first task trains the first stage that all share; the others wait until it is there, or has failed.
if [ "$task" = 0 ]; then
    .venv/bin/dyga first-stage --dataset "$dataset" --profile "$profile" || { touch "$failed"; exit 1; }
else
    until [ -f "$folder/model.safetensors" ]; do
        [ ! -f "$failed" ] || { echo "the first stage failed: see slurm-0.txt" >&2; exit 1; }
        sleep 30
    done
fi
exec .venv/bin/dyga train --dataset "$dataset" --profile "$profile" --variant "${variants[task % 7]}" --seed $((task / 7))
