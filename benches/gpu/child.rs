//! A program run under two limits: on its time, and on its silence. Whatever it started ends with it.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::record::Status;

/// How one run of a program ended.
pub struct Ended {
    pub status: Status,
    pub why: String,
    pub stdout: String,
    /// The end of what it said.
    pub stderr: String,
}

/// How long a killed program is waited for; one that hangs in the driver may never go.
const GRACE: Duration = Duration::from_secs(5);
/// How long more is read after a program has ended: what it started may hold its streams open.
const DRAIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether it has ended.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of standard error that are kept.
const KEPT: usize = 4000;

enum Heard {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    End,
}

/// Runs a program to its end or its limits; what it prints also goes to `log`.
pub fn run(mut command: Command, limit: Duration, silence: Duration, log: &mut impl Write) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let begun = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|e| format!("{program} cannot be started: {e}"))?;
    let watched = Watched::new(&child);
    let (sender, heard) = channel();
    listen(child.stdout.take(), sender.clone(), Heard::Stdout);
    listen(child.stderr.take(), sender, Heard::Stderr);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut open, mut last, mut exited) = (2, Instant::now(), None);
    let cut = loop {
        let now = Instant::now();
        if exited.is_none() && matches!(child.try_wait(), Ok(Some(_))) {
            exited = Some(now);
        }
        if exited.is_some_and(|at| now >= at + DRAIN) {
            break None;
        }
        let ends = [(begun + limit, Status::TimedOut), (last + silence, Status::Hung)];
        let (end, kind) = if ends[1].0 < ends[0].0 { ends[1] } else { ends[0] };
        if now >= end {
            break Some(kind);
        }
        match heard.recv_timeout(TICK.min(end - now)) {
            Ok(Heard::End) => open -= 1,
            Ok(Heard::Stdout(bytes)) => {
                _ = log.write_all(&bytes);
                stdout.extend(bytes);
                last = Instant::now();
            }
            Ok(Heard::Stderr(bytes)) => {
                _ = log.write_all(&bytes);
                stderr.extend(bytes);
                last = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = 0,
        }
        if open == 0 {
            break None;
        }
    };
    let exit = if cut.is_none() { wait(&mut child, begun + limit) } else { None };
    // Those that it started may still hold the device.
    watched.kill();
    if exit.is_none() {
        _ = child.kill();
        if wait(&mut child, Instant::now() + GRACE).is_none() {
            stderr.extend(b"\nit does not die, even when killed");
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&stderr[stderr.len().saturating_sub(KEPT)..]);
    let (status, why) = match (cut, exit) {
        (Some(Status::Hung), _) => {
            (Status::Hung, format!("nothing was heard of it for {:.0} s", silence.as_secs_f64()))
        }
        (Some(_), _) | (None, None) => {
            (Status::TimedOut, format!("not done in {:.0} s", limit.as_secs_f64()))
        }
        (None, Some(exit)) => judged(exit),
    };
    let said = stderr.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
    let why = if status == Status::Ok || said.is_empty() { why } else { format!("{why}: {said}") };
    Ok(Ended { status, why, stdout: text(&stdout), stderr })
}

/// Exit status of a run that an error of the library ended.
pub const ENDED: u8 = 2;

/// By exit statuses, of vit-gpu too, 1 says that something measured was wrong, and all others that measuring
/// came to no end.
fn judged(exit: ExitStatus) -> (Status, String) {
    match exit.code() {
        Some(0) => (Status::Ok, String::new()),
        Some(1) => (Status::Failed, exit.to_string()),
        _ => (Status::Crashed, exit.to_string()),
    }
}

fn listen<R: Read + Send + 'static>(
    stream: Option<R>,
    sender: Sender<Heard>,
    heard: impl Fn(Vec<u8>) -> Heard + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let mut stream = stream;
        while let Some(n @ 1..) = stream.as_mut().and_then(|s| s.read(&mut buffer).ok()) {
            if sender.send(heard(buffer[..n].to_vec())).is_err() {
                return;
            }
        }
        _ = sender.send(Heard::End);
    });
}

fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(exit)) => return Some(exit),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            _ => return None,
        }
    }
}

/// A child and all that it starts.
struct Watched {
    #[cfg(unix)]
    group: Option<rustix::process::Pid>,
}

impl Watched {
    #[cfg(unix)]
    fn new(child: &Child) -> Self {
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        interrupt::watch(group);
        Self { group }
    }

    #[cfg(unix)]
    fn kill(&self) {
        if let Some(group) = self.group {
            _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        interrupt::watch(None);
    }

    #[cfg(not(unix))]
    fn new(_: &Child) -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    fn kill(&self) {}
}

/// Ctrl-C reaches this program alone, since the child has a group of its own.
#[cfg(unix)]
mod interrupt {
    use std::sync::{Mutex, Once, PoisonError};

    use rustix::process::{Pid, Signal, kill_process_group};

    static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);
    static HANDLER: Once = Once::new();

    pub fn watch(group: Option<Pid>) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = group;
        HANDLER.call_once(|| {
            _ = ctrlc::set_handler(|| {
                if let Some(group) = *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
                    _ = kill_process_group(group, Signal::KILL);
                }
                std::process::exit(130);
            });
        });
    }
}

/// The JSON objects in what a program printed: documents of any number of lines, one after the other, behind
/// whatever a driver said first; or else every line that is one.
pub fn documents(text: &str) -> Vec<Value> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    let first = starts.into_iter().find(|at| text[*at..].starts_with('{')).unwrap_or(text.len());
    let whole: std::result::Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(&text[first..]).into_iter::<Value>().collect();
    let mut found =
        whole.unwrap_or_else(|_| text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect());
    found.retain(Value::is_object);
    found
}
