//! `site add`, `site list`, `site limits`, `site schedule`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use clap::Subcommand;
use sluice_api::admin::{NewSite, NewSiteLimits, Schedule, Site, Sites};
use sluice_api_client::AdminClient;
use sluice_model::{ByteRate, Network, RingName, ScheduleWindow, SiteName, Timestamp, ZoneName};
use std::str::FromStr;

/// Sites, their networks and caps.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a site.
    #[command(
        after_help = "Example:\n  sluice site add lyon --boundary 10.1.0.0/16 --boundary 2001:db8:1::/48 --wan-cap 20mbit"
    )]
    Add {
        /// Name of the site.
        name: SiteName,
        /// A network of the site in CIDR notation; may be repeated.
        #[arg(long = "boundary", value_name = "CIDR", required = true)]
        boundaries: Vec<Network>,
        #[command(flatten)]
        caps: Caps,
    },
    /// List sites with what their links carried.
    #[command(after_help = "Example:\n  sluice site list")]
    List,
    /// Change the caps of a site; what is not named stays.
    #[command(after_help = "\
Plain clients get the repository's default ring unless --plain-ring is given here each time.

Examples:
  sluice site limits lyon --wan-cap 50mbit
  sluice site limits lyon --wan-cap none --serve-cap 1gbit")]
    Limits {
        /// Name of the site.
        name: SiteName,
        #[command(flatten)]
        caps: Caps,
    },
    /// Say when a site's WAN link may be used otherwise than its cap says; replaces the schedule.
    #[command(after_help = "\
A window is days, times and a cap; the first one that is open counts, and the site's cap when none is. Days: mon to sun,
stretches, lists, or daily. A window may go on over midnight. Caps: a rate, uncapped, or closed (no content crosses the
link; retractions, metadata and reports still do). Times are those of the site's wall clock: an hour that it skips does not
happen, an hour that it shows twice counts twice.

Examples:
  sluice site schedule lyon --zone Europe/Paris --window 'mon-fri 08:00-18:00 5mbit' --window 'daily 22:00-05:00 uncapped'
  sluice site schedule lyon --none")]
    Schedule {
        /// Name of the site.
        name: SiteName,
        /// IANA time zone of the site.
        #[arg(long, required_unless_present = "none")]
        zone: Option<ZoneName>,
        /// A window; may be repeated, the first one that is open counts.
        #[arg(long = "window", value_name = "WINDOW", required_unless_present = "none")]
        windows: Vec<ScheduleWindow>,
        /// Remove the schedule: the cap holds at all times.
        #[arg(long, conflicts_with_all = ["zone", "windows"])]
        none: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Caps {
    /// What all nodes of the site together may move over its WAN link, for instance 20mbit or 2.5MB/s, or none.
    #[arg(long, value_name = "RATE")]
    wan_cap: Option<Cap>,
    /// What each node may serve to endpoints and peers, or none.
    #[arg(long, value_name = "RATE")]
    serve_cap: Option<Cap>,
    /// A ring that clients without an agent get at this site; may be repeated [default: the last ring].
    #[arg(long = "plain-ring", value_name = "RING")]
    plain_rings: Vec<RingName>,
}

/// A rate, or `none`.
#[derive(Clone, Copy, Debug)]
struct Cap(Option<ByteRate>);

impl FromStr for Cap {
    type Err = sluice_model::ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|rate| Self(Some(rate))) }
    }
}

