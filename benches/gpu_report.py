#!/usr/bin/env python3
"""Makes tables of what `benches/gpu.sh` measured: the rows for benches/RESULTS.md, every variant of the matrix products
and ops, new estimates for the variants' order, and what was wrong.

    gpu_report.py [REPORT] [--against OLDER]

A report is a folder with rows.jsonl, or such a file (default: target/gpu-report).  With --against each figure stands
beside that of an older report.  The new estimates are the numbers `speed` of src/ops/*/variants.rs: from each variant's
time beside the time that its present number claims, scaled so that the fastest portable one keeps its number.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys


# What a row holds, and what stands for it where it is missing or of another kind.
FIELDS = {
    "row": str, "commit": str, "scale": str, "adapter": str, "status": str, "why": str, "stderr": str,
    "seconds": (int, float), "limit": (int, float), "command": list, "output": list, "lost": list,
}  # fmt: skip


def read(path):
    """Rows by name, of a folder with rows.jsonl or such a file.  A later line of a row takes the place of an earlier one,
    unless the row did not come to its end and has less to show."""
    path = pathlib.Path(path)
    path = path / "rows.jsonl" if path.is_dir() else path
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as e:
        sys.exit(f"gpu_report.py: {path}: {e.strerror}; run benches/gpu.sh first")
    rows = {}
    for line in text.splitlines():
        try:
            row = json.loads(line, parse_constant=lambda _: None)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("row"), str):
            print(f"gpu_report.py: {path}: a line is no row", file=sys.stderr)
            continue
        for key, kind in FIELDS.items():
            if not isinstance(row.get(key), kind):
                row[key] = {str: "", list: []}.get(kind, 0.0)
        row["output"] = [o for o in row["output"] if isinstance(o, dict)]
        row["lost"], row["command"] = ([str(x) for x in row[key]] for key in ("lost", "command"))
        old = rows.get(row["row"])
        same = old and all(old[key] == row[key] for key in ("commit", "scale", "adapter"))
        if not same or row["status"] in ("ok", "failed") or len(row["output"]) >= len(old["output"]):
            rows[row["row"]] = row
    if not rows:
        sys.exit(f"gpu_report.py: {path} holds no rows; run benches/gpu.sh first")
    return rows


def table(heads, lines):
    """A Markdown table."""
    clean = lambda cell: str(cell).replace("|", "/").replace("\n", " ")
    text = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(text + ["| " + " | ".join(map(clean, line)) + " |" for line in lines]) + "\n"


def number(x):
    """Three digits, and all those before the point."""
    if not isinstance(x, (int, float)) or not math.isfinite(x):
        return "?"
    return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"


class Reader:
    """The rows of a report, by what is asked of them."""

    def __init__(self, rows):
        self.rows = rows

    def output(self, row):
        return self.rows.get(row, {}).get("output", [])

    def first(self, row):
        """The one document of a row."""
        found = self.output(row)
        return found[0] if found else {}

    def items(self, row):
        return [o for o in self.output(row) if isinstance(o.get("item"), str)]

    def command(self, row):
        words = self.rows.get(row, {}).get("command", [])
        return " ".join(pathlib.PurePath(w).name if w.startswith("/") else w for w in words)

    def adapter(self):
        """Name and driver, as the rows have it that were measured last."""
        known = [row["adapter"] for row in self.rows.values() if row["adapter"] not in ("", "unknown")]
        return known[-1] if known else "unknown adapter"

    def ceilings(self):
        for row in ("gemm-f16", "gemm-f32", "vit-ops-1"):
            if "ceilings" in self.first(row):
                return self.first(row)["ceilings"]
        return {}

    def torch(self):
        """PyTorch's items of all its rows."""
        return {o["item"]: o for row in ("torch-vit", "torch-vit-more") for o in self.items(row)}


class Figure:
    """One figure, ours and PyTorch's."""

    def __init__(self, name, unit, ours, theirs=None, less=False, remark="", row=""):
        self.name, self.unit, self.ours, self.theirs = name, unit, ours, theirs
        self.less, self.remark, self.row = less, remark, row

    def ahead(self, other):
        """How many times as fast as `other`: above 1 is faster."""
        if not self.ours or not other:
            return None
        return other / self.ours if self.less else self.ours / other


def common(ours, theirs):
    """How long the beginning is that two lists of ids share."""
    if not ours or not theirs:
        return ""
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"first {same} of {len(theirs)} ids equal"


