#!/usr/bin/env bash
#
# Measures this machine's GPU and makes the tables: `make gpu-report`. docs/gpu.md tells what comes back.
# Arguments go to `benches/gpu.sh full`.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
report=target/gpu-report
code=0
benches/gpu.sh full --out "$report" "$@" || code=$?
[ -f "$report/rows.jsonl" ] || exit "$code"
if python=$(command -v "${PYTHON:-python3}" || command -v python3); then
    "$python" benches/gpu_report.py "$report" >"$report/report.md"
    sed -n '1,/^## Variants/p' "$report/report.md" | sed '$d'
    printf 'All tables are in %s/report.md. ' "$report"
else
    printf 'No python3 to make tables with. '
fi
printf 'To send figures home, open an issue with %s/rows.jsonl.\n' "$report"
exit "$code"
