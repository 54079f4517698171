//! The order of names that people expect.

use std::cmp::Ordering;
use std::ffi::OsStr;

/// Order in which runs of digits compare as numbers: `img2` before `img10`.
pub(super) fn natural(a: &OsStr, b: &OsStr) -> Ordering {
    let (a, b) = (a.as_encoded_bytes(), b.as_encoded_bytes());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let order = if a[i].is_ascii_digit() && b[j].is_ascii_digit() {
            let (x, y) = (digits(&a[i..]), digits(&b[j..]));
            (i, j) = (i + x.len(), j + y.len());
            let (x, y) = (without_zeros(x), without_zeros(y));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            (i, j) = (i + 1, j + 1);
            a[i - 1].cmp(&b[j - 1])
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    (a.len() - i).cmp(&(b.len() - j)).then_with(|| a.cmp(b))
}

fn digits(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    &bytes[..end]
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|&b| b != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let sorted = ["a", "a1", "a2", "a02", "a10", "a10b", "b", "b1"];
        for (i, x) in sorted.iter().enumerate() {
            for (j, y) in sorted.iter().enumerate() {
                let got = natural(x.as_ref(), y.as_ref());
                // a2 and a02 are the same number: bytes decide, 0 before 2.
                let want = if (*x, *y) == ("a2", "a02") {
                    Ordering::Greater
                } else if (*x, *y) == ("a02", "a2") {
                    Ordering::Less
                } else {
                    i.cmp(&j)
                };
                assert_eq!(got, want, "{x} {y}");
            }
        }
        let huge = "9".repeat(60);
        assert_eq!(natural(huge.as_ref(), "10".as_ref()), Ordering::Greater);
    }
}
