//! Feature `hub`. How long a server asks to wait.

use std::time::{Duration, SystemTime};

use crate::hub::http::Answer;

/// What `Retry-After` says, in seconds or as a date; else when the window of the `RateLimit` that is used up
/// ends, as in `"api";r=0;t=42`.
pub(super) fn asked(answer: &Answer) -> Option<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let after = answer.header("retry-after").and_then(|text| after(text.trim(), now));
    after.or_else(|| answer.header("ratelimit").and_then(window))
}

fn after(text: &str, now: Duration) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(date(text)?.saturating_sub(now)),
    }
}

/// The longest `t` of the policies of which nothing remains, or of all where none says what remains.
fn window(text: &str) -> Option<Duration> {
    let value = |policy: &str, name: char| -> Option<u64> {
        policy
            .split(';')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.trim().parse().ok())
    };
    let spent = text.split(',').filter(|policy| value(policy, 'r').is_none_or(|left| left == 0));
    spent.filter_map(|policy| value(policy, 't')).max().map(Duration::from_secs)
}

/// Time since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<Duration> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|m| m.len() == 3).and_then(|m| MONTHS.find(m))? as u64 / 3;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years from March on, so that a leap day ends one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(Duration::from_secs(((since_1970 * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_windows() {
        let seconds = |text: &str| date(text).map(|d| d.as_secs());
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(seconds("Fri, 31 Dec 2027 23:59:59 GMT"), Some(1_830_297_599));
        for wrong in
            ["", "soon", "Sun, 06 Nov 1994", "Sun, 06 XXX 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
        let now = Duration::from_secs(784_111_770);
        assert_eq!(after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1993 08:49:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(after("later", now), None);
        for (text, want) in [
            ("\"api\";r=0;t=42", Some(42)),
            ("\"api\";r=3;t=42, \"resolvers\";r=0;t=7", Some(7)),
            ("\"api\"; t=9", Some(9)),
            ("\"api\";r=3;t=42", None),
            ("100", None),
        ] {
            assert_eq!(window(text).map(|d| d.as_secs()), want, "{text}");
        }
    }
}
