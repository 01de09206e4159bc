//! What a site's schedule says of its WAN link at a moment, and until when.
//!
//! A window is open when the wall clock of the site's zone shows a time inside it: that is looked up anew for each
//! moment, never reckoned forward, so that nothing opens at a wrong hour when clocks are changed.
//!
//! Invariants
//! - Between a moment and the `until` that was answered for it the answer does not change.
//! - A zone that is not known here restricts: of the usual cap and all windows the least holds.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp as Instant};
use sluice_model::{ByteRate, ScheduleWindow, SiteSchedule, Timestamp, WindowCap, ZoneName};
use std::time::Duration;

/// How far ahead a change is looked for: every window comes again within a week.
const DAYS_AHEAD: i64 = 8;
/// When to look again where nothing changes.
const LOOK_AGAIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// There is no such time zone in the bundled database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {0}; write an IANA name, for instance Europe/Paris or UTC")]
pub struct UnknownZone(pub ZoneName);

/// What holds for a site's WAN link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WanNow {
    /// The cap; `None`: none.
    pub bytes_per_sec: Option<ByteRate>,
    /// Whether content must not cross the link now.
    pub is_closed: bool,
    /// When to ask again; until then the answer stays the same.
    pub until: Option<Timestamp>,
}

/// A site's schedule over its usual cap.
#[derive(Clone, Debug)]
pub struct WanCalendar {
    usual: Option<ByteRate>,
    windows: Vec<ScheduleWindow>,
    /// `None` when the schedule names a zone that is not known here.
    zone: Option<TimeZone>,
}

/// Refuses a zone that the bundled database does not have.
pub fn check_zone(name: &ZoneName) -> Result<(), UnknownZone> {
    find_zone(name).map(|_| ()).ok_or_else(|| UnknownZone(name.clone()))
}

fn find_zone(name: &ZoneName) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name.as_str()).ok()
}

impl WanCalendar {
    /// `usual` is the cap outside of all windows.
    pub fn new(usual: Option<ByteRate>, schedule: Option<&SiteSchedule>) -> Self {
        match schedule {
            None => Self { usual, windows: Vec::new(), zone: Some(TimeZone::UTC) },
            Some(schedule) => Self { usual, windows: schedule.windows.clone(), zone: find_zone(&schedule.zone) },
        }
    }

    /// What holds at `now`. O(windows) when no window exists, else O(windows^2 x days ahead): some 20,000 steps at most.
    pub fn at(&self, now: Timestamp) -> WanNow {
        if self.windows.is_empty() {
            return WanNow { bytes_per_sec: self.usual, is_closed: false, until: None };
        }
        let Some(zone) = &self.zone else { return self.least() };
        let instant = to_instant(now);
        let cap = self.open_at(zone, instant);
        let changes = |later: &Instant| *later > instant && self.open_at(zone, *later) != cap;
        let until = self.borders(zone, instant).into_iter().filter(changes).min();
        let until = until.map_or_else(|| now.plus(LOOK_AGAIN), from_instant);
        let (bytes_per_sec, is_closed) = self.meaning(cap);
        WanNow { bytes_per_sec, is_closed, until: Some(until) }
    }

    fn meaning(&self, cap: Option<WindowCap>) -> (Option<ByteRate>, bool) {
        match cap {
            None => (self.usual, false),
            Some(WindowCap::Closed) => (self.usual, true),
            Some(WindowCap::Rate(rate)) => (Some(rate), false),
            Some(WindowCap::Uncapped) => (None, false),
        }
    }

    fn least(&self) -> WanNow {
        let rates = self.windows.iter().filter_map(|window| match window.cap {
            WindowCap::Rate(rate) => Some(rate),
            WindowCap::Closed | WindowCap::Uncapped => None,
        });
        WanNow {
            bytes_per_sec: rates.chain(self.usual).min(),
            is_closed: self.windows.iter().any(|window| window.cap == WindowCap::Closed),
            until: None,
        }
    }

    /// The first window that is open.
    fn open_at(&self, zone: &TimeZone, instant: Instant) -> Option<WindowCap> {
        let wall = zone.to_datetime(instant);
        self.windows.iter().find(|window| is_open(window, wall)).map(|window| window.cap)
    }

    /// Every moment of the days to come at which a window may open or close: where the wall clock shows its beginning or
    /// end (twice when the hour comes twice), and where the clock itself is changed.
    fn borders(&self, zone: &TimeZone, now: Instant) -> Vec<Instant> {
        let today = zone.to_datetime(now).date();
        let horizon = now.saturating_add(Span::new().hours(24 * DAYS_AHEAD)).unwrap_or(Instant::MAX);
        let mut borders: Vec<Instant> =
            zone.following(now).map(|change| change.timestamp()).take_while(|at| *at <= horizon).collect();
        for ahead in 0..=DAYS_AHEAD {
            let Ok(date) = today.checked_add(Span::new().days(ahead)) else { continue };
            for minutes in self.windows.iter().flat_map(|window| [window.from.minutes(), window.to.minutes()]) {
                borders.extend(shown_at(zone, date, minutes));
            }
        }
        borders
    }
}

/// When the clock shows that many minutes after midnight of `date`: never, once, or twice.
fn shown_at(zone: &TimeZone, date: Date, minutes: u16) -> impl Iterator<Item = Instant> {
    let wall = DateTime::from_parts(date, jiff::civil::Time::midnight())
        .checked_add(Span::new().minutes(i64::from(minutes)))
        .ok();
    let offsets = wall.map(|wall| match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => (wall, [Some(offset), None]),
        AmbiguousOffset::Gap { .. } => (wall, [None, None]),
        AmbiguousOffset::Fold { before, after } => (wall, [Some(before), Some(after)]),
    });
    offsets.into_iter().flat_map(|(wall, offsets)| {
        offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(wall).ok())
    })
}

fn is_open(window: &ScheduleWindow, wall: DateTime) -> bool {
    let minutes = wall.hour() as u16 * 60 + wall.minute() as u16;
    let today = wall.weekday().to_monday_zero_offset() as u8;
    let yesterday = (today + 6) % 7;
    let (from, to) = (window.from.minutes(), window.to.minutes());
    if from < to {
        return window.days.contains(today) && (from..to).contains(&minutes);
    }
    (window.days.contains(today) && minutes >= from) || (window.days.contains(yesterday) && minutes < to)
}

fn to_instant(at: Timestamp) -> Instant {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    Instant::from_millisecond(millis).unwrap_or(Instant::MAX)
}

fn from_instant(at: Instant) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}
