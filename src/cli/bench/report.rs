//! Rows of `bench`, each printed as soon as it is measured (but JSON, which is one object).

use crate::printable::escaped;
use std::io::{self, Write};

use serde::Serialize;

use super::start::Start;
use super::subject::Subject;
use crate::cli::bench::args::Rows;
use crate::cli::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION, count, field, json};
use crate::tensor::Size;

/// The commit this was built from, if the build was told.
pub(super) const COMMIT: Option<&str> = option_env!("VIT_GPU_COMMIT");

/// Mean and sample standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Stats {
    pub(super) mean: f64,
    /// 0 for a single sample.
    pub(super) sd: f64,
    /// How many samples.
    #[serde(skip)]
    n: usize,
}

impl Stats {
    pub(super) fn of(samples: impl Iterator<Item = f64>) -> Self {
        let samples: Vec<f64> = samples.collect();
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = samples.iter().map(|x| (x - mean) * (x - mean)).sum();
        Self {
            mean,
            sd: if samples.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 },
            n: samples.len(),
        }
    }

    fn text(&self) -> String {
        let places = match self.mean {
            m if m >= 1000.0 => 0,
            m if m >= 100.0 => 1,
            m if m >= 1.0 => 2,
            _ => 3,
        };
        match self.n {
            1 => format!("{:.places$}", self.mean),
            _ => format!("{:.places$} ± {:.places$}", self.mean, self.sd),
        }
    }
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) model: String,
    pub(super) parameters: u64,
    pub(super) dtype: String,
    pub(super) device: DeviceFacts,
    pub(super) batch: u32,
    pub(super) image_size: Size,
    /// `run`, `cold start` or `warm start`.
    pub(super) test: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) images_per_second: Option<Stats>,
    /// Milliseconds of a run of the whole batch, or from process start to first answer.
    pub(super) ms: Option<Stats>,
    pub(super) samples_ms: Vec<f64>,
    /// Weights, activations, inputs, results.
    pub(super) peak_device_bytes: Option<u64>,
    /// Of the process; on a software adapter with all that counts as the device's.
    pub(super) peak_host_bytes: Option<u64>,
    /// Phases in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) starts: Vec<Start>,
    pub(super) version: &'static str,
    pub(super) commit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Row {
    pub(super) fn blank(model: &ModelFacts, device: &DeviceFacts) -> Self {
        Self {
            model: model.id.clone(),
            parameters: model.parameters,
            dtype: model.dtype.clone(),
            device: device.clone(),
            batch: 0,
            image_size: model.image_size,
            test: "run",
            images_per_second: None,
            ms: None,
            samples_ms: Vec::new(),
            peak_device_bytes: None,
            peak_host_bytes: None,
            starts: Vec::new(),
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            error: None,
        }
    }

    /// Mean milliseconds of each phase.
    fn phases(&self) -> Vec<(&'static str, f64)> {
        let mut phases: Vec<(&'static str, f64)> = Vec::new();
        for start in &self.starts {
            for (i, (name, ms)) in start.phases().into_iter().enumerate() {
                match phases.get_mut(i) {
                    Some((_, sum)) => *sum += ms,
                    None => phases.push((name, ms)),
                }
            }
        }
        phases.iter().map(|(name, sum)| (*name, sum / self.starts.len() as f64)).collect()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    commit: Option<&'static str>,
    rows: &'a [Row],
}

/// Prints rows.
pub(super) struct Report<W: Write> {
    out: W,
    form: Rows,
    /// Whether a column says which device.
    devices: bool,
    model_width: usize,
    rows: Vec<Row>,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W, form: Rows, devices: bool, subjects: &[Subject]) -> Self {
        let widths = subjects.iter().map(|s| escaped(&s.located.id).chars().count());
        Self { out, form, devices, model_width: widths.max().unwrap_or(0).max(5), rows: Vec::new() }
    }

    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.form == Rows::Csv {
            let phases = "process_ms,load_ms,device_ms,tune_ms,plan_ms,upload_ms,pipelines_ms,first_run_ms";
            write!(
                self.out,
                "model,parameters,dtype,device,driver,batch,height,width,test,samples,ms_mean,ms_sd,\
                 images_per_s_mean,images_per_s_sd,peak_device_bytes,peak_host_bytes,{phases},version,commit,\
                 error\r\n"
            )?;
        }
        self.out.flush()
    }

    pub(super) fn row(&mut self, row: Row) -> io::Result<()> {
        match self.form {
            Rows::Json => {}
            Rows::Jsonl => {
                serde_json::to_writer(&mut self.out, &row)?;
                self.out.write_all(b"\n")?;
            }
            Rows::Csv => self.csv(&row)?,
            Rows::Md => self.markdown(&row)?,
        }
        self.rows.push(row);
        self.out.flush()
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.form {
            Rows::Json => {
                let version = env!("CARGO_PKG_VERSION");
                let document =
                    Document { schema_version: SCHEMA_VERSION, version, commit: COMMIT, rows: &self.rows };
                json(&mut self.out, &document)?;
            }
            Rows::Md => self.markdown_end()?,
            Rows::Csv | Rows::Jsonl => {}
        }
        self.out.flush()
    }

    fn markdown(&mut self, row: &Row) -> io::Result<()> {
        let width = self.model_width;
        let device = |row: &Row| match self.devices {
            true => format!(" {:<28.28} |", escaped(&row.device.name)),
            false => String::new(),
        };
        let out = &mut self.out;
        if self.rows.is_empty() {
            let (column, rule) =
                if self.devices { (format!(" {:<28} |", "device"), "---|") } else { (String::new(), "") };
            writeln!(
                out,
                "| {:<width$} | {:>7} | dtype |{column} batch | test       | {:>18} | {:>18} | {:>9} | {:>9} |",
                "model", "params", "images/s", "ms", "device MB", "host MB"
            )?;
            let rest = "---|---:|---|";
            writeln!(out, "|{rest}{rule}---:|---|---:|---:|---:|---:|")?;
        }
        let stats = |s: &Option<Stats>| s.as_ref().map_or(String::new(), Stats::text);
        let mb = |b: Option<u64>| b.map_or(String::new(), |b| format!("{:.1}", b as f64 / 1e6));
        let result = match &row.error {
            Some(e) => format!("failed: {} |  |  | ", escaped(e).replace('|', "/")),
            None => format!(
                "{:>18} | {:>18} | {:>9} | {:>9}",
                stats(&row.images_per_second),
                stats(&row.ms),
                mb(row.peak_device_bytes),
                mb(row.peak_host_bytes)
            ),
        };
        writeln!(
            out,
            "| {:<width$} | {:>7} | {:<5} |{} {:>5} | {:<10} | {result} |",
            escaped(&row.model).replace('|', "/"),
            count(row.parameters),
            row.dtype,
            device(row),
            row.batch,
            row.test
        )
    }

    /// Phases of starts, and what all this was measured on.
    fn markdown_end(&mut self) -> io::Result<()> {
        let width = self.model_width;
        let starts: Vec<&Row> = self.rows.iter().filter(|r| !r.starts.is_empty()).collect();
        let out = &mut self.out;
        for (i, row) in starts.iter().enumerate() {
            let phases = row.phases();
            if i == 0 {
                write!(out, "\n| {:<width$} | dtype | start, ms  |", "model")?;
                phases.iter().try_for_each(|(name, _)| write!(out, " {name:>9} |"))?;
                writeln!(out, "\n|---|---|---|{}", "---:|".repeat(phases.len()))?;
            }
            write!(out, "| {:<width$} | {:<5} | {:<10} |", escaped(&row.model), row.dtype, row.test)?;
            phases.iter().try_for_each(|(_, ms)| write!(out, " {ms:>9.1} |"))?;
            writeln!(out)?;
        }
        let mut devices: Vec<&DeviceFacts> = Vec::new();
        for row in &self.rows {
            if !devices.iter().any(|d| d.name == row.device.name) {
                devices.push(&row.device);
            }
        }
        for d in devices {
            writeln!(out, "\non {} ({}, {}), driver {}", d.name, d.kind, d.backend, d.driver)?;
        }
        let commit = COMMIT.map_or(String::new(), |c| format!(", commit {c}"));
        writeln!(out, "vit-gpu {}{commit}", env!("CARGO_PKG_VERSION"))
    }

    fn csv(&mut self, row: &Row) -> io::Result<()> {
        let out = &mut self.out;
        let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
        let bytes = |x: Option<u64>| x.map_or(String::new(), |x| x.to_string());
        let Size { height, width } = row.image_size;
        write!(
            out,
            "{},{},{},{},{},{},{height},{width},{},{},{},{},{},{},{},{}",
            field(&row.model),
            row.parameters,
            row.dtype,
            field(&row.device.name),
            field(&row.device.driver),
            row.batch,
            row.test,
            row.samples_ms.len(),
            number(row.ms.map(|s| s.mean)),
            number(row.ms.map(|s| s.sd)),
            number(row.images_per_second.map(|s| s.mean)),
            number(row.images_per_second.map(|s| s.sd)),
            bytes(row.peak_device_bytes),
            bytes(row.peak_host_bytes),
        )?;
        let phases = row.phases();
        for i in 0..8 {
            write!(out, ",{}", number(phases.get(i).map(|(_, ms)| *ms)))?;
        }
        let error = row.error.as_deref().map_or(String::new(), field);
        write!(out, ",{},{},{error}\r\n", row.version, row.commit.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn mean_and_deviation() {
        let stats = Stats::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter());
        assert_eq!(stats.mean, 5.0);
        assert!((stats.sd - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Stats::of([3.0].into_iter()), Stats { mean: 3.0, sd: 0.0, n: 1 });
        assert_eq!(Stats { mean: 1234.4, sd: 2.0, n: 2 }.text(), "1234 ± 2");
        assert_eq!(Stats { mean: 12.5, sd: 0.0, n: 1 }.text(), "12.50");
    }
}
