//! The blocking front of everything that waits for the device.

/// Sleeps until a future is done.
pub(super) fn block<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}
