//! Bytes, durations and ids as people read them.

use sluice_model::Timestamp;
use std::time::Duration;

/// Decimal units, three digits: `17.4 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 100.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// The largest unit that gives at least one: `3 min`.
pub fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        secs @ 1..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", secs / 60),
        secs @ 7_200..172_800 => format!("{} h", secs / 3_600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// `12 s ago`, `just now`, or `in 23 h`.
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    if now.since(time) < Duration::from_secs(1) && time <= now {
        return "just now".to_owned();
    }
    if time > now { format!("in {}", duration(time.since(now))) } else { format!("{} ago", duration(now.since(time))) }
}

/// [`relative`], or `never`.
pub fn relative_or_never(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "never".to_owned(), |time| relative(time, now))
}

/// A value, or `-`.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Joined with commas, or `-`.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_one_short_form() {
        let sizes = [0, 999, 1_000, 17_432_000, 999_949_999, 999_999_999, 64 << 30].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "17.4 MB", "1000 MB", "1.0 GB", "68.7 GB"].map(str::to_owned));
        let times = [0, 59, 3_599, 86_399, 864_000].map(|secs| duration(Duration::from_secs(secs)));
        assert_eq!(times, ["0 ms", "59 s", "59 min", "23 h", "10 d"].map(str::to_owned));
        let now = Timestamp::from_millis(1_000_000);
        assert_eq!(relative(Timestamp::from_millis(988_000), now), "12 s ago");
        assert_eq!(relative(Timestamp::from_millis(2_000_000), now), "in 16 min");
        assert_eq!(relative(now, now), "just now");
    }
}
