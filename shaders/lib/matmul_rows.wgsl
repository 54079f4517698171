// Where a linear layer reads x: one row after the other, all of K in one tap. The kernels walk K tap
// by tap, and `conv_rows.wgsl` answers the same questions for a convolution.

// Whether there may be more than one tap.
const TAPPED: bool = false;

// What of a row is the same for every tap.
alias Place = u32;

// Parts of K that each begin at a place of their own.
fn taps() -> u32 {
    return 1u;
}

// Elements of K a tap.
fn depth() -> u32 {
    return p.inner;
}

// Rows past the end repeat the last one.
fn place_of(row: u32) -> Place {
    return min(row, p.rows - 1u) * p.inner;
}

// Element of x at which a row begins within a tap.
fn start_of(place: Place, tap: u32) -> u32 {
    return place;
}

// False where a tap of a row has no elements and counts as zero; then its start is none.
fn is_inside(start: u32) -> bool {
    return true;
}
