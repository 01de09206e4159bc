//! Schedules against another implementation of time zones, over ten years in forty zones.

use chrono::{Datelike, TimeZone, Timelike};
use chrono_tz::Tz;
use sluice_model::{ByteRate, ScheduleWindow, SiteSchedule, Timestamp, WindowCap};
use sluice_pacing::{WanCalendar, check_zone};

/// With daylight saving on both halves of the world, half and quarter hours, changes of half an hour, changes at
/// midnight, offsets beyond a day, and zones whose rules changed in these years.
const ZONES: [&str; 40] = [
    "UTC",
    "Europe/Paris",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Athens",
    "Europe/Istanbul",
    "Europe/Moscow",
    "Europe/Chisinau",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Africa/Johannesburg",
    "Africa/Juba",
    "Asia/Tehran",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Asia/Beirut",
    "Asia/Jerusalem",
    "Asia/Amman",
    "Asia/Tokyo",
    "Asia/Shanghai",
    "Asia/Almaty",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Australia/Eucla",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Apia",
    "Pacific/Pago_Pago",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Havana",
    "America/Asuncion",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/Nuuk",
];

/// 2016-01-01 and ten years on: the past, on which every edition of the zone database agrees.
const BEGIN_MS: u64 = 1_451_606_400_000;
const END_MS: u64 = BEGIN_MS + 3_653 * DAY_MS;
const DAY_MS: u64 = 86_400_000;
const STEP_MS: u64 = 30 * 60_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The first window that the wall clock is in, found with chrono.
fn expected(zone: Tz, windows: &[ScheduleWindow], at_ms: u64) -> Option<WindowCap> {
    let wall = zone.timestamp_millis_opt(at_ms as i64).unwrap();
    let minutes = wall.hour() * 60 + wall.minute();
    let today = wall.weekday().num_days_from_monday();
    let is_open = |window: &&ScheduleWindow| {
        let (from, to) = (u32::from(window.from.minutes()), u32::from(window.to.minutes()));
        // Every minute of the window, as pairs of day and minute.
        let length = if from < to { to - from } else { to + 1_440 - from };
        (0..7u8).filter(|day| window.days.contains(*day)).any(|day| {
            let now = (today + 7 - u32::from(day)) % 7 * 1_440 + minutes;
            (from..from + length).contains(&now)
        })
    };
    windows.iter().find(is_open).map(|window| window.cap)
}

fn windows(dice: &mut Dice) -> Vec<ScheduleWindow> {
    let rates = ["closed", "uncapped", "5mbit", "80kbit"];
    // Around the hours at which clocks are changed as often as elsewhere.
    let time = |dice: &mut Dice| match dice.below(2) {
        0 => dice.below(10) * 30,
        _ => dice.below(288) * 5,
    };
    let mut windows: Vec<ScheduleWindow> = Vec::new();
    while windows.len() < 3 {
        let (from, to) = (time(dice), time(dice));
        let day = ["daily", "mon-fri", "sat,sun", "sun", "fri-mon"][dice.below(5) as usize];
        let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let text = format!("{day} {}-{} {}", clock(from), clock(to), rates[dice.below(4) as usize]);
        windows.extend(text.parse::<ScheduleWindow>());
    }
    windows
}

