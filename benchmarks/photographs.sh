#!/usr/bin/env bash
# Trains supervised, cutmix and prototype on the nuclei (12 labels, three seeds) and the camvid (46 labels, two seeds)
# photographs, every method for the same steps on the same labelled batches, two runs at a time with one thread each.
#     benchmarks/photographs.sh DATA [nuclei|camvid]     DATA holds nuclei/ and camvid/; runs go to runs/
# A run that is finished is not done again; one that was stopped goes on.
set -euo pipefail
data=$1
which=${2:-all}

nuclei() { # METHOD SEED
    uv run semiseg train folder --data.root "$data/nuclei" --data.labeled splits/12/labeled.txt \
        --data.unlabeled splits/12/unlabeled.txt --data.val val.txt --method "$1" --seed "$2" \
        --data.cache true --train.workers 0 --train.threads 1 --run "runs/nuclei-12-$1-$2" --resume
}

camvid() { # METHOD SEED
    uv run semiseg train camvid --data.root "$data/camvid" --data.labeled splits/46/labeled.txt \
        --data.unlabeled splits/46/unlabeled.txt --method "$1" --seed "$2" \
        --train.workers 0 --train.threads 1 --run "runs/camvid-46-$1-$2" --resume
}

jobs() {
    if [ "$which" != camvid ]; then for s in 0 1 2; do for m in prototype supervised cutmix; do echo nuclei $m $s; done; done; fi
    if [ "$which" != nuclei ]; then for s in 0 1; do for m in prototype supervised cutmix; do echo camvid $m $s; done; done; fi
}

export data
export -f nuclei camvid
mkdir -p runs
jobs | xargs -P 2 -L 1 bash -c '[ -e runs/$0-*-$1-$2/result.json ] || $0 $1 $2 > runs/$0-$1-$2.log 2>&1'
