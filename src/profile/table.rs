//! A profile as text for people, Markdown, and CSV.

use std::fmt::{self, Write as _};

use super::{Profile, Row, Totals};
use crate::gpu::timer::Clock;

/// Columns of numbers, as CSV names them.
const COLUMNS: &str = "calls,median_us,p95_us,total_us,share,gflops,gbytes_per_s,roofline,bound_by";

impl Profile {
    /// For people, on a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("a string takes everything");
        out
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        for (what, time, more) in self.summary() {
            writeln!(out, "   {what:<16} {time:>12}   {more}")?;
        }
        for (title, rows) in [("kernel", self.kernels()), ("layer", self.layers())] {
            writeln!(
                out,
                "\n{:>7} {:>6} {:>11} {:>11} {:>9} {:>8} {:>9}  {:<8} {title}",
                "share", "calls", "median us", "p95 us", "GFLOP/s", "GB/s", "roofline", "bound by"
            )?;
            for row in &rows {
                line(out, row, 0)?;
                row.parts.iter().try_for_each(|part| line(out, part, 2))?;
            }
        }
        for remark in self.remarks() {
            write!(out, "\nnote: {remark}")?;
        }
        if !self.remarks().is_empty() {
            out.push('\n');
        }
        Ok(())
    }

    /// For a document: the summary and both tables.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.write_markdown(&mut out).expect("a string takes everything");
        out
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "| | time | |\n|---|---:|---|")?;
        for (what, time, more) in self.summary() {
            writeln!(out, "| {what} | {time} | {more} |")?;
        }
        for (title, rows) in [("kernel", self.kernels()), ("layer", self.layers())] {
            writeln!(
                out,
                "\n| {title} | calls | median µs | p95 µs | share | GFLOP/s | GB/s | roofline | bound by |\n\
                 |---|---:|---:|---:|---:|---:|---:|---:|---|"
            )?;
            let parts = |row: Row| {
                let inner: Vec<Row> =
                    row.parts.iter().map(|p| Row { name: format!("· {}", p.name), ..p.clone() }).collect();
                std::iter::once(row).chain(inner)
            };
            for r in rows.into_iter().flat_map(parts) {
                writeln!(
                    out,
                    "| {} | {} | {:.1} | {:.1} | {:.1}% | {} | {} | {:.1}% | {} |",
                    r.name,
                    r.calls,
                    r.median_us,
                    r.p95_us,
                    r.share * 100.0,
                    rate(r.gflops),
                    rate(r.gbytes),
                    r.roofline * 100.0,
                    r.bound.name()
                )?;
            }
        }
        let remarks = self.remarks();
        if !remarks.is_empty() {
            out.push('\n');
        }
        remarks.iter().try_for_each(|remark| writeln!(out, "Note: {remark}."))
    }

    /// One row for each kernel, each of its shapes, and each layer (RFC 4180).
    pub fn csv(&self) -> String {
        let mut out = format!("table,name,kernel,{COLUMNS}\r\n");
        let mut row = |table: &str, kernel: &str, r: &Row| {
            write!(
                out,
                "{table},\"{}\",\"{kernel}\",{},{},{},{},{},{},{},{},{}\r\n",
                r.name,
                r.calls,
                r.median_us,
                r.p95_us,
                r.total_us,
                r.share,
                r.gflops,
                r.gbytes,
                r.roofline,
                r.bound.name()
            )
            .expect("a string takes everything");
        };
        for kernel in self.kernels() {
            row("kernel", &kernel.name, &kernel);
            kernel.parts.iter().for_each(|part| row("shape", &kernel.name, part));
        }
        self.layers().iter().for_each(|layer| row("layer", "", layer));
        out
    }

    /// What, how long, and what to know about it.
    fn summary(&self) -> Vec<(&'static str, String, String)> {
        let t = self.totals();
        let Totals { launches, steps_us, step_gaps_us, pass_us, pass_gaps_us, .. } = t;
        let off = t.excess() * 100.0;
        let than = if off < 0.0 { "less" } else { "more" };
        let waited = if self.clock == Clock::Gpu { "" } else { " (wall clock, each waited for)" };
        let c = &self.ceilings;
        let mut roofs = format!("f32 {}", flops(c.f32));
        for (name, roof) in [("f16", c.f16), ("cooperative matrices", c.matrix)] {
            if let Some(roof) = roof {
                write!(roofs, ", {name} {}", flops(roof)).expect("a string takes everything");
            }
        }
        vec![
            (
                "end to end",
                milliseconds(t.end_to_end_us),
                format!(
                    "{} images/s, from pixels on the host to results on the host",
                    rate(t.images_per_second)
                ),
            ),
            (
                "device",
                milliseconds(pass_us),
                format!(
                    "busy {:.1}% of a run; {} launches, {} GFLOP/s, gaps between submissions {}",
                    t.busy * 100.0,
                    launches,
                    rate(t.gflops),
                    milliseconds(pass_gaps_us)
                ),
            ),
            (
                "sum of launches",
                milliseconds(steps_us),
                format!(
                    "{:.1}% {than} than the device takes as usual{waited}; gaps between them {}",
                    off.abs(),
                    milliseconds(step_gaps_us)
                ),
            ),
            (
                "decode, resize",
                milliseconds(t.decode_us),
                "of the batch's images, 640x480 JPEG, on all processors; runs beside the device".to_owned(),
            ),
            ("roofs", bytes(c.copy()), format!("copied; {roofs}; an empty launch {:.1} us", c.launch * 1e6)),
        ]
    }
}

fn line(out: &mut String, r: &Row, indent: usize) -> fmt::Result {
    writeln!(
        out,
        "{:>6.1}% {:>6} {:>11.1} {:>11.1} {:>9} {:>8} {:>8.1}%  {:<8} {:indent$}{}",
        r.share * 100.0,
        r.calls,
        r.median_us,
        r.p95_us,
        rate(r.gflops),
        rate(r.gbytes),
        r.roofline * 100.0,
        r.bound.name(),
        "",
        r.name
    )
}

fn milliseconds(us: f64) -> String {
    format!("{:.3} ms", us / 1e3)
}

/// A rate with three digits that count.
pub(super) fn rate(x: f64) -> String {
    let places = match x {
        _ if x >= 99.95 => 0,
        _ if x >= 9.995 => 1,
        _ => 2,
    };
    format!("{x:.places$}")
}

/// Operations a second, for people.
pub(super) fn flops(x: f64) -> String {
    if x >= 1e12 { format!("{} TFLOP/s", rate(x / 1e12)) } else { format!("{} GFLOP/s", rate(x / 1e9)) }
}

/// Bytes a second, for people.
pub(super) fn bytes(x: f64) -> String {
    if x >= 1e12 { format!("{} TB/s", rate(x / 1e12)) } else { format!("{} GB/s", rate(x / 1e9)) }
}
