//! Ctrl-C where a command has something to save first: the first one asks it to end, the second one ends it.

use std::sync::atomic::{AtomicU8, Ordering};

const NOBODY: u8 = 0;
const LISTENING: u8 = 1;
const ASKED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(NOBODY);

/// While this lives, the first Ctrl-C only asks.
pub(super) struct Listening(());

/// From here on somebody looks at [`asked`] now and then.
pub(super) fn listen() -> Listening {
    STATE.store(LISTENING, Ordering::SeqCst);
    Listening(())
}

impl Drop for Listening {
    fn drop(&mut self) {
        STATE.store(NOBODY, Ordering::SeqCst);
    }
}

/// Whether an end was asked for.
pub(super) fn asked() -> bool {
    STATE.load(Ordering::SeqCst) == ASKED
}

/// Asks for an end; true if somebody listens and was not asked before.
pub(super) fn ask() -> bool {
    STATE.compare_exchange(LISTENING, ASKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asks_and_the_second_ends() {
        assert!(!ask(), "nobody listens");
        let listening = listen();
        assert!(!asked() && ask() && asked() && !ask());
        drop(listening);
        assert!(!asked() && !ask());
    }
}
