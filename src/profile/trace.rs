//! A profile as a trace in Chrome's JSON format, which Perfetto and chrome://tracing open: one track
//! of what the host did, one of the device's launches inside their layers, on one clock.
//!
//! The device's clock is laid beside the host's by cause and effect (see [`crate::gpu::timer`]); the
//! trace's `otherData` says by how much that may be off.

use serde_json::{Value, json};

use super::{Profile, host_spans, layer};
use crate::gpu::timer::{Clock, Span};

/// Numbers of the one process and its tracks.
const PROCESS: u32 = 1;
const HOST: u32 = 1;
const DEVICE: u32 = 2;

impl Profile {
    /// The trace. `model` and `device` name the tracks.
    pub fn trace(&self, model: &str, device: &str) -> Value {
        let offset = self.offset.0;
        let mut events = vec![
            name("process_name", HOST, json!({"name": format!("vit-gpu: {model}, batch {}", self.batch)})),
            name("thread_name", HOST, json!({"name": "CPU"})),
            name("thread_sort_index", HOST, json!({"sort_index": 1})),
            name(
                "thread_name",
                DEVICE,
                json!({"name": match self.clock {
                    Clock::Gpu => format!("GPU: {device}"),
                    Clock::Wall(_) => format!("launches by wall clock: {device}"),
                }}),
            ),
            name("thread_sort_index", DEVICE, json!({"sort_index": 2})),
        ];
        // The trace begins where the first round does.
        let begin = self.rounds.first().map_or(0.0, |r| r.decode.start);
        let span = |name: &str, category: &str, track: u32, at: Span, facts: Value| {
            event(name, category, track, at.shifted(-begin), facts)
        };
        let offset = offset - begin;
        for (i, round) in self.rounds.iter().enumerate() {
            events.push(span("decode, resize", "host", HOST, round.decode, json!({"images": self.batch})));
            for (what, run) in [("every launch timed", &round.steps), ("as usual", &round.whole)] {
                events.push(span(&format!("round {}, {what}", i + 1), "run", HOST, run.total, json!({})));
            }
            for host in host_spans(round) {
                events.push(span(host.what, "host", HOST, host.span, json!({})));
            }
            self.launches_of(i, offset, &mut events);
            for (n, pass) in in_order(&round.whole.device, offset).into_iter().enumerate() {
                let name = format!("round {}, as usual: submission {}", i + 1, n + 1);
                events.push(event(&name, "pass", DEVICE, pass, json!({})));
            }
        }
        json!({
            "traceEvents": events,
            "displayTimeUnit": "ms",
            "otherData": {
                "clock": self.clock.name(),
                "calibration": match self.clock {
                    Clock::Gpu => "no launch begins before its submission, none ends after the host was told",
                    Clock::Wall(_) => "one clock",
                },
                "gpu_clock_may_be_off_by_us": self.offset.1 / 1e3,
            },
        })
    }

    /// A round's launches, inside their layers.
    fn launches_of(&self, round: usize, offset: f64, events: &mut Vec<Value>) {
        let spans = in_order(&self.rounds[round].steps.device, offset);
        let mut first = 0;
        for i in 0..spans.len() {
            let here = layer(&self.launches[i].label);
            if i + 1 == spans.len() || layer(&self.launches[i + 1].label) != here {
                let whole = Span { start: spans[first].start, end: spans[i].end };
                events.push(event(here, "layer", DEVICE, whole, json!({"round": round + 1})));
                first = i + 1;
            }
        }
        for (launch, at) in self.launches.iter().zip(&spans) {
            let time = at.nanoseconds().max(1.0);
            let facts = json!({
                "label": launch.label,
                "shapes": launch.shapes,
                "dtype": launch.dtype,
                "GFLOP/s": launch.cost.flops as f64 / time,
                "GB/s": launch.cost.bytes as f64 / time,
            });
            events.push(event(&launch.kernel, "launch", DEVICE, *at, facts));
        }
    }
}

/// Spans on the host's clock, none beginning before the one before it has ended: a track cannot show
/// two things at once, and devices may overlap them.
fn in_order(spans: &[Span], offset: f64) -> Vec<Span> {
    let mut before = f64::NEG_INFINITY;
    let place = |span: &Span| {
        let Span { start, end } = span.shifted(offset);
        let start = start.max(before);
        before = end.max(start);
        Span { start, end: before }
    };
    spans.iter().map(place).collect()
}

/// A complete event. Times are in microseconds; whole nanoseconds, so that neighbours stay so.
fn event(name: &str, category: &str, track: u32, at: Span, facts: Value) -> Value {
    let (start, end) = (at.start.round(), at.end.round());
    json!({
        "name": name, "cat": category, "ph": "X", "pid": PROCESS, "tid": track,
        "ts": start / 1e3, "dur": (end - start).max(0.0) / 1e3, "args": facts,
    })
}

/// An event that names something.
fn name(what: &str, track: u32, facts: Value) -> Value {
    json!({"name": what, "ph": "M", "pid": PROCESS, "tid": track, "args": facts})
}
