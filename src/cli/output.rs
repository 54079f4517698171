//! Results on standard output: text for people, JSON, JSON lines and CSV for programs.
//! Floats are printed with as many digits as bring the same value back; NaN never gets here.

use crate::labels::{Ranked, Score, Scoring};
use crate::printable::escaped;
use crate::tensor::Size;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::args::Format;

/// Version of the JSON form; raised when a field changes its meaning or goes away.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// What came of one input.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The input as the user named it; bytes that are not UTF-8 are replaced.
    pub(crate) input: String,
    /// The first classes, best first; absent if the input failed or the model has no classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) predictions: Option<Vec<Ranked>>,
    /// Scores of all classes before the softmax, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logits: Option<Vec<f32>>,
    /// Where the attention image went, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attention: Option<String>,
    /// Why the input failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// The model, as JSON describes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelFacts {
    pub(crate) id: String,
    pub(crate) family: String,
    pub(crate) architecture: String,
    pub(crate) image_size: Size,
    pub(crate) classes: Option<usize>,
    pub(crate) parameters: u64,
    pub(crate) dtype: String,
}

/// The device, as JSON describes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeviceFacts {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) backend: String,
    pub(crate) driver: String,
}

/// Where the time went, in milliseconds of wall clock; decoding runs beside the device.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Timing {
    /// Opening the model: reading, planning, uploading, compiling.
    pub(crate) load: f64,
    /// Decoding and preprocessing, summed over threads.
    pub(crate) decode: f64,
    /// Waiting for the device, uploads and results included.
    pub(crate) run: f64,
    /// From start to end.
    pub(crate) total: f64,
}

impl Timing {
    /// Whole microseconds: more digits would claim more than is known.
    fn rounded(self) -> Self {
        let round = |x: f64| (x * 1e3).round() / 1e3;
        let Self { load, decode, run, total } = self;
        Self { load: round(load), decode: round(decode), run: round(run), total: round(total) }
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// What came of one input, in the forms that are not JSON.
pub(crate) trait Printed: Serialize {
    /// Lines for people; `logits` adds the scores of the shown classes.
    fn text(&self, out: &mut impl Write, logits: bool) -> io::Result<()>;

    /// Lines of CSV, under the columns that the report began with.
    fn csv(&self, out: &mut impl Write, logits: bool) -> io::Result<()>;
}

/// Prints rows in one of the forms.
pub(crate) struct Report<W: Write, R = Row> {
    out: W,
    format: Format,
    logits: bool,
    /// Rows kept for the one JSON object at the end.
    rows: Vec<R>,
}

impl<W: Write, R: Printed> Report<W, R> {
    /// Starts a report; `logits` adds the scores of the shown classes to text and CSV.
    pub(crate) fn new(out: W, format: Format, logits: bool) -> Self {
        Self { out, format, logits, rows: Vec::new() }
    }

    /// What stands before the first row: the columns of CSV.
    pub(crate) fn begin(&mut self, columns: &str) -> io::Result<()> {
        if self.format == Format::Csv {
            write!(self.out, "{columns}\r\n")?;
        }
        Ok(())
    }

    /// One row. Whoever reads a pipe has it when this returns, except for JSON.
    pub(crate) fn row(&mut self, row: R) -> io::Result<()> {
        // At once, so that nothing gets between the lines of a row.
        let mut text = Vec::new();
        match self.format {
            Format::Text => row.text(&mut text, self.logits)?,
            Format::Json => self.rows.push(row),
            Format::Jsonl => {
                serde_json::to_writer(&mut text, &row)?;
                text.push(b'\n');
            }
            Format::Csv => row.csv(&mut text, self.logits)?,
        }
        self.out.write_all(&text)?;
        self.out.flush()
    }

    /// What stands after the last row: for JSON all of it, one result a line.
    pub(crate) fn end(
        &mut self,
        model: &impl Serialize,
        device: &DeviceFacts,
        timing_ms: Timing,
    ) -> io::Result<()> {
        if self.format == Format::Json {
            let out = &mut self.out;
            write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\n\"model\":")?;
            serde_json::to_writer(&mut *out, model)?;
            out.write_all(b",\n\"device\":")?;
            serde_json::to_writer(&mut *out, device)?;
            out.write_all(b",\n\"results\":[")?;
            for (i, row) in self.rows.iter().enumerate() {
                out.write_all(if i == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, row)?;
            }
            out.write_all(b"\n],\n\"timing_ms\":")?;
            serde_json::to_writer(&mut *out, &timing_ms.rounded())?;
            out.write_all(b"}\n")?;
        }
        self.out.flush()
    }
}

/// Columns of classes as CSV.
pub(crate) fn columns(scoring: Scoring, logits: bool) -> String {
    let logit = if logits { ",logit" } else { "" };
    format!("input,rank,index,label,{}{logit},error", scoring.noun())
}

impl Printed for Row {
    fn text(&self, out: &mut impl Write, logits: bool) -> io::Result<()> {
        let name = escaped(&self.input);
        if let Some(error) = &self.error {
            return writeln!(out, "{name}\n  failed: {}", escaped(error));
        }
        writeln!(out, "{name}")?;
        for p in self.predictions.iter().flatten() {
            p.text(out, self.logits.as_deref().filter(|_| logits))?;
        }
        match &self.attention {
            Some(path) => writeln!(out, "  attention: {}", escaped(path)),
            None => Ok(()),
        }
    }