def answers(ours, theirs):
    """How near two engines' answers are."""
    said = []
    a, b = ours.get("logits"), theirs.get("logits")
    if a and b and len(a) == len(b):
        finite = [(x, y) for x, y in zip(a, b) if None not in (x, y)]
        if len(finite) < len(a):
            said.append(f"**{len(a) - len(finite)} of {len(a)} logits are not finite**")
        if finite:
            worst, largest = max(abs(x - y) for x, y in finite), max(abs(y) for _, y in finite)
            said.append(f"logits within {worst:.1e} (the largest is {largest:.2g})")
    elif a and b:
        said.append(f"**{len(a)} logits, PyTorch has {len(b)}**")
    if ours.get("ids") and theirs.get("ids"):
        said.append(common(ours["ids"], theirs["ids"]))
    return "; ".join(said)


def gemm_figures(report):
    torch, found = report.torch(), []
    for row in ("gemm-f16", "gemm-f32", "gemm-f16-large"):
        cases = {}
        for item in report.items(row):
            if "gflops" in item:
                cases.setdefault((item["case"], item["dtype"]), []).append(item)
        for (case, dtype), ways in cases.items():
            theirs = torch.get(f"{case} {dtype}", {}).get("gflops")
            theirs = theirs / 1e3 if theirs else None
            right = [w for w in ways if w.get("pass", True)]
            if not right:
                found.append(Figure(f"{case} {dtype}", "TFLOP/s", None, theirs, remark="**every variant is wrong**", row=row))
                continue
            best = max(right, key=lambda w: w["gflops"])
            way = best["item"].rsplit(" ", 1)[-1]
            tf32 = torch.get(f"{case} tf32", {}).get("gflops") if dtype == "f32" else None
            remark = f"{way}, {best['roofline']:.0%} of the roof" + (f"; PyTorch's TF32 {number(tf32 / 1e3)}" if tf32 else "")
            found.append(Figure(f"{case} {dtype}", "TFLOP/s", best["gflops"] / 1e3, theirs, remark=remark, row=row))
    return found


def vit_figures(report):
    torch, found = report.torch(), []
    for row in ("vit-profile-1", "vit-profile-batch"):
        document = report.first(row)
        if document.get("totals"):
            name = f"{document['model']['id']} {document['model']['dtype']} batch {document['batch']}"
            eager = torch.get(f"{name} eager", {}).get("ms")
            remark = f"{document['clock']}, {document['totals']['launches']} launches, {number(document['totals']['gflops'] / 1e3)} TFLOP/s"
            ours = document["totals"]["pass_us"] / 1e3
            found.append(Figure(f"{name}, on the device", "ms", ours, eager, less=True, remark=remark, row=row))
    for row in ("vit-f16", "vit-more", "vit-f32"):
        for run in report.first(row).get("rows", []):
            name = f"{run['model']} {run['dtype']} batch {run['batch']}"
            if run["test"] != "run":
                if run.get("ms"):
                    found.append(Figure(f"{name} {run['test']}", "ms", run["ms"]["mean"], less=True, row=row))
                continue
            if not run.get("samples_ms"):
                found.append(Figure(name, "images/s", None, remark=run.get("error", ""), row=row))
                continue
            ms = statistics.median(run["samples_ms"])
            eager, compiled = (torch.get(f"{name} {way}", {}).get("images_per_second") for way in ("eager", "compiled"))
            remark = f"{number(ms)} ms" + (f"; torch.compile {number(compiled)}" if compiled else "")
            found.append(Figure(name, "images/s", run["batch"] / ms * 1e3, eager, remark=remark, row=row))
    return found


def llamagen_figures(report):
    copy, found = report.ceilings(), []
    roof = max(copy.get("kernel_copy", 0), copy.get("buffer_copy", 0))
    for row in report.rows:
        ours, theirs = report.first(row), report.first(f"torch-{row}")
        if not row.startswith("llamagen-") or "tokens_per_second" not in ours:
            continue
        rate = ours["tokens_per_second"]
        used = f"{rate * ours['bytes_per_token'] / roof:.0%} of the copy bandwidth, " if roof else ""
        remark = f"{used}{ours['launches_per_token']} launches a token; {common(ours['ids'], theirs.get('ids'))}"
        found.append(Figure(f"{row} decode", "tokens/s", rate, theirs.get("tokens_per_second"), remark=remark, row=row))
        first = ours["first_seconds"] * 1e3
        found.append(Figure(f"{row} first token", "ms", first, less=True, row=row))
        picture = [x.get("picture_seconds") for x in (ours, theirs)]
        picture = [x * 1e3 if x else None for x in picture]
        found.append(Figure(f"{row} image decoded", "ms", *picture, less=True, row=row))
    return found


