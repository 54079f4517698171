// Where a convolution reads x (B, H, W, C): a row is a pixel of the result, a tap one place of the
// kernel, and within a tap the C channels of one pixel lie side by side. Outside of the picture x
// counts as zero. The picture may be doubled in both directions before (`up` is 1), by repeating
// pixels; the coordinates of the doubled one are then halved.

const TAPPED: bool = true;

// First pixel of the picture; row and column of the first tap, which wrap below zero.
alias Place = vec3<u32>;

const OUTSIDE: u32 = 0xffffffffu;

fn taps() -> u32 {
    return p.taps;
}

fn depth() -> u32 {
    return p.depth;
}

fn place_of(row: u32) -> Place {
    let r = min(row, p.rows - 1u);
    let area = p.out_height * p.out_width;
    let b = r / area;
    let i = r - b * area;
    let y = i / p.out_width;
    let column = i - y * p.out_width;
    return vec3<u32>(b * p.height * p.width, y * p.stride_y - p.pad_top, column * p.stride_x - p.pad_left);
}

fn start_of(place: Place, tap: u32) -> u32 {
    let ky = tap / p.kernel_width;
    let row = place.y + ky;
    let column = place.z + (tap - ky * p.kernel_width);
    let inside = row < (p.height << p.up) && column < (p.width << p.up);
    let pixel = place.x + (row >> p.up) * p.width + (column >> p.up);
    return select(OUTSIDE, pixel * p.depth, inside);
}

fn is_inside(start: u32) -> bool {
    return start != OUTSIDE;
}
