// Activation functions by code (ops/elementwise.rs: Act::code); 0 is the identity.

// Error function after Abramowitz & Stegun 7.1.26, absolute error below 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-a * a));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

// tanh saturates long before 15; beyond, some back ends overflow to NaN. A NaN stays one.
fn tanh_safe(x: f32) -> f32 {
    return select(tanh(clamp(x, -15.0, 15.0)), x, is_nan(x));
}

fn activate(code: u32, x: f32) -> f32 {
    switch code {
        case 1u: { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
        case 2u: { return 0.5 * x * (1.0 + tanh_safe(0.79788456 * (x + 0.044715 * x * x * x))); }
        case 3u: { return x * sigmoid(1.702 * x); }
        case 4u: { return max_kept(x, 0.0); }
        case 5u: { return x * sigmoid(x); }
        case 6u: { return tanh_safe(x); }
        case 7u: { return sigmoid(x); }
        default: { return x; }
    }
}