def text_figures(report):
    names = {"seconds": "pass", "encode_seconds": "encoder", "first_seconds": "first token", "tokens_per_second": "decode"}
    found = []
    for row in [f"{kind}-{dtype}" for kind in ("bert", "gpt2", "t5") for dtype in ("f16", "f32")]:
        ours, theirs = report.first(row), report.first(f"torch-{row}")
        remark = answers(ours, theirs)
        for key, name in names.items():
            if ours.get(key) is None:
                continue
            less = key.endswith("seconds")
            scale = 1e3 if less else 1
            value = theirs.get(key)
            value = value * scale if value else None
            unit = "ms" if less else "tokens/s"
            found.append(Figure(f"{row} {name}", unit, ours[key] * scale, value, less, remark, row))
            remark = ""
    return found


def figures(report):
    return gemm_figures(report) + vit_figures(report) + llamagen_figures(report) + text_figures(report)


def results(report):
    adapter = report.adapter().split(";")[0]
    lines = []
    for f in figures(report):
        theirs = f"{number(f.theirs)} {f.unit}" if f.theirs else ""
        ratio = f.ahead(f.theirs)
        shown = f"{number(f.ours)} {f.unit}" if f.ours else "not measured"
        lines.append((f.name, adapter, shown, theirs, f"{ratio:.2f}" if ratio else "", f.remark, f"row `{f.row}`"))
    return table(("work", "adapter", "measured", "PyTorch, same card", "times as fast", "", "command"), lines)


def checks(report):
    """What agreed with the reference and with PyTorch, and what did not."""
    text = ""
    names = {"kernels": "kernel checks", "kernels-every": "kernel checks of all cases", "goldens": "recorded models"}
    for name, row in report.rows.items():
        items = [i for i in report.items(name) if "pass" in i]
        if items:
            wrong = [i for i in items if i["pass"] is not True]
            text += f"- {names.get(name, f'results of `{name}`')}: {len(items) - len(wrong)} of {len(items)} agree\n"
            for i in wrong[:40]:
                why = i.get("failure") or f"error {i.get('max_error')}, tolerance {i.get('tolerance')} {i.get('wrong', '')}"
                text += f"  - **{i['item']}**: {why}\n"
            text += f"  - and {len(wrong) - 40} more\n" if len(wrong) > 40 else ""
        theirs = report.first(f"torch-{name}")
        if theirs and answers(report.first(name), theirs):
            text += f"- `{name}` beside PyTorch: {answers(report.first(name), theirs)}\n"
        if row["status"] in ("crashed", "hung", "timed-out") or (row["status"] == "failed" and not items):
            text += f"- `{name}` {row['status']}: {row['why']}\n"
        for line in [l for o in report.output(name) for l in str(o.get("text", "")).splitlines() if "FAIL" in l][:40]:
            text += f"  - {line.strip()}\n"
        if row["lost"]:
            text += f"- `{name}` hung or died in: {', '.join(row['lost'])}\n"
        for item in report.items(name):
            if item.get("failure") and "pass" not in item:
                text += f"- `{name}`: {item['item']}: {item['failure']}\n"
    return text or "- nothing was checked\n"


def timed_cases(report):
    """Variants by case, those that were right, of every op that was timed in more than one."""
    cases = {}
    for row in report.rows:
        for item in report.items(row):
            if item.get("estimate") and item.get("pass", True) and item["estimate"].get("speed"):
                variants = cases.setdefault(f"{item['case']} {item['dtype']}", {})
                variants[item["estimate"]["variant"]] = (item["item"].rsplit(" ", 1)[-1].split("=")[0], item)
    return {case: variants for case, variants in cases.items() if len(variants) > 1}


def variants(report):
    text = ""
    for case, ways in timed_cases(report).items():
        first = min(ways, key=lambda w: ways[w][1]["estimate"]["time"])
        best = min(ways, key=lambda w: ways[w][1]["median_us"])
        loss = ways[first][1]["median_us"] / ways[best][1]["median_us"]
        text += f"\n{case}: the estimate takes {first}" + (
            ", which is the fastest\n\n" if first == best else f", {loss:.2f} times as long as {best}\n\n"
        )
        lines = []
        for name, (_, item) in sorted(ways.items(), key=lambda way: way[1][1]["median_us"]):
            us, spread = item["median_us"], item["spread_us"]
            lines.append((name, number(us), number(spread), number(item["gflops"]), number(item["gbytes"]), f"{item['roofline']:.0%}"))
        text += table(("variant", "median us", "spread us", "GFLOP/s", "GB/s", "of the roof"), lines)
    return text or "no op was timed in more than one variant\n"


