//! SentencePiece's table of character rewrites ("precompiled charsmap"), checked.
//!
//! The table is a double-array trie over UTF-8 bytes whose leaves point into a string of
//! replacements, each ended by NUL. The crate walks it without looking at its bounds; here every
//! state that any text can reach is visited once, so that what passes cannot lead it astray.
//! Base64, in which JSON carries the table, is here too: it is used for nothing else.

/// Longest replacement of one entry, in bytes: a bound on how much a text can grow. The longest of
/// Unicode's compatibility mappings takes 33.
const MAX_REPLACEMENT: usize = 256;

/// Whether the crate can walk the table; if not, why.
pub(super) fn check(table: &[u8]) -> Result<(), &'static str> {
    let (size, rest) = table.split_first_chunk::<4>().ok_or("it is empty")?;
    let size = u32::from_le_bytes(*size) as usize / 4 * 4;
    let (trie, replacements) = rest.split_at_checked(size).ok_or("it is cut off")?;
    let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let replacements = str::from_utf8(replacements).map_err(|_| "its replacements are not UTF-8")?;

    const OUTSIDE: &str = "it points outside of itself";
    let offset = |unit: u32| ((unit as usize) >> 10) << ((unit & (1 << 9)) >> 6);
    let mut seen = vec![false; units.len()];
    let start = offset(*units.first().ok_or("it is empty")?);
    let mut states = vec![start];
    while let Some(state) = states.pop() {
        // A state outside is met again as a step outside, unless nothing follows it.
        if let Some(seen) = seen.get_mut(state) {
            if *seen {
                continue;
            }
            *seen = true;
        }
        for byte in 1..=255usize {
            let at = state ^ byte;
            let unit = *units.get(at).ok_or(OUTSIDE)?;
            if unit & ((1 << 31) | 0xff) != byte as u32 {
                continue;
            }
            let next = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let leaf = units.get(next).ok_or(OUTSIDE)? & !(1 << 31);
                let entry = replacements.get(leaf as usize..).ok_or("an entry has no replacement")?;
                if !entry.bytes().take(MAX_REPLACEMENT + 1).any(|b| b == 0) && entry.len() > MAX_REPLACEMENT {
                    return Err("a replacement is absurdly long");
                }
            }
            states.push(next);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie of 256 units with one entry `a` -> the replacement at `value`.
    fn table(value: u32, replacements: &[u8]) -> Vec<u8> {
        let mut units = vec![0u32; 256];
        units[0] = 0;
        // From state 0, `a` leads to unit 97: a leaf; its value is where the offset (1) leads, 96.
        units[97] = 97 | 1 << 8 | 1 << 10;
        units[96] = value | 1 << 31;
        let mut table = (1024u32).to_le_bytes().to_vec();
        table.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        table.extend(replacements);
        table
    }

    #[test]
    fn tables_that_lead_astray_are_refused() {
        assert_eq!(check(&table(0, b"b\0")), Ok(()));
        assert_eq!(check(&table(2, b"b\0")), Ok(()));
        assert_eq!(check(&table(3, b"b\0")), Err("an entry has no replacement"));
        assert_eq!(check(&table(1, "é\0".as_bytes())), Err("an entry has no replacement"));
        assert_eq!(check(&table(0, &[b'b'; 300])), Err("a replacement is absurdly long"));
        assert_eq!(check(&table(0, b"\xff")), Err("its replacements are not UTF-8"));
        assert_eq!(check(&[]), Err("it is empty"));
        assert_eq!(check(&[0; 4]), Err("it is empty"));
        assert_eq!(check(&[0xff, 0xff, 0, 0, 1]), Err("it is cut off"));
        let short = &table(0, b"")[..4 + 4 * 98];
        let mut short = short.to_vec();
        short[..4].copy_from_slice(&(4u32 * 98).to_le_bytes());
        assert_eq!(check(&short), Err("it points outside of itself"));
    }
}