    fn csv(&self, out: &mut impl Write, logits: bool) -> io::Result<()> {
        let name = field(&self.input);
        let logit = if logits { "," } else { "" };
        if let Some(error) = &self.error {
            return write!(out, "{name},,,,{logit},{}\r\n", field(error));
        }
        for (rank, p) in self.predictions.iter().flatten().enumerate() {
            write!(out, "{name},{},", rank + 1)?;
            p.csv(out, self.logits.as_deref().filter(|_| logits))?;
            write!(out, ",\r\n")?;
        }
        if self.predictions.is_none() {
            write!(out, "{name},,,,{logit},\r\n")?;
        }
        Ok(())
    }
}

impl Ranked {
    /// A line for people: probabilities in percent, other numbers as they are.
    pub(crate) fn text(&self, out: &mut impl Write, logits: Option<&[f32]>) -> io::Result<()> {
        let Ranked { index, label, score } = self;
        match score {
            Score::Probability(p) => write!(out, "  {:>7.3}%", f64::from(*p) * 100.0)?,
            Score::Number(x) => write!(out, "  {x:>8.3}")?,
        }
        write!(out, "  {}  ({index})", escaped(label))?;
        logits.map_or(Ok(()), |logits| write!(out, "  {}", logits[*index]))?;
        writeln!(out)
    }

    /// Its fields of CSV.
    pub(crate) fn csv(&self, out: &mut impl Write, logits: Option<&[f32]>) -> io::Result<()> {
        let Ranked { index, label, score } = self;
        write!(out, "{index},{},{}", field(label), score.value())?;
        logits.map_or(Ok(()), |logits| write!(out, ",{}", logits[*index]))
    }
}

/// An object as indented JSON and a line end.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A field of CSV (RFC 4180): quoted where a comma, a quote or a line end stands in it.
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// An amount of bytes for people: `86.6 MB`, in powers of ten.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, "B", ["kB", "MB", "GB", "TB"])
}

/// A count for people: `85.8 M`.
pub(crate) fn count(n: u64) -> String {
    scaled(n as f64, "", ["k", "M", "G", "T"]).trim_end().to_owned()
}

fn scaled(n: f64, unit: &str, units: [&str; 4]) -> String {
    if n < 1000.0 {
        return format!("{n} {unit}");
    }
    let (mut value, mut unit) = (n, units[0]);
    for u in units {
        unit = u;
        value /= 1000.0;
        if value < 999.95 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::labels::{LabelSource, Labels};

    fn row(input: &str) -> Row {
        let names = ["a", "b,c", "d"].map(String::from).to_vec();
        let scoring = Scoring::Softmax;
        let labels = Labels { names, source: LabelSource::Config, scoring, warnings: vec![] };
        let predictions = labels.ranked(&[0.0, 2.0, 1.0], 2);
        Row {
            input: input.into(),
            predictions: Some(predictions),
            logits: Some(vec![0.0, 2.0, 1.0]),
            attention: None,
            error: None,
        }
    }

    fn failed(input: &str) -> Row {
        Row {
            input: input.into(),
            predictions: None,
            logits: None,
            attention: None,
            error: Some("no \"image\"".into()),
        }
    }

    fn printed(format: Format, rows: Vec<Row>) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, format, true);
        report.begin(&columns(Scoring::Softmax, true)).unwrap();
        rows.into_iter().for_each(|r| report.row(r).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_is_quoted() {
        let csv = printed(Format::Csv, vec![row("x\ny.png"), failed("z,.png")]);
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(lines[0], "input,rank,index,label,probability,logit,error");
        assert_eq!(lines[1], "\"x\ny.png\",1,1,\"b,c\",0.66524094,2,");
        assert_eq!(lines[3], "\"z,.png\",,,,,,\"no \"\"image\"\"\"");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn json_lines_and_text() {
        let lines = printed(Format::Jsonl, vec![row("x\ny.png"), failed("z")]);
        let values: Vec<serde_json::Value> =
            lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(values[0]["input"], "x\ny.png");
        assert_eq!(values[0]["predictions"][0]["index"], 1);
        assert_eq!(values[0]["logits"][1], 2.0);
        assert!(values[0].get("error").is_none() && values[1].get("predictions").is_none());
        assert_eq!(values[1]["error"], "no \"image\"");

        let text = printed(Format::Text, vec![row("x\ny.png"), failed("z")]);
        assert!(text.starts_with("x\\ny.png\n   66.524%  b,c  (1)  2\n"), "{text}");
        assert!(text.ends_with("z\n  failed: no \"image\"\n"), "{text}");
    }

    #[test]
    fn amounts() {
        assert_eq!((bytes(999), bytes(86_567_656)), ("999 B".into(), "86.6 MB".into()));
        assert_eq!(
            (count(16), count(1_000_000), count(17_563_000_000)),
            ("16".into(), "1.0 M".into(), "17.6 G".into())
        );
    }
}
