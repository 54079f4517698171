// Parameters of every convolution kernel.

struct Params {
    rows: u32,           // pixels of the result, of all pictures
    inner: u32,          // K = taps · depth
    cols: u32,           // columns (output channels) of this weight part
    first_col: u32,      // its first column among all
    total_cols: u32,     // N
    stride4: u32,        // vec4s of columns of this weight part
    residual_rows: u32,  // rows of the residual, repeated
    groups: u32,         // workgroups that have work
    depth: u32,          // input channels C
    taps: u32,           // places of the kernel, row by row
    kernel_width: u32,
    height: u32,         // of x
    width: u32,
    out_height: u32,
    out_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_top: u32,
    pad_left: u32,
    up: u32,             // 1 if x is doubled before
}