#[test]
fn no_window_opens_or_closes_at_a_wrong_moment_in_ten_years_and_forty_zones() {
    let usual = ByteRate::bytes_per_sec(1_000_003);
    let meaning = |cap: Option<WindowCap>| match cap {
        None => (usual, false),
        Some(WindowCap::Closed) => (usual, true),
        Some(WindowCap::Rate(rate)) => (Some(rate), false),
        Some(WindowCap::Uncapped) => (None, false),
    };
    let (mut changes, mut looks) = (0u64, 0u64);
    for (number, name) in ZONES.iter().enumerate() {
        let mut dice = Dice(0x5eed + number as u64);
        let zone: Tz = name.parse().unwrap();
        let schedule = SiteSchedule { zone: name.parse().unwrap(), windows: windows(&mut dice) };
        let context = |at: u64| {
            let lines: Vec<String> = schedule.windows.iter().map(ToString::to_string).collect();
            format!("{name} at {} ({:?})", Timestamp::from_millis(at), lines)
        };
        let calendar = WanCalendar::new(usual, Some(&schedule));
        let mut at = BEGIN_MS + dice.below(DAY_MS);
        while at < END_MS {
            let now = calendar.at(Timestamp::from_millis(at));
            let until = now.until.expect("a schedule ends some time").as_millis();
            assert!(until > at, "{}", context(at));
            let mut moment = at;
            while moment < until {
                let holds = meaning(expected(zone, &schedule.windows, moment));
                assert_eq!((now.bytes_per_sec, now.is_closed), holds, "{} since {at}", context(moment));
                moment += STEP_MS;
                looks += 1;
            }
            let last = meaning(expected(zone, &schedule.windows, until - 1));
            assert_eq!((now.bytes_per_sec, now.is_closed), last, "just before {}", context(until));
            changes += 1;
            at = until;
        }
    }
    println!("{changes} changes and {looks} looks agree in {} zones", ZONES.len());
    assert!(changes > 100_000, "{changes}");
}

#[test]
fn an_hour_that_is_skipped_does_not_happen_and_one_that_comes_twice_counts_twice() {
    let schedule =
        |window: &str| SiteSchedule { zone: "Europe/Paris".parse().unwrap(), windows: vec![window.parse().unwrap()] };
    let at = |text: &str| Timestamp::from_seconds_text(text).unwrap();
    // 2026-03-29, 02:00 becomes 03:00 (01:00 UTC).
    let spring = WanCalendar::new(None, Some(&schedule("daily 02:00-03:00 closed")));
    assert_eq!(spring.at(at("2026-03-28T12:00:00Z")).until, Some(at("2026-03-30T00:00:00Z")));
    let late = WanCalendar::new(None, Some(&schedule("daily 02:30-04:00 closed")));
    assert_eq!(late.at(at("2026-03-28T12:00:00Z")).until, Some(at("2026-03-29T01:00:00Z")));
    // 2026-10-25, 03:00 becomes 02:00 (01:00 UTC).
    let autumn = WanCalendar::new(None, Some(&schedule("daily 02:00-03:00 closed")));
    assert_eq!(autumn.at(at("2026-10-24T12:00:00Z")).until, Some(at("2026-10-25T00:00:00Z")));
    let open = autumn.at(at("2026-10-25T00:00:00Z"));
    assert!(open.is_closed);
    assert_eq!(open.until, Some(at("2026-10-25T02:00:00Z")));
}

#[test]
fn a_zone_that_is_not_known_restricts() {
    let windows = ["mon 08:00-09:00 5mbit", "tue 08:00-09:00 uncapped", "wed 08:00-09:00 closed"];
    let schedule = |count: usize| SiteSchedule {
        zone: "Mars/Olympus".parse().unwrap(),
        windows: windows[..count].iter().map(|window| window.parse().unwrap()).collect(),
    };
    assert!(check_zone(&"Mars/Olympus".parse().unwrap()).is_err());
    let now = WanCalendar::new(ByteRate::bytes_per_sec(1 << 30), Some(&schedule(2))).at(Timestamp::default());
    assert_eq!((now.bytes_per_sec, now.is_closed), (Some("5mbit".parse().unwrap()), false));
    let now = WanCalendar::new(ByteRate::bytes_per_sec(9), Some(&schedule(3))).at(Timestamp::default());
    assert_eq!((now.bytes_per_sec, now.is_closed), (ByteRate::bytes_per_sec(9), true));
}

#[test]
fn without_windows_the_usual_cap_holds_for_ever() {
    let usual = ByteRate::bytes_per_sec(7);
    let now = WanCalendar::new(usual, None).at(Timestamp::default());
    assert_eq!((now.bytes_per_sec, now.is_closed, now.until), (usual, false, None));
}
