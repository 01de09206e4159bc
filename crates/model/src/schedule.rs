//! When a site's WAN link may be used otherwise than usual, by the clock on the wall of the site.

use crate::{ByteRate, NameError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Windows of one site at most: seven days with four changes each, and some for holidays.
pub const SCHEDULE_WINDOWS_MAX: usize = 32;

/// The name of an IANA time zone, such as `Europe/Paris`. That it exists is checked where zones are known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ZoneName(String);

impl ZoneName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZoneName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "+-_".contains(c))
        };
        if text.len() <= 64 && text.split('/').count() <= 3 && text.split('/').all(part) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError {
            kind: "time zone",
            rule: "write the IANA name, for instance Europe/Paris or UTC",
            text: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ZoneName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not a window of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a window; write days, times and the cap, for instance `mon-fri 08:00-18:00 5mbit`, with `closed` or `uncapped` in place of a rate"
)]
pub struct ParseWindowError(pub String);

/// Days of the week: bit 0 is Monday.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weekdays(u8);

const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// Whether it holds the day, 0 for Monday to 6 for Sunday.
    pub const fn contains(self, day_idx: u8) -> bool {
        self.0 >> day_idx & 1 == 1
    }
}

impl FromStr for Weekdays {
    type Err = ParseWindowError;

    /// `daily`, or days and stretches of days separated by commas: `mon-fri`, `sat,sun`, `fri-mon`.
    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        let wrong = || ParseWindowError(text.chars().take(80).collect());
        if text == "daily" {
            return Ok(Self::ALL);
        }
        let day = |name: &str| DAY_NAMES.iter().position(|known| *known == name).ok_or_else(wrong);
        let mut bits = 0;
        for stretch in text.split(',') {
            let (first, last) = match stretch.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(stretch)?, day(stretch)?),
            };
            for step in 0..=(last + 7 - first) % 7 {
                bits |= 1 << ((first + step) % 7);
            }
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("daily");
        }
        let (mut day, mut separator) = (0, "");
        while day < 7 {
            if self.contains(day) {
                let last = (day..7).take_while(|later| self.contains(*later)).last().unwrap_or(day);
                write!(f, "{separator}{}", DAY_NAMES[usize::from(day)])?;
                if last > day {
                    write!(f, "-{}", DAY_NAMES[usize::from(last)])?;
                }
                (day, separator) = (last, ",");
            }
            day += 1;
        }
        Ok(())
    }
}

/// A time on the wall clock, in minutes after midnight: `00:00` to `24:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WallTime(u16);

impl WallTime {
    /// Minutes after midnight, 0 to 1,440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for WallTime {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        let wrong = || ParseWindowError(text.chars().take(80).collect());
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse::<u16>().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        if minutes > 59 || hours * 60 + minutes > 1_440 {
            return Err(wrong());
        }
        Ok(Self(hours * 60 + minutes))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// What holds for the WAN link inside a window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WindowCap {
    /// No content crosses the link; metadata, retractions and reports do, under the site's usual cap.
    Closed,
    /// This cap instead of the usual one.
    Rate(ByteRate),
    /// No cap.
    Uncapped,
}

impl FromStr for WindowCap {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        match text {
            "closed" => Ok(Self::Closed),
            "uncapped" => Ok(Self::Uncapped),
            rate => rate.parse().map(Self::Rate).map_err(|_| ParseWindowError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for WindowCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Uncapped => f.write_str("uncapped"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

/// A window of the week. It is open when the site's wall clock shows one of its days and a time from `from` to before
/// `to`; a window whose end is not after its beginning goes on over midnight and belongs to the day on which it began.
/// An hour that the clock skips does not happen; an hour that it shows twice counts twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScheduleWindow {
    /// On which days it begins.
    pub days: Weekdays,
    /// Its first minute.
    pub from: WallTime,
    /// The first minute after it.
    pub to: WallTime,
    /// What holds inside.
    pub cap: WindowCap,
}

impl FromStr for ScheduleWindow {
    type Err = ParseWindowError;

    /// `<days> <from>-<to> <cap>`.
    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        let wrong = || ParseWindowError(text.chars().take(80).collect());
        let mut words = text.split_ascii_whitespace();
        let (Some(days), Some(times), Some(cap), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        let (from, to) = times.split_once('-').ok_or_else(wrong)?;
        let whole = |_: ParseWindowError| wrong();
        let window = Self {
            days: days.parse().map_err(whole)?,
            from: from.parse().map_err(whole)?,
            to: to.parse().map_err(whole)?,
            cap: cap.parse().map_err(whole)?,
        };
        let is_empty = window.from == window.to || window.from.minutes() == 1_440 || window.to.minutes() == 0;
        if is_empty { Err(wrong()) } else { Ok(window) }
    }
}

impl fmt::Display for ScheduleWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{} {}", self.days, self.from, self.to, self.cap)
    }
}

impl Serialize for WindowCap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WindowCap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ScheduleWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScheduleWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The windows of a site.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SiteSchedule {
    /// Whose wall clock counts.
    pub zone: ZoneName,
    /// At most [`SCHEDULE_WINDOWS_MAX`]; the first one that is open counts, and the site's usual cap when none is.
    pub windows: Vec<ScheduleWindow>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reads_as_it_is_written() {
        for text in [
            "mon-fri 08:00-18:00 5mbit",
            "daily 00:00-24:00 closed",
            "sat-sun 22:30-06:00 uncapped",
            "mon,wed,fri-sat 12:00-12:01 9B/s",
        ] {
            let window: ScheduleWindow = text.parse().unwrap();
            assert_eq!(window.to_string(), text);
            let json = serde_json::to_string(&window).unwrap();
            assert_eq!(serde_json::from_str::<ScheduleWindow>(&json).unwrap(), window);
        }
        assert_eq!("fri-mon".parse::<Weekdays>().unwrap().to_string(), "mon,fri-sun");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "mon-fri 08:00-18:00",
            "mon-fri 08:00-18:00 5mbit more",
            "mon 8:00-18:00 5mbit",
            "mon 08:00-24:01 5mbit",
            "mon 08:60-09:00 5mbit",
            "mon 08:00-08:00 5mbit",
            "mon 24:00-08:00 5mbit",
            "mon 08:00-00:00 5mbit",
            "monday 08:00-09:00 5mbit",
            "mon 08:00-09:00 fast",
            "mon +8:00-09:00 closed",
        ] {
            assert!(text.parse::<ScheduleWindow>().is_err(), "{text}");
        }
        for zone in ["", "../etc/passwd", "Europe//Paris", "a/b/c/d", "Europe/Paris ", "/UTC"] {
            assert!(zone.parse::<ZoneName>().is_err(), "{zone}");
        }
        assert!("America/Argentina/Buenos_Aires".parse::<ZoneName>().is_ok());
        assert!("Etc/GMT+5".parse::<ZoneName>().is_ok());
    }
}
