#!/usr/bin/env bash
# Answer a file of requests with an array of 16 Slurm tasks, and merge their answers.
#
#   sbatch examples/slurm.sh requests.jsonl answers.jsonl
#
# Input and output are on a file system that all nodes share. The key is read from a file that only you can read, so that
# it is neither in this script nor in the job's environment. After a failure submit the same command again, or only the
# tasks that failed (sbatch --array=3,7 …): what is answered is not sent again.
#SBATCH --job-name=answers
#SBATCH --array=0-15
#SBATCH --cpus-per-task=1
#SBATCH --mem=512M
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

requests=$1
answers=$2
shards=16 # not SLURM_ARRAY_TASK_COUNT, which is smaller when only some tasks are submitted again

OPENAI_API_KEY=$(cat "${OPENAI_KEY_FILE:-$HOME/.openai-key}")
export OPENAI_API_KEY

# A signal two minutes before the time limit lets the rows in flight end.
openaiasync run "$requests" -o "$answers" --shard "$SLURM_ARRAY_TASK_ID/$shards" &
trap 'kill -TERM $!' TERM
code=0
wait $! || code=$?
if [ "$code" -gt 128 ]; then
    wait $! || code=$?
fi

# Exit code 3: some rows failed. They are in the output's errors file, and are no reason to run the task again.
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
    exit "$code"
fi

# Each task tries to merge; all but the last one find that shards are missing.
if openaiasync merge "$answers" 2>/dev/null; then
    echo "merged: $answers"
fi
