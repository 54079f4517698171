// Derivatives of the activations of `act.wgsl`, which comes before, by the same codes.

fn slope(code: u32, x: f32) -> f32 {
    switch code {
        case 1u: {
            return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
        }
        case 2u: {
            let t = tanh_safe(0.79788456 * (x + 0.044715 * x * x * x));
            let inner = 0.79788456 * (1.0 + 0.134145 * x * x);
            return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner;
        }
        case 3u: {
            let s = sigmoid(1.702 * x);
            return s + 1.702 * x * s * (1.0 - s);
        }
        case 4u: { return select(select(0.0, 1.0, x > 0.0), x, is_nan(x)); }
        case 5u: {
            let s = sigmoid(x);
            return s + x * s * (1.0 - s);
        }
        case 6u: {
            let t = tanh_safe(x);
            return 1.0 - t * t;
        }
        case 7u: {
            let s = sigmoid(x);
            return s * (1.0 - s);
        }
        default: { return 1.0; }
    }
}