def estimates(report):
    """The numbers `speed` that would have put the variants in the order of their times.

    The time of a variant is estimated as its work over its speed.  So the logarithm of what its speed should have been is
    a number of the variant and one of the case, which is what one unit of estimated time is worth there: both are fitted
    by least squares over all cases, and the scale is set so that the portable variant with most cases keeps its number."""
    claimed, rates = {}, {}
    for case, ways in timed_cases(report).items():
        for name, (op, item) in ways.items():
            estimate = item["estimate"]
            claimed[op, name] = estimate["speed"]
            rate = math.log(estimate["speed"] * estimate["time"] / item["median_us"])
            rates.setdefault(op, {}).setdefault(name, {})[case] = rate
    lines = []
    for op, variants in sorted(rates.items()):
        mean = lambda values: sum(values) / len(values)
        cases = {case for found in variants.values() for case in found}
        speed, unit = dict.fromkeys(variants, 0.0), dict.fromkeys(cases, 0.0)
        for _ in range(200):
            for case in cases:
                unit[case] = mean([found[case] - speed[name] for name, found in variants.items() if case in found])
            for name, found in variants.items():
                speed[name] = mean([rate - unit[case] for case, rate in found.items()])
        portable = [name for name in variants if not name.startswith("coop")] or list(variants)
        anchor = max(portable, key=lambda name: (len(variants[name]), claimed[op, name]))
        shift = math.log(claimed[op, anchor]) - speed[anchor]
        for name, found in sorted(variants.items()):
            values = [math.exp(rate - unit[case] + shift) for case, rate in found.items()]
            spread = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
            mark = " (kept)" if name == anchor else ""
            lines.append((op, name, number(claimed[op, name]), number(math.exp(speed[name] + shift)) + mark, spread, len(values)))
    return table(("op", "variant", "speed now", "speed measured", "from to", "cases"), lines)


def compared(report, older):
    old = {f.name: f for f in figures(older)}
    lines = []
    for f in figures(report):
        before = old.get(f.name)
        ratio = f.ahead(before.ours) if before else None
        was = f"{number(before.ours)} {f.unit}" if before and before.ours else ""
        now = f"{number(f.ours)} {f.unit}" if f.ours else "not measured"
        lines.append((f.name, was, now, f"{ratio:.2f}" if ratio else ""))
    gone = [name for name in old if name not in {f.name for f in figures(report)}]
    text = table(("work", "then", "now", "times as fast"), lines)
    return text + (f"\nonly then: {', '.join(gone)}\n" if gone else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", default="target/gpu-report")
    parser.add_argument("--against", metavar="OLDER")
    options = parser.parse_args()
    report = Reader(read(options.report))
    rows = report.rows.values()
    listed = lambda key: ", ".join(sorted({row[key] for row in rows if row[key]})) or "unknown"
    engines = {str(o["engine"]) for row in rows for o in row["output"] if str(o.get("engine", "")).startswith("PyTorch")}
    print(f"# {report.adapter()}\n\nvit-gpu at {listed('commit')}; {', '.join(sorted(engines)) or 'no PyTorch'}")
    if len({row["adapter"] for row in rows} - {"", "unknown"}) > 1:
        print(f"\n**Rows of several adapters: {listed('adapter')}**")
    if any(row["scale"] == "tiny" for row in rows):
        print("\n**A rehearsal on tiny sizes: no figure below says anything of the adapter.**")
    section("Roofs", roofs, report)
    section("Right or wrong", checks, report)
    section("Results", results, report)
    if options.against:
        section(f"Against {options.against}", compared, report, Reader(read(options.against)))
    section("Variants", variants, report)
    section("Estimates", estimates, report)
    section("Rows", every_row, report)


def section(title, make, *reports):
    """Prints a section; one that a damaged report has no figures for costs itself."""
    try:
        text = make(*reports)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as e:
        text = f"cannot be made of this report: {type(e).__name__}: {e}\n"
    print(f"\n## {title}\n\n{text}", end="")


def roofs(report):
    copy = report.ceilings()
    if not copy:
        return "not measured\n"
    parts = [f"copy {number(max(copy['kernel_copy'], copy['buffer_copy']) / 1e9)} GB/s"]
    parts += [f"{key} {number(copy[key] / 1e12)} TFLOP/s" for key in ("f32", "f16", "matrix") if copy.get(key)]
    return f"{', '.join(parts)}; a launch takes {number(copy['launch'] * 1e6)} us; {copy['clock']}\n"


def every_row(report):
    lines = []
    for name, row in report.rows.items():
        lines.append((f"`{name}`", row["status"], number(row["seconds"]), number(row["limit"]), row["why"], f"`{report.command(name)}`"))
    return table(("row", "status", "seconds", "limit", "why", "command"), lines)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