impl Caps {
    /// These over what is in force.
    fn over(self, wan: Option<ByteRate>, serve: Option<ByteRate>) -> NewSiteLimits {
        NewSiteLimits {
            wan_bytes_per_sec: self.wan_cap.map_or(wan, |cap| cap.0),
            serve_bytes_per_sec: self.serve_cap.map_or(serve, |cap| cap.0),
            plain_rings: Some(self.plain_rings).filter(|rings| !rings.is_empty()),
        }
    }
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Add { name, boundaries, caps } => {
                let site = NewSite { name, boundaries, limits: caps.over(None, None) };
                output.report(&client.add_site(&site).await?)
            }
            Command::List => output.report(&client.sites().await?),
            Command::Limits { name, caps } => {
                let sites = client.sites().await?.sites;
                let present = sites.iter().find(|site| site.name == name).ok_or_else(|| {
                    Failure::Usage(format!("there is no site {name}; `sluice site list` shows what there is"))
                })?;
                let limits = caps.over(present.wan_bytes_per_sec, present.serve_bytes_per_sec);
                output.report(&client.set_site_limits(&name, &limits).await?)
            }
            Command::Schedule { name, zone, windows, none: _ } => {
                let zone = zone.unwrap_or_else(|| "UTC".parse().expect("a zone name"));
                output.report(&client.set_site_schedule(&name, &Schedule { zone, windows }).await?)
            }
        }
    }
}

impl Report for Sites {
    fn text(&self, _now: Timestamp) -> String {
        rows(&self.sites)
    }
}

impl Report for Site {
    fn text(&self, _now: Timestamp) -> String {
        rows(std::slice::from_ref(self))
    }
}

fn rows(sites: &[Site]) -> String {
    let heading = [
        "SITE",
        "BOUNDARIES",
        "WAN CAP",
        "NOW",
        "SERVE CAP",
        "NODES",
        "ENDPOINTS",
        "FROM ORIGIN",
        "DISTINCT",
        "RATIO",
        "METADATA",
        "WAN PEAK",
    ];
    let row = |site: &Site| {
        let ratio = match site.distinct_bytes {
            0 => "-".to_owned(),
            distinct => format!("{:.2}", site.origin_bytes as f64 / distinct as f64),
        };
        vec![
            site.name.to_string(),
            units::list(&site.boundaries),
            units::or_dash(site.wan_bytes_per_sec),
            units::or_dash(site.wan_now),
            units::or_dash(site.serve_bytes_per_sec),
            site.nodes.to_string(),
            site.endpoints.to_string(),
            units::bytes(site.origin_bytes),
            units::bytes(site.distinct_bytes),
            ratio,
            units::bytes(site.metadata_bytes),
            format!("{}/s", units::bytes(site.wan_peak_bytes_per_sec)),
        ]
    };
    table(&heading, sites.iter().map(row), "no sites; add one with `sluice site add NAME --boundary CIDR`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_site_shows_its_caps_and_what_one_copy_would_have_cost() {
        let site = Site {
            name: "lyon".parse().unwrap(),
            boundaries: vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/48".parse().unwrap()],
            wan_bytes_per_sec: Some("20mbit".parse().unwrap()),
            serve_bytes_per_sec: None,
            schedule: None,
            wan_now: Some("closed".parse().unwrap()),
            nodes: 2,
            endpoints: 3,
            origin_bytes: 35_000_000,
            distinct_bytes: 34_000_000,
            metadata_bytes: 41_000,
            wan_peak_bytes_per_sec: 2_490_000,
        };
        expect![[r#"
            SITE  BOUNDARIES                 WAN CAP  NOW     SERVE CAP  NODES  ENDPOINTS  FROM ORIGIN  DISTINCT  RATIO  METADATA  WAN PEAK
            lyon  10.1.0.0/16,2001:db8::/48  20mbit   closed  -          2      3          35.0 MB      34.0 MB   1.03   41.0 kB   2.5 MB/s
        "#]]
        .assert_eq(&site.text(Timestamp::default()));
    }

    #[test]
    fn a_cap_that_is_not_named_stays_and_none_removes_it() {
        let caps = Caps { wan_cap: Some("none".parse().unwrap()), serve_cap: None, plain_rings: vec![] };
        let limits = caps.over(ByteRate::bytes_per_sec(1), ByteRate::bytes_per_sec(2));
        assert_eq!((limits.wan_bytes_per_sec, limits.serve_bytes_per_sec), (None, ByteRate::bytes_per_sec(2)));
        assert!("fast".parse::<Cap>().is_err());
    }
}
