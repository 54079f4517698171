#!/usr/bin/env python3
"""Makes tables of what `benches/gpu.sh` measured: the rows for benches/RESULTS.md, every variant of the matrix products
and ops, new estimates for the variants' order, and what was wrong.

    gpu_report.py [REPORT] [--against OLDER]

A report is a folder with rows.jsonl, or such a file (default: target/gpu-report).  With --against each figure stands
beside that of an older report.  The new estimates are the numbers `speed` of src/ops/*/ways.rs: from each variant's
time beside the time that its present number claims, scaled so that the fastest portable one keeps its number.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys


def read(path):
    """Rows by name; the last line of each counts, and a line that was cut off does not."""
    path = pathlib.Path(path)
    path = path / "rows.jsonl" if path.is_dir() else path
    rows = {}
    try:
        text = path.read_text()
    except OSError as e:
        sys.exit(f"gpu_report.py: {path}: {e.strerror}; run benches/gpu.sh first")
    for line in text.splitlines():
        try:
            row = json.loads(line)
            rows[row["row"]] = row
        except (ValueError, KeyError, TypeError):
            print(f"gpu_report.py: {path}: a line is no row", file=sys.stderr)
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
    if x is None or not math.isfinite(x):
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
        return [o for o in self.output(row) if "item" in o]

    def command(self, row):
        words = self.rows.get(row, {}).get("command", [])
        return " ".join(pathlib.PurePath(w).name if w.startswith("/") else w for w in words)

    def adapter(self):
        for row in ("kernels", "gemm-f16", "gemm-f32"):
            if "adapter" in self.first(row):
                return self.first(row)["adapter"].strip(), self.first(row)["driver"]
        for adapter in self.first("devices").get("adapters", []):
            if adapter.get("usable"):
                return adapter["name"].strip(), adapter["driver"]
        return "unknown adapter", "unknown driver"

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
    if a and b:
        worst = max(abs(x - y) for x, y in zip(a, b)) if len(a) == len(b) else math.inf
        said.append(f"logits within {worst:.1e} (the largest is {max(map(abs, b)):.2g})")
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
            best = max((w for w in ways if w.get("pass", True)), key=lambda w: w["gflops"], default=ways[0])
            theirs = torch.get(f"{case} {dtype}", {}).get("gflops")
            way = best["item"].rsplit(" ", 1)[-1]
            tf32 = torch.get(f"{case} tf32", {}).get("gflops") if dtype == "f32" else None
            remark = f"{way}, {best['roofline']:.0%} of the roof" + (f"; PyTorch's TF32 {number(tf32 / 1e3)}" if tf32 else "")
            theirs = theirs / 1e3 if theirs else None
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
    adapter, _ = report.adapter()
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
        if row["lost"]:
            text += f"- `{name}` hung or died in: {', '.join(row['lost'])}\n"
        for item in report.items(name):
            if item.get("failure") and "pass" not in item:
                text += f"- `{name}`: {item['item']}: {item['failure']}\n"
    return text or "- nothing was checked\n"


def timed_cases(report):
    """Variants by case: those of every op that was timed in more than one."""
    cases = {}
    for row in report.rows:
        for item in report.items(row):
            if item.get("estimate"):
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
    """The numbers `speed` that would have put the variants in the order of their times."""
    claimed, implied = {}, {}
    for case, ways in timed_cases(report).items():
        by_op = {}
        for name, (op, item) in ways.items():
            by_op.setdefault(op, {})[name] = item
        for op, items in by_op.items():
            # What keeps its number must be a variant that every adapter has.
            portable = [n for n in items if not n.startswith("coop")]
            if not portable:
                continue
            rate = lambda n: items[n]["estimate"]["time"] / items[n]["median_us"]
            anchor = min(portable, key=lambda n: items[n]["median_us"])
            for name, item in items.items():
                speed = item["estimate"]["speed"]
                claimed[op, name] = speed
                implied.setdefault((op, name), []).append((speed * rate(name) / rate(anchor), case))
    lines = []
    for (op, name), found in sorted(implied.items()):
        values = [value for value, _ in found]
        spread = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
        lines.append((op, name, number(claimed[op, name]), number(statistics.median(values)), spread, len(values)))
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
    adapter, driver = report.adapter()
    commits = sorted({row["commit"] for row in report.rows.values()})
    scales = sorted({row["scale"] for row in report.rows.values()})
    engines = sorted({o["engine"] for row in report.rows for o in report.output(row) if str(o.get("engine", "")).startswith("PyTorch")})
    print(f"# {adapter}\n\ndriver {driver}; vit-gpu at {', '.join(commits)}; {', '.join(engines) or 'no PyTorch'}")
    if "tiny" in scales:
        print("\n**A rehearsal on tiny sizes: no figure below says anything of the adapter.**")
    copy = report.ceilings()
    if copy:
        parts = [f"copy {number(max(copy['kernel_copy'], copy['buffer_copy']) / 1e9)} GB/s"]
        parts += [f"{key} {number(copy[key] / 1e12)} TFLOP/s" for key in ("f32", "f16", "matrix") if copy.get(key)]
        print(f"\nRoofs, measured ({copy['clock']}): {', '.join(parts)}; a launch takes {number(copy['launch'] * 1e6)} us")
    print(f"\n## Right or wrong\n\n{checks(report)}")
    print(f"## Results\n\n{results(report)}")
    if options.against:
        print(f"## Against {options.against}\n\n{compared(report, Reader(read(options.against)))}")
    print(f"## Variants\n{variants(report)}")
    print(f"## Estimates\n\n{estimates(report)}")
    lines = []
    for name, row in report.rows.items():
        lines.append((f"`{name}`", row["status"], number(row["seconds"]), number(row["limit"]), row["why"], f"`{report.command(name)}`"))
    print(f"## Rows\n\n{table(('row', 'status', 'seconds', 'limit', 'why', 'command'), lines)}")


if __name__ == "__main__":
    main()
