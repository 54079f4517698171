//! What is said to people: notes, warnings and progress, all on standard error. A standard
//! error that cannot be written is no reason to fail, let alone to panic.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::advice;
use super::args::TalkArgs;
use crate::error::Error;
use crate::printable::escaped;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between progress lines where standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bar on the terminal, if there is one, so that lines are printed above it and Ctrl-C can
/// take it away.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How much to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    quiet: bool,
    verbose: u8,
}

impl Talk {
    pub(crate) fn new(args: TalkArgs) -> Self {
        Self { quiet: args.quiet, verbose: args.verbose }
    }

    /// Nothing but errors is said.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, verbose: 0 }
    }

    /// Whether only errors are said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Something the user should know.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            say(&format!("note: {text}"));
        }
    }

    /// Something that may not be as the user thinks.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.quiet {
            say(&format!("warning: {text}"));
        }
    }

    /// What is being done, with `-v`.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbose > 0 {
            say(&text.to_string());
        }
    }

    /// Progress over `total` items (or bytes) called `what`.
    pub(crate) fn progress(&self, what: &str, total: u64, bytes: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        if terminal && !self.quiet {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = if bytes {
                "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            } else {
                "{msg} {bar:30} {pos}/{len} {per_sec} {eta}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            set_bar(Some(bar));
        }
        let lines = !terminal && !self.quiet;
        Progress { what: what.to_owned(), total, bytes, lines, said: Instant::now() }
    }
}

/// Prints an error and what to try.
pub(crate) fn error(e: &Error) {
    say(&format!("error: {}", escaped(&e.message())));
    if let Some(hint) = e.hint() {
        say(&format!("hint: {}", escaped(&advice::worded(hint))));
    }
}

/// A line on standard error, above the bar if there is one.
pub(crate) fn say(line: &str) {
    let write = || _ = writeln!(std::io::stderr(), "{line}");
    match BAR.lock() {
        Ok(bar) => bar.as_ref().map_or_else(write, |bar| bar.suspend(write)),
        Err(_) => write(),
    }
}

/// Writes to standard output, above the bar if there is one: both may be on one terminal.
pub(crate) fn beside_the_bar<R>(write: impl FnOnce() -> R) -> R {
    // Not under the lock: whoever reads a pipe may let it wait.
    let bar = BAR.lock().ok().and_then(|bar| bar.clone());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Takes the bar away, if there is one.
pub(crate) fn clear() {
    set_bar(None);
}

/// As [`clear`], from a signal's thread: whoever holds the bar may never let go of it.
pub(crate) fn clear_now() {
    if let Ok(mut bar) = BAR.try_lock()
        && let Some(bar) = bar.take()
    {
        bar.finish_and_clear();
    }
}

fn set_bar(new: Option<ProgressBar>) {
    if let Ok(mut bar) = BAR.lock()
        && let Some(old) = std::mem::replace(&mut *bar, new)
    {
        old.finish_and_clear();
    }
}

/// Progress of one thing: a bar on a terminal, else a line now and then. Ends when dropped.
pub(crate) struct Progress {
    what: String,
    total: u64,
    bytes: bool,
    lines: bool,
    said: Instant,
}

impl Progress {
    /// Says what is under way now.
    pub(crate) fn rename(&mut self, what: String) {
        if let Ok(bar) = BAR.lock()
            && let Some(bar) = bar.as_ref()
        {
            bar.set_message(what.clone());
        }
        self.what = what;
    }

    /// `done` items (or bytes) are done.
    pub(crate) fn at(&mut self, done: u64) {
        if let Ok(bar) = BAR.lock()
            && let Some(bar) = bar.as_ref()
        {
            bar.set_position(done);
        }
        if self.lines && self.said.elapsed() >= LINE_EVERY && done < self.total {
            self.said = Instant::now();
            let amount = |n: u64| if self.bytes { super::output::bytes(n) } else { n.to_string() };
            say(&format!("{}: {} of {}", self.what, amount(done), amount(self.total)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        clear();
    }
}
